"""Where candidates are measured: a world with sending hosts on one side and the next hop on the other."""

import contextlib
import re
from collections.abc import Iterator, Sequence
from email import message_from_bytes
from pathlib import Path

from bench import images, load
from bench.candidates import MAILSTACK, Candidate, Place
from bench.ends import Delivery, NextHop, Sender, Senders
from bench.figures import Point
from mailstack.console import progress
from mailstack.engine.connection import connect
from mailstack.errors import EngineError
from mailstack.world.containers import Temporary, wait_for
from mailstack.world.internet import Internet

# Longer than a run: what is in a cache stays there.
_TTL = 3600


class Arena(Temporary):
    """All candidates, each of which has shown that it does its work, and what sends to them and takes from them."""

    def __init__(self, directory: Path, *, base_image: str, names: Sequence[str], tls: bool = False) -> None:
        """With tls all mail comes by it; else nobody has it."""
        super().__init__()
        self._tls = tls
        self._directory = directory
        self._base_image = base_image
        self._names = names
        self._sent = 0

    def _start(self) -> None:
        client = connect()
        tags = images.build(client, self._base_image)
        self._image = tags[images.LOAD]
        self._world = self._cleanup.enter_context(
            Internet(self._directory, base_image=self._base_image, name="mailstack-bench", ttl=_TTL)
        )
        progress("signing messages, starting candidates …")
        messages = self._directory / "load"
        load.prepare(messages, self._world.names, tls=self._tls)
        self._senders = Senders([self._sender(at, messages) for at in range(len(images.SENDERS))])
        place = Place(client, self._world, tags, self._directory, self._cleanup.callback, tls=self._tls)
        stack = place.mailstack()
        started = [stack, *place.references([one for one in self._names if one != MAILSTACK], self._base_image)]
        self.candidates = tuple(one for name in self._names for one in started if one.name == name)
        with self._next_hop(NextHop.DUMP) as sink:
            for one in self.candidates:
                self._prove(one, sink)
        self._sink = self._cleanup.enter_context(self._next_hop(NextHop.COUNT))

    def deliver(self, candidate: Candidate, point: Point, messages: int, *, seed: int) -> Delivery:
        """Send messages through a candidate; returns when the next hop has all of them."""
        return self._arrived(
            candidate, self._senders.deliver(candidate.address, point.load, point.sessions, messages, seed)
        )

    def warm_up(self, candidate: Candidate, point: Point) -> None:
        """Send from each host for each of a load's domains, so that what may be remembered of them is."""
        each = len(load.LOADS[point.load].domains)
        self._arrived(candidate, self._senders.warm_up(candidate.address, point.load, point.sessions, each))

    def _arrived(self, candidate: Candidate, delivery: Delivery) -> Delivery:
        self._sent += len(delivery.latencies)
        wait_for(
            lambda: self._sink.count() == self._sent,
            f"{candidate.name}: not each of {len(delivery.latencies)} messages came to the next hop",
        )
        return delivery

    def hold(self, candidate: Candidate, sessions: int) -> contextlib.AbstractContextManager[None]:
        """So many open sessions past RCPT."""
        return self._senders.hold(candidate.address, load.SIGNED.name, sessions)

    @contextlib.contextmanager
    def _next_hop(self, command: tuple[str, ...]) -> Iterator[NextHop]:
        machine = self._world.edge.start(
            "sink",
            self._image,
            images.SINK,
            command=list(command),
            tmpfs={"/tmp": "mode=1777"},  # noqa: S108
        )
        try:
            yield NextHop(machine)
        finally:
            machine.remove()

    def _sender(self, at: int, messages: Path) -> Sender:
        name, address = load.helo(at), images.SENDERS[at]
        machine = self._world.edge.start(name, self._image, address, command=[], volumes={messages: load.DIRECTORY})
        self._cleanup.callback(machine.remove)
        sender = Sender(machine, f"{load.DIRECTORY}/{name}.json")
        self._cleanup.callback(sender.close)
        return sender

    def _prove(self, candidate: Candidate, sink: NextHop) -> None:
        """See that a candidate does its work before it is measured: a signed message passes by each of its methods."""

        def delivered() -> bytes | None:
            # Until its daemons are up, a candidate answers 4xx.
            self._senders.deliver(candidate.address, load.SIGNED.name, 1, 1, 0)
            return wait_for(sink.take, "nothing was delivered")

        passed = passes(wait_for(delivered, f"{candidate.name} takes no mail"))
        if passed != candidate.methods:
            raise EngineError(
                f"{candidate.name}: results of {sorted(passed)}, in place of {sorted(candidate.methods)}: "
                "a benchmark of it would say nothing"
            )


def passes(message: bytes) -> frozenset[str]:
    """The methods of whose pass a delivered message's header tells."""
    fields = message_from_bytes(message)
    found = set(re.findall(r"\b(dkim|spf|dmarc)=pass\b", " ".join(fields.get_all("Authentication-Results", []))))
    if any(value.lower().startswith("pass") for value in fields.get_all("Received-SPF", [])):
        found.add("spf")
    return frozenset(found)
