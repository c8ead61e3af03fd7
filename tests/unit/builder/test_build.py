"""What a build keeps, before an engine has any part in it."""

import errno
from pathlib import Path

import pytest
from click.testing import CliRunner

from mailstack.cli.app import main
from mailstack.engine.images import split
from mailstack.errors import os_reason
from mailstack.keys import dkim, srs_key
from mailstack.render.compose import COMPOSE, site
from mailstack.tasks import build, written
from unit.sites import stack


def test_each_edited_compose_file_is_kept(tmp_path: Path) -> None:
    """An edited compose.yaml gets a name that is free; the file itself stays until it is replaced."""
    file = tmp_path / "compose.yaml"
    for text, name in (("one", ".edited"), ("two", ".edited.2"), ("three", ".edited.3")):
        file.unlink(missing_ok=True)
        file.write_text(text)
        for _ in range(2):  # the second time as after a build that ended before it wrote
            (said,) = written.keep_edited(tmp_path)
            assert f"your version is saved as compose.yaml{name}." in said
        assert file.read_text() == text
    kept = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert kept == {
        "compose.yaml": "three",
        "compose.yaml.edited": "one",
        "compose.yaml.edited.2": "two",
        "compose.yaml.edited.3": "three",
    }


@pytest.mark.parametrize(
    ("image", "parts"),
    [
        ("debian", ("debian", None)),
        ("debian:13", ("debian", "13")),
        ("a.example:5000/debian", ("a.example:5000/debian", None)),
        ("a.example:5000/debian:13", ("a.example:5000/debian", "13")),
        ("debian@sha256:00", ("debian", "sha256:00")),
        ("a.example:5000/debian:13@sha256:00", ("a.example:5000/debian", "sha256:00")),
    ],
)
def test_names_of_images(image: str, parts: tuple[str, str | None]) -> None:
    """An image is pulled by what its name ends with, be it a tag or a digest."""
    assert split(image) == parts


def test_a_file_system_without_links() -> None:
    """Where there are no hard links the message says what would help; other reasons stay as they are."""
    error = OSError(errno.EPERM, "Operation not permitted", "a", None, "b")
    assert os_reason(error) == (
        "Operation not permitted; the file system has no hard links: use a file system that has them, such as ext4"
    )
    assert os_reason(OSError(errno.EPERM, "Operation not permitted", "a")) == "Operation not permitted"


@pytest.mark.parametrize("edited", [True, False])
@pytest.mark.parametrize("hostname", ["mail.example.com", "mx.example.com"])
def test_what_a_rollback_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hostname: str, *, edited: bool) -> None:
    """That an edited compose.yaml is kept, and that what runs under another name goes on, as a build says it."""
    written.write(tmp_path, site(stack(port_smtp="2526")), [])
    written.write(tmp_path, site(stack(hostname=hostname)), [])
    key = tmp_path / dkim.path("example.com", "default")
    key.parent.mkdir(parents=True)
    key.touch()
    if edited:
        with (tmp_path / COMPOSE).open("a") as stream:
            stream.write("# mine\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(build.connection, "connect", lambda: None)
    monkeypatch.setattr(build.images, "exists", lambda *_: True)
    done = CliRunner().invoke(main, ["build", "--rollback"])
    assert done.exit_code == 0
    assert ("compose.yaml had been edited; your version is saved as compose.yaml.edited" in done.stderr) == edited
    other = "warning: the host name has changed, and with it the compose project: the old project mx-example-com may still run"
    assert (other in done.stderr) == (hostname == "mx.example.com")
    assert "compose.yaml restored from the previous build" in done.stderr
    assert written.read(tmp_path).project == "mail-example-com"


def test_no_way_back_to_a_key_that_is_destroyed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A build of before a rotation cannot run once its key is retired; it is said before anything changes."""
    written.write(tmp_path, site(stack(port_smtp="2526")), [])
    written.write(tmp_path, site(stack()), [])
    before = (tmp_path / COMPOSE).read_bytes()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(build.connection, "connect", lambda: None)
    monkeypatch.setattr(build.images, "exists", lambda *_: True)
    done = CliRunner().invoke(main, ["build", "--rollback"])
    assert done.exit_code == 1
    assert "default._domainkey.example.com.pem: is not there any more, so the earlier build cannot run" in done.stderr
    assert (tmp_path / COMPOSE).read_bytes() == before


@pytest.mark.parametrize(
    ("gone", "said"),
    [
        ((), []),
        (
            ("postsrsd",),
            ["postsrsd is not needed any more; run: docker compose up -d --wait --remove-orphans"],
        ),
    ],
)
def test_a_service_that_is_not_needed_any_more(gone: tuple[str, ...], said: list[str]) -> None:
    """The build says how its container goes, which compose leaves as it is."""
    assert build._left_over(gone) == said


def test_a_key_of_srs_that_is_lost(tmp_path: Path) -> None:
    """The build says what a new one means, where there was one."""
    assert build._lost_key(tmp_path, ("postfix",)) == []
    said = "secrets/srs-key was missing, so a new key was made: bounces of mail forwarded before this are rejected"
    assert build._lost_key(tmp_path, ("postfix", "postsrsd")) == [said]
    srs_key.make(tmp_path)
    assert build._lost_key(tmp_path, ("postfix", "postsrsd")) == []
