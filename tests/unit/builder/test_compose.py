"""Which compose is run, and how a text for a person names compose and mailstack itself."""

import sys
from pathlib import Path

import pytest

from mailstack import compose
from mailstack.cli.app import main

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


def test_own_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the name finds this program, it is named by it; else by the path that it was called by."""
    said = "run: mailstack build, see 'mailstack dns records'; mailstack is mailstack, and .venv/bin/mailstack build"
    with_path = "run: {0} build, see '{0} dns records'; mailstack is mailstack, and .venv/bin/mailstack build"
    program, other = tmp_path / ".venv/bin/mailstack", tmp_path / "bin/mailstack"
    for one in (program, other):
        one.parent.mkdir(parents=True)
        one.touch(mode=0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(other.parent))
    monkeypatch.setattr(sys, "argv", [".venv/bin/mailstack", "build"])
    assert compose.spoken(said) == with_path.format(".venv/bin/mailstack")
    monkeypatch.setattr(sys, "argv", ["my site/bin/mailstack", "build"])
    assert compose.spoken(said) == with_path.format("'my site/bin/mailstack'")
    monkeypatch.setenv("PATH", f"{program.parent}:{other.parent}")
    for called in (str(program), ".venv/bin/mailstack"):
        monkeypatch.setattr(sys, "argv", [called, "build"])
        assert compose.spoken(said) == said
    monkeypatch.setattr(sys, "argv", ["/usr/lib/mailstack/__main__.py", "build"])
    assert compose.spoken(said) == said


def test_every_verb_is_known() -> None:
    """A text may name every command of mailstack."""
    assert sorted(compose.VERBS) == sorted(main.commands)
