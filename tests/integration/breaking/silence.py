"""Questions to a stack's resolver; and two minutes in which those that it asks are silent."""

import contextlib
import itertools
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from integration.conftest import OUTSIDER, site
from integration.faults import Faults, failing_server
from mailstack.world.containers import wait_for
from mailstack.world.internet import Internet
from mailstack.world.site import Site
from place import EDGE

# So long as a client, and as Postfix in the end, waits for an answer.
SECONDS = 5
SILENT_SECONDS = 120
FORWARDER, OWN = EDGE[51], EDGE[52]
ZONES = ("asked.example", "own.example")
# As many names as are asked for, since failures are remembered by name. No wildcard: its proof is the root zone's.
NAMES = 300
COUNT = itertools.count()

# Asks the stack's resolver; the response code, or nothing.
ASK = """
import dns.message, dns.query, dns.rcode, dns.resolver, sys
server = dns.resolver.Resolver().nameservers[0]
query = dns.message.make_query(sys.argv[1], "A")
print(dns.rcode.to_text(dns.query.udp(query, server, timeout=float(sys.argv[2])).rcode()))
"""


def publish(world: Internet) -> None:
    """The names that are asked for."""
    for zone in ZONES:
        for at in range(NAMES):
            world.names.set(f"n{at}.{zone}", "A", str(OUTSIDER))
    world.names.publish()


def answer(site: Site, name: str, seconds: float = SECONDS) -> str:
    """The response code for a name below that was not asked for before; empty if there is no answer within the time."""
    script = f"timeout {seconds + 5} python3 -c '{ASK}' n{next(COUNT) % NAMES}.{name} {seconds} 2> /dev/null || true"
    return site.run("policyd-spf", "sh", "-c", script).decode().strip()


@contextlib.contextmanager
def silence(world: Internet) -> Iterator[Future[set[str]]]:
    """A stack of its own, whose resolver's forwarder and a zone's own server say nothing for two minutes.

    The future has what was answered meanwhile; it fails if a zone is not asked for as soon as they answer again.
    """
    publish(world)
    ended = threading.Event()
    with contextlib.ExitStack() as started:
        faults = [
            Faults(started.enter_context(failing_server(world, name, address)))
            for name, address in (("silent-forwarder", FORWARDER), ("silent-own", OWN))
        ]
        sierra = site(world, "mail.sierra.example", "sierra.example", MAILBOXES="user@sierra.example")
        override = sierra.directory / "overrides/resolver/unbound.conf"
        override.parent.mkdir(parents=True)
        override.write_text(f'stub-zone:\n    name: "own.example"\n    stub-addr: {OWN}\n')
        sierra.build(sierra.environment | {"MAILSTACK_RESOLVER_FORWARDERS": str(FORWARDER)})
        sierra.up()
        wait_for(lambda: all(answer(sierra, name) == "NOERROR" for name in ZONES), "the resolver does not answer")
        pool = started.enter_context(ThreadPoolExecutor(1))
        started.callback(ended.set)
        yield pool.submit(_keep_silence, sierra, faults, ended)


def _keep_silence(sierra: Site, faults: list[Faults], ended: threading.Event) -> set[str]:
    for one in faults:
        one.set("silence", "")
    said: set[str] = set()
    end = time.monotonic() + SILENT_SECONDS
    while time.monotonic() < end and not ended.is_set():
        # Mail comes in all the time, and asks.
        said |= {answer(sierra, name, 1) for name in ZONES}
    for one in faults:
        one.clear()
    for name in ZONES:
        wait_for(lambda name=name: answer(sierra, name) == "NOERROR", f"{name} is not asked for", 2 * SECONDS)
    return said
