"""A site's own additions: what a daemon does not take is found at build, what it takes is in force."""

import shutil
import sys
from pathlib import Path

import pytest

from integration.conftest import CHECKOUT, run_in


@pytest.fixture
def directory(engine: None, tmp_path: Path) -> Path:
    """A site of env.example that was built."""
    shutil.copy(CHECKOUT / "env.example", tmp_path / ".env")
    done = run_in(tmp_path, sys.executable, "-m", "mailstack", "build")
    assert done.returncode == 0, done.stderr
    return tmp_path


def add(directory: Path, name: str, text: str) -> None:
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


BROKEN = [
    ("overrides/postfix/main.cf", "smtpd_helo_requird = yes\n", "unused parameter: smtpd_helo_requird"),
    ("overrides/postfix/main.cf", "smtpd_helo_required\n", "missing '=' after attribute name"),
    ("overrides/postfix/main.cf", "disable_vrfy_command = maybe\n", "disable_vrfy_command"),
    ("overrides/postfix/main.cf", "smtpd_hard_error_limit = many\n", "smtpd_hard_error_limit"),
    ("overrides/postfix/main.cf", "qmgr_message_active_limit = many\n", "qmgr_message_active_limit"),
    ("overrides/postfix/master.cf", "2525 inet n - y\n", "bad field count"),
    ("overrides/opendkim/opendkim.conf", "Selektor default\n", "line"),
    ("overrides/resolver/unbound.conf", "server:\n  num-threds: 2\n", "num-threds"),
    ("compose.override.yaml", "services: {postfix: {memlimit: 64m}}\n", "memlimit"),
    ("compose.override.yaml", "services: [postfix\n", "compose.override.yaml"),
]


@pytest.mark.parametrize(("name", "text", "words"), BROKEN, ids=[f"{name}-{words}" for name, _, words in BROKEN])
def test_broken(directory: Path, name: str, text: str, words: str) -> None:
    """The build ends with 2, names the file, says what the daemon said, and leaves every file as it was."""
    before = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    add(directory, name, text)
    before[directory / name] = text.encode()
    done = run_in(directory, sys.executable, "-m", "mailstack", "build")
    assert done.returncode == 2, done.stderr
    assert name in done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()} == before
    # The remedy: without it the site builds, and nothing has changed.
    (directory / name).unlink()
    done = run_in(directory, sys.executable, "-m", "mailstack", "build")
    assert done.returncode == 0
    assert "0 files written" in done.stderr


def test_taken(directory: Path) -> None:
    """Additions that the daemons take are built, by each daemon's own file."""
    add(directory, "overrides/postfix/main.cf", "maximal_queue_lifetime = 2d\n")
    add(directory, "overrides/postfix/master.cf", "2525 inet n - y - - smtpd\n")
    add(directory, "overrides/opendkim/opendkim.conf", "LogResults yes\n")
    add(directory, "overrides/resolver/unbound.conf", "server:\n  cache-max-ttl: 3600\n")
    add(directory, "compose.override.yaml", "services: {postfix: {mem_limit: 256m}}\n")
    done = run_in(directory, sys.executable, "-m", "mailstack", "build")
    assert done.returncode == 0, done.stderr
    for service in ("postfix", "opendkim", "resolver"):
        assert f"checking the configuration of {service}" in done.stderr
    assert "0 files written" in run_in(directory, sys.executable, "-m", "mailstack", "build").stderr
