"""Files that are written whole or not at all, whatever was left by a run that was killed."""

import errno
import os
from pathlib import Path

import pytest

from mailstack.keys.files import write_new


@pytest.mark.parametrize("mode", [0o600, 0o644])
@pytest.mark.parametrize("umask", [0o022, 0o077, 0])
def test_what_a_killed_run_left(tmp_path: Path, mode: int, umask: int) -> None:
    """A temporary file of an earlier run with the same process id is in nobody's way; the mode is what was asked for."""
    for left in (f".key.{os.getpid()}", ".mailstack-left"):
        (tmp_path / left).write_text("half")
    before = os.umask(umask)
    try:
        write_new(tmp_path / "key", b"whole", mode)
    finally:
        os.umask(before)
    assert (tmp_path / "key").read_bytes() == b"whole"
    assert (tmp_path / "key").stat().st_mode & 0o777 == mode
    assert (tmp_path / "key").stat().st_nlink == 1
    assert {one.name for one in tmp_path.iterdir()} == {"key", f".key.{os.getpid()}", ".mailstack-left"}


@pytest.mark.parametrize("there", ["file", "directory", "dangling link"])
def test_what_is_there_stays(tmp_path: Path, there: str) -> None:
    """Whatever has the name already is named in the error, and nothing is left beside it."""
    path = tmp_path / "key"
    if there == "file":
        path.write_text("mine")
    elif there == "directory":
        path.mkdir()
    else:
        path.symlink_to("nowhere")
    with pytest.raises(FileExistsError) as caught:
        write_new(path, b"whole", 0o600)
    assert caught.value.filename == str(path)
    assert [one.name for one in tmp_path.iterdir()] == ["key"]


@pytest.mark.parametrize("call", ["fsync", "link", "fchmod"])
def test_what_fails_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """The error names the file that was to be written, and nothing is left."""

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="No space left") as caught:
        write_new(tmp_path / "key", b"whole", 0o600)
    assert caught.value.filename == str(tmp_path / "key")
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    """The error names the file, not the temporary one."""
    with pytest.raises(FileNotFoundError) as caught:
        write_new(tmp_path / "gone/key", b"whole", 0o600)
    assert caught.value.filename == str(tmp_path / "gone/key")
