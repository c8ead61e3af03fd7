"""pytest tests/golden --update-golden writes the expected files anew; the diff is to be read before it is committed."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write the files below tests/golden anew")


@pytest.fixture
def update(request: pytest.FixtureRequest) -> bool:
    """Whether this run is to write the expected files. The option is known only where tests/golden is named."""
    return bool(request.config.getoption("--update-golden", default=False))
