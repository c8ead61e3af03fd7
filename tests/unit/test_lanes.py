"""The lanes: where each has its world."""

import ipaddress

import pytest

from tests.lanes import LANES, free

PLACES = ("one 198.51.100.0/25 172.30.240.0/22", "other 198.19.100.0/25 172.29.240.0/22")


@pytest.mark.parametrize(
    ("used", "chosen"),
    [
        ([], 0),
        (["172.17.0.0/16", "198.51.100.128/25"], 0),
        (["198.51.100.0/24"], 1),
        (["172.30.241.8/29"], 1),
        (["172.30.241.8/29", "198.19.0.0/16"], 0),
    ],
)
def test_a_place_that_nobody_has(used: list[str], chosen: int) -> None:
    """What an earlier run left behind, or somebody else has, is in nobody's way."""
    assert free(PLACES, [ipaddress.IPv4Network(one) for one in used]) == PLACES[chosen]


def test_places_are_apart() -> None:
    """No two lanes share a network, wherever each is."""
    networks = [
        ipaddress.IPv4Network(one) for places in LANES.values() for place in places for one in place.split()[1:]
    ]
    assert not [one for at, one in enumerate(networks) if any(map(one.overlaps, networks[:at]))]
