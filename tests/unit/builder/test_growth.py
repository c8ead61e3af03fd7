"""Checks of long lists take no more time for each entry than those of short ones, and find the same."""

import itertools
import time
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailstack.settings import checks
from unit.sites import faults, settings

MANY = 6000


def chain(last: str) -> str:
    """Aliases each of which leads to the next one."""
    addresses = [*(f"a{at}@example.com" for at in range(MANY)), last]
    return " ".join(f"{one}={other}" for one, other in itertools.pairwise(addresses))


def networks(start: str) -> str:
    return " ".join(f"{start}.{at // 250}.{at % 250}" for at in range(MANY))


LISTS = {
    "a chain to a mailbox": ({"aliases": chain("user@example.com")}, 0),
    "a chain to nowhere": ({"aliases": chain("x@example.com")}, MANY),
    "a circle": ({"aliases": chain("a0@example.com")}, 1),
    "a way into a circle": ({"aliases": chain(f"a{MANY // 2}@example.com")}, 1),
    "networks": ({"spf_skip_networks": networks("198.51"), "dmarc_skip_networks": networks("203.1")}, 0),
    "domains": (
        {
            "domains": "example.com " + " ".join(f"d{at}.example" for at in range(MANY)),
            "dmarc_report_addresses": " ".join(f"x@d{at}.example" for at in range(MANY)),
            "spf_record": "v=spf1 " + "ip4:192.0.2.1 " * 3000 + "-all",
        },
        0,
    ),
    "mailboxes of a domain that may be meant": (
        {
            "domains": "example..com " + " ".join(f"bad{at}_.example" for at in range(90)),
            "mailboxes": " ".join(f"user{at}@example.com" for at in range(MANY)),
        },
        91,
    ),
}


@pytest.mark.parametrize("kind", LISTS)
def test_long_lists(kind: str) -> None:
    """Thousands of entries are judged within seconds; pair by pair they would take minutes."""
    changes, number = LISTS[kind]
    began = time.process_time()
    found = faults(**changes)
    if not found:
        checks.warnings(settings(**changes))
    assert time.process_time() - began < 10
    assert len(found) == number


def slowly(address: str, targets: Mapping[str, str]) -> list[str]:
    """Where an alias leads, step by step, until a step is one of before."""
    way = [address]
    while way[-1] not in way[:-1]:
        local, _, domain = way[-1].partition("@")
        following = targets.get(way[-1]) or targets.get(f"{local.partition('+')[0]}@{domain}")
        if following is None:
            break
        way.append(following)
    return way


ADDRESSES = st.sampled_from([f"{one}@example.com" for one in ("a", "b", "c", "d", "e", "a+x", "b+x", "user", "user+x")])


@given(st.dictionaries(ADDRESSES.filter(lambda one: not one.startswith("user")), ADDRESSES))
def test_ends_of_aliases(targets: dict[str, str]) -> None:
    """Each circle is told once, and each alias that leads to no mailbox; which these are, walking step by step says."""
    found = faults(aliases=" ".join(f"{one}={other}" for one, other in targets.items()))
    circles, nowhere = set(), set()
    for one, other in targets.items():
        way = slowly(one, targets)
        if way[-1] in way[:-1]:
            circles.add(frozenset(way[way.index(way[-1]) :]))
        elif not way[-1].startswith("user"):
            nowhere.add(f"{one}={other}")
    assert sum("alias loop" in fault.remedy for fault in found) == len(circles)
    assert {fault.token for fault in found if "alias loop" not in fault.remedy} == nowhere


NETWORKS = st.lists(
    st.sampled_from(["192.0.2.0/24", "192.0.2.0/25", "192.0.2.7", "198.51.100.0/24", "2001:db8::/32", "2001:db8::7"]),
    unique=True,
)


@given(NETWORKS, NETWORKS)
def test_networks_outside_others(some: list[str], others: list[str]) -> None:
    """Those that lie in none of the others are warned about, as asking for each pair finds them."""
    chosen = settings(spf_skip_networks=",".join(some), dmarc_skip_networks=",".join(others))
    inside = [
        one
        for one in chosen.spf_skip_networks
        if any(one.version == other.version and one.subnet_of(other) for other in chosen.dmarc_skip_networks)  # type: ignore[arg-type]
    ]
    found = [text for text in checks.warnings(chosen) if "SPF_SKIP_NETWORKS: SPF does not check" in text]
    assert len(found) == len(chosen.spf_skip_networks) - len(inside)
    assert not [one for one in inside if any(f" {one} forwards" in text for text in found)]
