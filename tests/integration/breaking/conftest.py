"""Long waits of this lane: they begin with it, and its tests go on beside them."""

from collections.abc import Iterator, Mapping
from concurrent.futures import Future

import pytest

from integration.breaking.silence import silence as silence_of_servers
from integration.breaking.slow_clients import slow_clients as holding
from mailstack.world.containers import Machine
from mailstack.world.internet import Internet
from mailstack.world.site import Site

LONG_WAITS = ("silence", "slow_clients")


@pytest.fixture(scope="session", autouse=True)
def _long_waits(request: pytest.FixtureRequest) -> None:
    """Those that a test of this run wants begin before its first test."""
    wanted = {name for item in request.session.items for name in getattr(item, "fixturenames", ())}
    for name in LONG_WAITS:
        if name in wanted:
            request.getfixturevalue(name)


@pytest.fixture(scope="session")
def silence(world: Internet) -> Iterator[Future[set[str]]]:
    with silence_of_servers(world) as answers:
        yield answers


@pytest.fixture(scope="session")
def slow_clients(outsider: Machine, bravo: Site) -> Iterator[Mapping[str, Future[tuple[float, bytes]]]]:
    with holding(outsider, bravo) as sessions:
        yield sessions
