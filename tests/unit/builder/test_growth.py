"""Checks of long lists take no more time for each entry than those of short ones, and find the same."""

import itertools
import time
from collections.abc import Collection

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
    "a chain to nowhere": ({"aliases": chain("x@example.com")}, 1),
    "many ways to many targets": (
        {
            "mailboxes": " ".join(f"user{at}@example.com" for at in range(MANY)),
            "aliases": "*@example.com=all@example.com "
            + " ".join(f"all@example.com=user{at}@example.com" for at in range(MANY)),
        },
        0,
    ),
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


Pairs = Collection[tuple[str, str]]
MAILBOX = "user@example.com"


def expanded(address: str, pairs: Pairs) -> set[str]:
    """What Postfix makes of an address, key by key and step by step (virtual(5)); "loop" where there is no end."""
    waiting, once, ends = [address], set[str](), set[str]()
    for _ in range(5000):
        if not waiting:
            return ends
        one = waiting.pop()
        local, _, domain = one.partition("@")
        name, plus, extension = local.partition("+")
        exact = {to for key, to in pairs if key == one}
        # What is left of the address is handed on (postconf(5), propagate_unmatched_extensions).
        left = {to.replace("@", plus + extension + "@") for key, to in pairs if key == f"{name}@{domain}"}
        caught = {to for key, to in pairs if key == f"*@{domain}" and name != "user"}
        found = exact or left or caught
        if one in once or not found:
            ends.add(one)
            continue
        # An address that is its own target is expanded once.
        once |= {one} & found
        waiting += found
    return {"loop"}


ADDRESSES = st.sampled_from([f"{one}@example.com" for one in ("a", "b", "c", "d", "a+x", "user", "user+x")])
NAMES = st.sampled_from([f"{one}@example.com" for one in ("a", "b", "c", "d", "a+x", "*")])


@given(st.sets(st.tuples(NAMES, ADDRESSES)), st.sets(ADDRESSES))
def test_where_aliases_end(pairs: set[tuple[str, str]], copies: set[str]) -> None:
    """Accepted is what ends in mailboxes, whatever address is written to; of all other settings each fault is told once."""
    if copies:
        pairs = {*pairs, (MAILBOX, MAILBOX), *((MAILBOX, one) for one in copies)}
    found = faults(aliases=" ".join(f"{one}={other}" for one, other in sorted(pairs)))
    written = {one.replace("*", "nobody") for one, _ in pairs}
    right = all(one.startswith("user") for address in written for one in expanded(address, pairs))
    assert right or found
    # More is refused only where an address with an extension leads back to an alias.
    assert not (right and found) or any("+x" in one for pair in pairs for one in pair)
    assert len({(one.token, one.remedy) for one in found}) == len(found)


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
