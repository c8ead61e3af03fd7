"""How the engine asks for a service's health: the command of compose.yaml, with a daemon that is told how it is."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from sites import stack

from mailstack.render.compose import site
from mailstack.services import SERVICE_NAMES

IMAGES, HEALTHCHECK = Path(__file__).parents[3] / "images", "rootfs/usr/local/bin/healthcheck"
# A check's exit status, for how long it slept each time, and what it said.
Check = Callable[[], tuple[int, list[str], str]]
# How often a check asks a service that has answered before.
TIMES = 25

# Runs a command; if it leaves processes behind they come to this one, as in a container (prctl(2),
# PR_SET_CHILD_SUBREAPER), and it says so.
REAPED = """
import ctypes, os, subprocess, sys
assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0
status = subprocess.run(sys.argv[1:], stdout=sys.stderr).returncode
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
    """A check of a daemon that is up, or comes up or goes down while the check sleeps, and says what is in up.remark."""
    slept = tmp_path / "slept"
    programs = {
        "healthcheck": f"if test -e {up}.remark; then cat {up}.remark; fi; test -e {up}",
        "sleep": f'echo "$1" >> {slept}; if test -e {up}.soon; then touch {up}; fi; test ! -e {up}.gone || rm -f {up}',
    }
    for name, script in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    services = yaml.safe_load(site(stack())["compose.yaml"].content)["services"]
    (kind, command), *others = [services[one]["healthcheck"]["test"] for one in SERVICE_NAMES]
    assert kind == "CMD-SHELL"
    assert others == [[kind, command]] * len(others)
    changes = (
        ("/dev/shm", tmp_path),  # noqa: S108
        ("/usr/local/bin", tmp_path),
        ("patience=15", "patience=1"),
        ("patience=8", "patience=1"),
        ("$$", "$"),
    )
    for before, now in changes:
        assert before in command
        command = command.replace(before, str(now))

    def run() -> tuple[int, list[str], str]:
        slept.write_text("")
        path = f"{tmp_path}:{os.environ['PATH']}"
        done = subprocess.run(
            [sys.executable, "-c", REAPED, "sh", "-c", command], env={"PATH": path}, check=False, capture_output=True
        )
        assert done.stdout == b""
        return done.returncode, slept.read_text().split(), done.stderr.decode()

    return run


def test_a_service_that_answers_is_asked_for_minutes(check: Check, up: Path) -> None:
    """The first check asks at once and ends, each of the others goes on asking: the start of a check is what costs."""
    up.touch()
    long = (0, ["12"] * TIMES, "")
    assert [check() for _ in range(3)] == [(0, [], ""), long, long]


def test_a_service_that_starts_is_asked_until_it_answers(check: Check, up: Path) -> None:
    """One that answers a moment later is healthy in the same check."""
    up.with_suffix(".soon").touch()
    assert check() == (0, ["0.5"], "")


def test_a_service_that_no_longer_answers(check: Check, up: Path) -> None:
    """It is unhealthy, asked without waiting until it answers, and healthy then. What it said last stands in the output."""
    up.touch()
    assert check()[0] == 0
    gone, remark = up.with_suffix(".gone"), up.with_suffix(".remark")
    gone.touch()
    remark.write_text("out of order\n")
    status, slept, said = check()
    assert (status != 0, slept[0], set(slept[1:]), said) == (True, "12", {"0.5"}, "out of order\n")
    status, slept, said = check()
    assert (status != 0, set(slept), said) == (True, {"0.5"}, "out of order\n")
    gone.unlink()
    remark.unlink()
    up.touch()
    assert check() == (0, [], "")


def test_a_remark_is_seen_soon(check: Check, up: Path) -> None:
    """What a healthy service says ends the check that would ask for minutes; so does the first look without it."""
    up.touch()
    assert check()[0] == 0
    remark = up.with_suffix(".remark")
    remark.write_text("nobody answers\n")
    assert [check() for _ in range(2)] == [(0, ["12"], "nobody answers\n")] * 2
    remark.unlink()
    assert [check()[:2] for _ in range(2)] == [(0, ["12"]), (0, ["12"] * TIMES)]


def test_a_fault_is_known_within_30_seconds() -> None:
    """The pause, the time that a fault may last, and two tries that wait for an answer; a start may take longer."""
    command = yaml.safe_load(site(stack())["compose.yaml"].content)["x-healthcheck"]["test"][1]
    start, patience, pause = map(
        int, re.search(r"patience=(\d+);.* patience=(\d+);.* sleep (\d+);", command, re.DOTALL).groups()
    )
    waits = [
        int(seconds)
        for one in SERVICE_NAMES
        for seconds in re.findall(r"(?:alarm|read .*-t) (\d+)", (IMAGES / one / HEALTHCHECK).read_text())
    ]
    assert len(waits) >= len(SERVICE_NAMES)
    assert patience < start
    assert max(start, pause + patience) + 2 * max(waits) < 30


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
