"""mailstack dns check against real name servers: Knot, signed and not, and unbound as the resolver."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import pytest

from integration.dns_servers import Published, Servers, running
from mailstack.errors import EngineError
from mailstack.stack.model import Stack
from unit.dns_mistakes import MISTAKES
from unit.dns_site import NS2, OF_SITES, SPELLINGS, ZONES, a_stack, check, mended, world_of, wrong

# What Knot refuses to serve; other servers are not so strict.
REFUSED = {name: MISTAKES[name] for name in ("CNAME beside TXT", "a CNAME at the domain", "a CNAME at the host name")}
SERVED = {name: row for name, row in MISTAKES.items() if name not in REFUSED}


@pytest.fixture(scope="module")
def servers(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with running(tmp_path_factory.mktemp("dns"), ZONES) as found:
        yield found


def published(servers: Servers, made: Stack, changes: Mapping[str, Sequence[str]] | None = None) -> Published:
    """A world of real servers that have what a site needs, and some changes."""
    world: Published = world_of(made, partial(Published, servers))
    for key, values in (changes or {}).items():
        world.publish(*key.split(" "), *values)
    return world


def test_a_table_of_mistakes() -> None:
    """There are as many as a table that reads like a manual should have."""
    assert len(SERVED) >= 80


@pytest.mark.parametrize(("changes", "words", "paste"), SERVED.values(), ids=SERVED.keys())
def test_mistakes(servers: Servers, changes: Mapping[str, Sequence[str]], words: str, paste: str | None) -> None:
    """Each mistake that has a name is seen, and what the check says to paste mends it."""
    made = a_stack()
    mended(made, published(servers, made), changes, words, paste)


@pytest.mark.parametrize("changes", [row[0] for row in REFUSED.values()], ids=REFUSED.keys())
def test_mistakes_that_knot_refuses(servers: Servers, changes: Mapping[str, Sequence[str]]) -> None:
    """They are seen where a server has them (tests/unit/builder/test_dns_check.py), which Knot is not."""
    with pytest.raises(EngineError, match="another record exists beside CNAME"):
        check(published(servers, a_stack(), changes), a_stack())


@pytest.mark.parametrize(("settings", "changes", "words", "paste"), OF_SITES.values(), ids=OF_SITES.keys())
def test_mistakes_of_other_sites(
    servers: Servers,
    settings: Mapping[str, str],
    changes: Mapping[str, Sequence[str]],
    words: str,
    paste: str | None,
) -> None:
    """Sub-domains, several domains and their keys, report addresses, own records."""
    made = a_stack(**settings)
    if paste:
        mended(made, published(servers, made), changes, words, paste)
    else:
        assert words.partition(": ")[2] in [one.what for one in check(published(servers, made, changes), made).findings]


@pytest.mark.parametrize("changes", SPELLINGS.values(), ids=SPELLINGS.keys())
def test_spellings(servers: Servers, changes: Mapping[str, Sequence[str]]) -> None:
    """What means the same is right, however it is written."""
    made = a_stack()
    assert wrong(check(published(servers, made, changes), made)) == []


def codes(servers: Servers, world: Published, made: Stack) -> set[str]:
    return {code for _, code, _, _ in wrong(check(world, made))}


def test_a_silent_server(servers: Servers) -> None:
    """One that says nothing is a warning; it is waited for within the check's time."""
    made = a_stack()
    world = published(servers, made)
    world.behaviours[NS2] = "silent"
    assert codes(servers, world, made) == {"silent-server"}


def test_a_lame_server(servers: Servers) -> None:
    """One without the zone is a fault."""
    made = a_stack()
    world = published(servers, made)
    world.behaviours[NS2] = "refused"
    assert codes(servers, world, made) == {"lame-server"}


def test_a_stale_secondary(servers: Servers) -> None:
    """One with an older zone is named, with both serials."""
    made = a_stack()
    world = published(servers, made)
    world.serials[NS2] = 7
    world.serials |= {one: 8 for servers_of in ZONES.values() for one in servers_of.values() if one != NS2}
    world.publish("example.com", "TXT", "v=spf1 -all", at=NS2)
    (found,) = [one for one in check(world, made).findings if one.level != "fine"]
    assert found.code == "servers-disagree"
    assert "serial 7" in " ".join((found.what, *found.where))
    assert "serial 8" in " ".join((found.what, *found.where))


@pytest.mark.parametrize("right", [True, False], ids=["secure", "bogus"])
def test_a_signed_zone(servers: Servers, *, right: bool) -> None:
    """Signed by Knot and validated by unbound all is right; with the key of another zone it is said what is wrong."""
    made = a_stack()
    world = published(servers, made)
    servers.signed, servers.wrong_anchor = ["example.com"], not right
    try:
        assert codes(servers, world, made) == (set() if right else {"bogus"})
    finally:
        servers.signed, servers.wrong_anchor = (), False
