"""How the engine asks for a service's health: the command of compose.yaml, with a daemon that is told how it is."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from sites import stack

from mailstack.render import site
from mailstack.stack import SERVICES

Check = Callable[[], tuple[int, list[str]]]

# Runs a command; if it leaves processes behind they come to this one, as in a container (prctl(2),
# PR_SET_CHILD_SUBREAPER), and it says so.
REAPED = """
import ctypes, os, subprocess, sys
assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0
status = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
try:
    os.waitpid(-1, 0)
    print("left behind")
except ChildProcessError:
    sys.exit(status)
"""


@pytest.fixture
def up(tmp_path: Path) -> Path:
    """While this file is there the daemon answers."""
    return tmp_path / "up"


@pytest.fixture
def check(tmp_path: Path, up: Path) -> Check:
    """A check; its exit status, and for how long it slept, each time."""
    slept = tmp_path / "slept"
    programs = {
        "healthcheck": f"test -e {up}",
        "sleep": f'echo "$1" >> {slept}; if test -e {up}.soon; then touch {up}; fi',
    }
    for name, script in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    services = yaml.safe_load(site(stack())["compose.yaml"].content)["services"]
    (kind, command), *others = [services[one]["healthcheck"]["test"] for one in SERVICES]
    assert kind == "CMD-SHELL"
    assert others == [[kind, command]] * len(others)
    changes = (("/dev/shm", tmp_path), ("/usr/local/bin", tmp_path), ("+ 14 ))", "+ 1 ))"), ("$$", "$"))  # noqa: S108
    for before, now in changes:
        assert before in command
        command = command.replace(before, str(now))

    def run() -> tuple[int, list[str]]:
        slept.write_text("")
        path = f"{tmp_path}:{os.environ['PATH']}"
        done = subprocess.run(
            [sys.executable, "-c", REAPED, "sh", "-c", command], env={"PATH": path}, check=False, capture_output=True
        )
        assert done.stdout == b""
        return done.returncode, slept.read_text().split()

    return run


def test_a_service_that_answers_is_asked_rarely(check: Check, up: Path) -> None:
    """The first check asks at once, the others wait."""
    up.touch()
    assert [check() for _ in range(3)] == [(0, []), (0, ["9"]), (0, ["9"])]


def test_a_service_that_starts_is_asked_until_it_answers(check: Check, up: Path) -> None:
    """One that answers a moment later is healthy in the same check."""
    up.with_suffix(".soon").touch()
    assert check() == (0, ["1"])


def test_a_service_that_no_longer_answers(check: Check, up: Path) -> None:
    """It is unhealthy, asked without waiting until it answers, and healthy then."""
    up.touch()
    assert check() == (0, [])
    up.unlink()
    status, slept = check()
    assert status != 0
    assert (slept[0], set(slept[1:])) == ("9", {"1"})
    status, slept = check()
    assert status != 0
    assert set(slept) == {"1"}
    up.touch()
    assert check() == (0, [])


@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_else_has_the_marker_s_name(check: Check, up: Path, tmp_path: Path, kind: str) -> None:
    """It goes, and nothing that it leads to is touched: who may write there is not only the check."""
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").touch()
    marker = tmp_path / "healthy"
    if kind == "link":
        marker.symlink_to(kept)
    else:
        marker.touch()
    up.touch()
    assert check()[0] == 0
    assert marker.is_dir()
    assert not marker.is_symlink()
    assert (kept / "file").exists()
