"""Tests that need a container engine skip by name without one; in CI that is a failure."""

import os

import pytest
from testcontainers.core.config import testcontainers_config

from mailstack.engine import connection
from mailstack.errors import EngineError

# Fixtures remove what they start; the reaper's image would have to come from a registry.
testcontainers_config.ryuk_disabled = True


@pytest.fixture(scope="session")
def engine() -> None:
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
