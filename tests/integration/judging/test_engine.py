"""The engine that is asked."""

import os
import subprocess
from pathlib import Path

import pytest

from mailstack.engine import connection


def test_the_engine_is_that_of_docker(engine: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the docker command's own contexts, the builder finds the engine that the docker command finds."""
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    # Another name for the same engine, so that an answer shows which way was taken.
    (tmp_path / "other.sock").symlink_to("/var/run/docker.sock")
    address = f"unix://{tmp_path}/other.sock"
    subprocess.run(["docker", "context", "create", "other", "--docker", f"host={address}"], check=True)
    for way in ("DOCKER_CONTEXT", "currentContext"):
        if way == "DOCKER_CONTEXT":
            monkeypatch.setenv("DOCKER_CONTEXT", "other")
        else:
            monkeypatch.delenv("DOCKER_CONTEXT")
            subprocess.run(["docker", "context", "use", "other"], check=True)
        command = ["docker", "context", "inspect", "--format", "{{.Endpoints.docker.Host}}"]
        shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
        assert shown == address == connection.endpoint(os.environ).address
        assert connection.connect().version()["Version"]
