"""Which compose is run, and what is said of it to a person."""

import sys
from pathlib import Path

import pytest

from mailstack import compose

NEXT = "Next: docker compose up -d --wait"


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A virtual environment with compose in it, as sys.prefix says it."""
    program = tmp_path / "my site/.venv/bin/docker-compose"
    program.parent.mkdir(parents=True)
    program.touch()
    monkeypatch.setattr(sys, "prefix", str(program.parents[1]))
    monkeypatch.setattr(sys, "base_prefix", "/usr")
    return program


def test_plugin(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the plugin where the environment has none, and outside of one, where the program may be Compose 1."""
    monkeypatch.setattr(sys, "base_prefix", sys.prefix)
    assert (compose.command(), compose.spoken(NEXT)) == (("docker", "compose"), NEXT)
    monkeypatch.setattr(sys, "base_prefix", "/usr")
    environment.unlink()
    assert (compose.command(), compose.spoken(NEXT)) == (("docker", "compose"), NEXT)


def test_own(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment's is run by its path; what is said can be pasted, in the directory and elsewhere."""
    assert compose.command() == (str(environment),)
    monkeypatch.chdir(environment.parents[2])
    assert compose.spoken(NEXT) == "Next: .venv/bin/docker-compose up -d --wait"
    monkeypatch.chdir("/etc")
    assert compose.spoken(NEXT) == f"Next: '{environment}' up -d --wait"
    assert compose.spoken("settings are valid") == "settings are valid"
