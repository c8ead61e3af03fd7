"""What docker compose is asked, without an engine: a docker command stands in that says what the test wants."""

from pathlib import Path

import pytest

from mailstack.engine import checker
from mailstack.errors import EngineError


def test_no_compose_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A docker without compose is a fault of the host, not of the site's files."""
    docker = tmp_path / "docker"
    docker.write_text("#!/bin/sh\necho \"docker: 'compose' is not a docker command\" >&2\nexit 1\n")
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    (tmp_path / "compose.override.yaml").write_text("services: {}\n")
    with pytest.raises(EngineError, match="install its plugin"):
        checker.check_compose(tmp_path, b"")


@pytest.mark.parametrize("name", ["compose.override.yml", "docker-compose.override.yaml"])
def test_names_of_the_override(tmp_path: Path, name: str) -> None:
    """Every name counts that docker compose looks for."""
    assert checker.override(tmp_path) is None
    (tmp_path / name).write_text("")
    assert checker.override(tmp_path) == tmp_path / name
