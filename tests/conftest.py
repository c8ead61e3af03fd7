"""Tests that need a container engine skip by name without one; in CI that is a failure."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from testcontainers.core.config import testcontainers_config

from certificates import Authority
from mailstack import compose
from mailstack.engine import connection
from mailstack.errors import EngineError

# Fixtures remove what they start; the reaper's image would have to come from a registry.
testcontainers_config.ryuk_disabled = True


@pytest.fixture(scope="session")
def authority() -> Authority:
    """Who issues the certificates of the tests."""
    return Authority()


@pytest.fixture(scope="session")
def compose_plugin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The "docker compose" of the documents, where tools/set-up put compose into this environment for want of it."""
    with pytest.MonkeyPatch.context() as patch:
        if compose.command() != ("docker", "compose"):
            users = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
            directory = tmp_path_factory.mktemp("docker")
            for name in ("config.json", "contexts"):
                if (users / name).exists():
                    (directory / name).symlink_to(users / name)
            (directory / "cli-plugins").mkdir()
            (directory / "cli-plugins/docker-compose").symlink_to(*compose.command())
            patch.setenv("DOCKER_CONFIG", str(directory))
        yield


@pytest.fixture(scope="session")
def engine(compose_plugin: None) -> None:
    """A container engine that answers."""
    try:
        connection.connect()
    except EngineError as error:
        if os.environ.get("CI"):
            pytest.fail(f"CI needs a container engine: {error}")
        pytest.skip(f"no container engine: {error}")


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """In CI nothing may be skipped: a test that did not run shows nothing."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
