"""Clients that hold sessions, and others that want to be served meanwhile."""

import contextlib
import itertools
import socket
import ssl
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from integration.breaking.slow_clients import HELD_SECONDS, greeting
from mailstack.world.containers import Machine, wait_for
from mailstack.world.internet import Internet
from mailstack.world.site import Site
from place import EDGE
from support import Client, address_of, delivered, message, send, subject

# MAILSTACK_LIMIT_SESSIONS, and default_process_limit.
CLIENT_LIMIT, PROCESSES = 20, 100
SERVED_SECONDS = 10
# On a port where strangers have no session, with room for what else this machine does.
AT_ONCE_SECONDS = 3


@pytest.fixture(scope="module")
def holders(world: Internet) -> list[Machine]:
    """Hosts that hold sessions."""
    return [world.host(f"holder-{at}", EDGE[53 + at]) for at in range(5)]


def opened(
    machine: Machine, site: Site, count: int, sockets: contextlib.ExitStack, port: int = 25
) -> list[socket.socket]:
    return [sockets.enter_context(machine.connect(address_of(site), port)) for _ in range(count)]


@pytest.fixture(scope="module")
def stressed(holders: list[Machine], foxtrot: Site) -> Site:
    """Foxtrot after all processes of port 25 were taken."""
    with contextlib.ExitStack() as sockets:
        links = [link for one in holders for link in opened(one, foxtrot, CLIENT_LIMIT, sockets)]
        assert [one for one in links if not greeting(one).startswith(b"220 ")] == []
        sockets.enter_context(holders[0].connect(address_of(foxtrot), 25))
        wait_for(
            lambda: [line for line in foxtrot.log("postfix") if "reached its process limit" in line],
            "Postfix does not see the stress",
        )
    return foxtrot


def assert_served(machine: Machine, site: Site, about: str) -> None:
    """A greeting, and a message taken, in ten seconds each."""
    content = message("someone@listed.example", "user@foxtrot.example", about)
    before = time.monotonic()
    with Client(machine, address_of(site)) as client:
        assert time.monotonic() - before < SERVED_SECONDS
        assert client.sendmail("someone@listed.example", "user@foxtrot.example", content) == {}
        assert time.monotonic() - before < 2 * SERVED_SECONDS
    delivered(site, "user@foxtrot.example", about)


@pytest.mark.parametrize(("hosts", "each"), [(2, 60), (4, 50)])
def test_others_are_served(
    hosts: int, each: int, holders: list[Machine], outsider: Machine, insider: Machine, stressed: Site
) -> None:
    """Idle sessions of some hosts, after a stress, keep nobody waiting, on no port; each beyond the limit is told so."""
    with contextlib.ExitStack() as sockets:
        for holder in holders[:hosts]:
            links = opened(holder, stressed, each, sockets)
            refused = [said for said in map(greeting, links) if not said.startswith(b"220 ")]
            wanted = (
                f"421 4.7.0 mail.foxtrot.example Error: too many connections from {holder.address}; "
                f"a client may have {CLIENT_LIMIT} at a time, please retry when one has ended\r\n"
            )
            assert set(refused) == {wanted.encode()}
            # Sessions of the stress may still be closing.
            assert len(refused) >= each - CLIENT_LIMIT
        assert_served(outsider, stressed, subject(f"beside {hosts} times {each}"))
        content = message("user@foxtrot.example", "user@foxtrot.example", subject("by 587"))
        before = time.monotonic()
        reply = send(insider, address_of(stressed), "user@foxtrot.example", "user@foxtrot.example", content, port=587)
        assert reply.code == 250
        assert time.monotonic() - before < AT_ONCE_SECONDS


def test_no_handshake(holders: list[Machine], insider: Machine, foxtrot: Site) -> None:
    """Where TLS comes first, sessions are not yet counted; who does not begin with it keeps its process for ten seconds."""
    with contextlib.ExitStack() as sockets:
        for holder in holders[:2]:
            opened(holder, foxtrot, PROCESSES // 2, sockets, 465)
        before = time.monotonic()
        tls = ssl._create_unverified_context()  # noqa: S323 its certificate is its own
        with Client(insider, address_of(foxtrot), 465, tls=tls, name="mail.foxtrot.example") as client:
            assert client.noop()[0] == 250
        assert time.monotonic() - before < 2 * SERVED_SECONDS


def test_trusted_clients_have_no_limit(insider: Machine, foxtrot: Site) -> None:
    """A machine of our own may have more sessions at a time than strangers."""
    with contextlib.ExitStack() as sockets:
        links = opened(insider, foxtrot, 2 * CLIENT_LIMIT, sockets)
        assert [one for one in links if not greeting(one).startswith(b"220 ")] == []


def test_slow_clients(slow_clients: Mapping[str, Future[tuple[float, bytes]]]) -> None:
    """Who says nothing, or says it slowly, is disconnected in little more than a minute, and told why."""
    found = {way: one.result() for way, one in slow_clients.items()}
    assert {way: seconds for way, (seconds, _) in found.items() if seconds > HELD_SECONDS} == {}
    reasons = (b"421 4.4.2 ", b"421 4.7.0 ", b"500 5.5.2 ")
    assert {way: said for way, (_, said) in found.items() if not said.startswith(reasons)} == {}


NOTHING = ("NOOP", "RSET", "VRFY x", "HELO outsider.example", "MAIL FROM:<>")


@pytest.fixture(scope="module")
def said_without_end(outsider: Machine, bravo: Site) -> dict[str, int]:
    """How often each command was answered before the server ended the session, or 50; it slows such clients down."""

    def answers(command: str) -> int:
        with Client(outsider, address_of(bravo)) as client:
            client.ehlo()
            codes = (client.docmd(command)[0] for _ in range(50))
            return len(list(itertools.takewhile(lambda code: code != 421, codes)))

    with ThreadPoolExecutor(len(NOTHING)) as pool:
        return dict(zip(NOTHING, pool.map(answers, NOTHING), strict=True))


@pytest.mark.parametrize("command", NOTHING)
def test_commands_that_do_nothing(command: str, said_without_end: Mapping[str, int]) -> None:
    """Nobody stays by saying the same without end: after some 30 commands that lead to no message it is 421."""
    assert said_without_end[command] < 45
