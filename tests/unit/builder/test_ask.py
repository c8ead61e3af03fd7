"""mailstack.dns.ask: every authoritative server by itself, and the resolver, whatever some of them do."""

import asyncio
import time

import pytest

from mailstack.dns import ask
from mailstack.errors import DnsError
from unit.dns_world import RESOLVER, Internet

NS1, NS2 = "127.0.0.2", "127.0.0.3"
ZONES = {
    "example.com": {"ns1.example.net": NS1, "ns2.example.net": NS2},
    "example.net": {"ns1.example.net": NS1},
    "example": {"ns1.example.net": NS1},
}
TEXT = "v=spf1 -all"


@pytest.fixture
def world():
    """Two zones; example.com has two servers with the same data."""
    found = Internet(ZONES)
    found.publish("example.com", "TXT", TEXT)
    return found


def see(world, name, kind="TXT", *, resolvers=(RESOLVER,), seconds=ask.SECONDS):
    """What a check sees, and the seconds that it took."""
    with world.served() as port:
        start = time.monotonic()
        found = ask.look(lambda look: look.see(name, kind), resolvers, port, seconds)
        return found, time.monotonic() - start


def test_every_server_is_asked(world):
    """Each authoritative server answers for itself, without recursion, and so does the resolver."""
    found, _ = see(world, "example.com")
    assert found.zone == "example.com"
    assert [(str(one.server), one.values) for one in found.answers] == [
        (f"ns1.example.net ({NS1})", (TEXT,)),
        (f"ns2.example.net ({NS2})", (TEXT,)),
    ]
    assert found.resolved.values == (TEXT,)
    assert found.where() == (f"ns1.example.net ({NS1}), serial 1", f"ns2.example.net ({NS2}), serial 1")


def test_answers_longer_than_a_datagram(world):
    """A truncated answer is asked for again by TCP."""
    value = "v=DKIM1; p=" + "x" * 3000
    world.publish("s._domainkey.example.com", "TXT", value)
    found, _ = see(world, "s._domainkey.example.com")
    assert found.values == (value,)


@pytest.mark.parametrize(
    ("behaviour", "failure"),
    [
        ("silent", "does not answer"),
        ("refused", "answers REFUSED"),
        ("not authoritative", "is not authoritative (no AA)"),
        ("servfail", "answers SERVFAIL"),
    ],
)
def test_a_server_that_does_not_work(world, behaviour, failure):
    """A server that is silent, refuses or is lame is named; the others are asked all the same."""
    world.behaviours[NS2] = behaviour
    found, seconds = see(world, "example.com")
    assert [one.failure for one in found.authorities] == ["", failure]
    assert [one.server.name for one in found.answers] == ["ns1.example.net"]
    assert seconds < ask.SECONDS


def test_servers_that_disagree(world):
    """Servers with different data are told apart, with their serials."""
    world.publish("example.com", "TXT", "old", at=NS2)
    world.serials[NS1] = 7
    found, _ = see(world, "example.com")
    assert {values: [one.server.address for one in answers] for (values, _), answers in found.groups().items()} == {
        (TEXT,): [NS1],
        ("old",): [NS2],
    }
    assert [one.serial for one in found.authorities] == [7, 1]


def test_all_are_silent(world):
    """With a silent first resolver and silent servers, the whole takes as long as a deadline says at most."""
    world.behaviours |= {NS1: "silent", NS2: "silent"}
    found, seconds = see(world, "example.com", resolvers=["127.0.0.9", RESOLVER])
    assert found.answers == ()
    assert "SERVFAIL" in found.resolved.failure
    assert seconds < ask.SECONDS
    world.patient = True
    found, shorter = see(world, "example.com", seconds=1)
    assert found.resolved.failure
    assert shorter < ask.SECONDS / 2


def test_no_resolver(world):
    """Without a resolver nothing can be checked, and the error says what to do."""
    world.behaviours[RESOLVER] = "silent"
    with pytest.raises(DnsError, match=r"no resolver answers \(127\.0\.0\.1\).*--resolver ADDRESS"):
        see(world, "example.com", seconds=1)


def test_cname(world):
    """Of a CNAME to another zone the servers tell the target, and the resolver what is there."""
    world.publish("s._domainkey.example.com", "CNAME", "s._domainkey.example.net.")
    world.publish("s._domainkey.example.net", "TXT", "v=DKIM1; p=")
    found, _ = see(world, "s._domainkey.example.com")
    assert (found.zone, found.cname, found.values) == ("example.com", "s._domainkey.example.net", ("v=DKIM1; p=",))


def test_a_registry_is_left_alone(world):
    """Of a domain that does not exist the servers of the zone above it are not asked."""
    found, _ = see(world, "example.com.example")
    assert (found.zone, found.answers, found.resolved.exists) == ("example", (), False)
    assert not [one for one in world.asked if one[0] != RESOLVER]


def test_questions_are_asked_once(world):
    """However often a question comes, each server is asked once."""

    async def twice(look):
        return await asyncio.gather(look.see("example.com", "TXT"), look.see("example.com", "TXT"))

    with world.served() as port:
        ask.look(twice, [RESOLVER], port)
    assert len(world.asked) == len(set(world.asked)) + 1  # the resolver is chosen by the root's SOA


def test_names_that_cannot_be(world):
    """What is too long for a name does not exist, and stops nothing."""
    for name in (f"{'x' * 64}.example.com", f"{'x.' * 130}example.com"):
        found, _ = see(world, name)
        assert (found.values, found.resolved.exists) == ((), False)
