"""mailstack_auth.runtime.handover: what one process leaves for another is found whole, or not at all."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mailstack_auth
from mailstack_auth.runtime import handover
from mailstack_auth.runtime.handover import Reader, Writer

LONGEST = 1024 - 18


@settings(max_examples=50)
@given(left=st.dictionaries(st.binary(), st.binary(max_size=2000), max_size=20), others=st.sets(st.binary()))
def test_left_and_found(tmp_path_factory, left, others):
    """By its key alone. What does not fit is not found; nor is, at times, what came before something else."""
    path = tmp_path_factory.mktemp("shared") / "file"
    writer, reader = Writer(path), Reader(path)
    for key, value in left.items():
        writer.put(key, value)
        assert reader.get(key) == (value if len(value) <= LONGEST else None)
    for key, value in left.items():
        assert reader.get(key) in (value, None)
    assert all(reader.get(key) is None for key in others - left.keys())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file"


def test_the_later_one_stays(path, monkeypatch):
    """Of keys that come to one place."""
    monkeypatch.setattr(handover, "_place", lambda _: 0)
    writer, reader = Writer(path), Reader(path)
    writer.put(b"first", b"a long value")
    writer.put(b"second", b"short")
    assert (reader.get(b"first"), reader.get(b"second")) == (None, b"short")
    writer.put(b"second", b"x" * (LONGEST + 1))
    assert reader.get(b"second") is None
    writer.put(b"second", b"")
    assert reader.get(b"second") == b""


def test_half_a_value(path):
    """A write that is not over is no value, wherever it stopped."""
    writer, reader = Writer(path), Reader(path)
    empty = path.read_bytes()
    writer.put(b"key", b"a value")
    whole = path.read_bytes()
    changed = [at for at, (one, other) in enumerate(zip(empty, whole, strict=True)) if one != other]
    for cut in range(changed[0], changed[-1] + 1):
        path.write_bytes(whole[:cut] + empty[cut:])
        assert reader.get(b"key") is None
    path.write_bytes(whole)
    assert reader.get(b"key") == b"a value"


def test_a_reader_that_is_first(path):
    """The file may come later; one of another size is not read."""
    reader = Reader(path)
    path.write_bytes(b"short")
    assert reader.get(b"key") is None
    writer = Writer(path)
    assert reader.get(b"key") is None
    writer.put(b"key", b"value")
    assert reader.get(b"key") == b"value"


def test_a_writer_that_starts_again(path):
    """What was left stays, and readers go on."""
    Writer(path).put(b"key", b"value")
    reader = Reader(path)
    assert reader.get(b"key") == b"value"
    Writer(path).put(b"other", b"another")
    assert (reader.get(b"key"), reader.get(b"other")) == (b"value", b"another")


def test_between_processes(path):
    """Its readers may not write."""
    writer = Writer(path)
    assert path.stat().st_mode & 0o777 == 0o640
    writer.put(b"key", b"value")
    code = f"from pathlib import Path; from mailstack_auth.runtime.handover import Reader; r = Reader(Path({str(path)!r})); "
    environment = {"PYTHONPATH": str(Path(mailstack_auth.__file__).parents[1])}

    def other(rest):
        command = [sys.executable, "-c", code + rest]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    assert other("print(r.get(b'key'))").stdout == "b'value'\n"
    assert "TypeError" in other("r.get(b'key'); r._memory[:1] = b'x'").stderr
