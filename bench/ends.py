"""Both ends of a measurement: the hosts that send, and the next hop that takes everything."""

import contextlib
import json
import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mailstack.errors import EngineError
from mailstack.world.containers import Machine, wait_for

_SEND = "/usr/local/lib/bench/send.py"
_COUNTED = "/tmp/counted"  # noqa: S108
_DUMPED = "/tmp/mail"  # noqa: S108
_BACKLOG = "1024"
# How many hosts send, unless there are more sessions than these may have: Postfix allows one address 50.
_HOSTS = 2
_SESSIONS = 40


@dataclass(frozen=True)
class Delivery:
    """What the senders saw, in seconds: from the first connection to the last reply; from final dots to replies."""

    seconds: float
    latencies: tuple[float, ...]


class Sender:
    """send.py on a machine: it does what it is asked, one thing after the other."""

    def __init__(self, machine: Machine, plan: str) -> None:
        self._process = subprocess.Popen(
            ["docker", "exec", "--interactive", machine.id, "python3", _SEND, plan],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def ask(self, what: str, **more: str | int) -> None:
        """Ask for something; answer() waits for it. Its own time limits see to it that an answer comes."""
        assert self._process.stdin is not None  # noqa: S101
        self._process.stdin.write(json.dumps({"what": what, **more}).encode() + b"\n")
        self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """Raises EngineError if what was asked for went wrong."""
        assert self._process.stdout is not None  # noqa: S101
        line = self._process.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"fault": "the sending host is gone"}
        if "fault" in answer:
            raise EngineError(f"sending failed: {answer['fault']}")
        return answer

    def close(self) -> None:
        """End it, whatever it is at."""
        self._process.kill()
        self._process.communicate()


class Senders:
    """Hosts that share sessions and messages between them."""

    def __init__(self, hosts: Sequence[Sender]) -> None:
        self._hosts = hosts

    def deliver(self, target: str, load: str, sessions: int, messages: int, seed: int) -> Delivery:
        """Send messages of a load, so many at a time; messages must be a multiple of the sessions."""
        if messages % sessions:
            raise ValueError(f"{messages} messages do not go into {sessions} sessions")
        shares = self._shares(sessions)
        for at, (host, some) in enumerate(shares):
            count = messages // sessions * some
            own = seed * len(shares) + at
            host.ask("deliver", target=target, load=load, sessions=some, messages=count, seed=own)
        return self._delivered(shares)

    def warm_up(self, target: str, load: str, sessions: int, each: int) -> Delivery:
        """Send so many messages from each of the hosts that deliver() would take, for a load's senders in turn."""
        shares = self._shares(sessions)
        for host, some in shares:
            host.ask("deliver", target=target, load=load, sessions=some, messages=each)
        return self._delivered(shares)

    @staticmethod
    def _delivered(shares: Sequence[tuple[Sender, int]]) -> Delivery:
        reports = [host.answer() for host, _ in shares]
        return Delivery(
            max(one["end"] for one in reports) - min(one["begin"] for one in reports),
            tuple(latency for one in reports for latency in one["latencies"]),
        )

    @contextlib.contextmanager
    def hold(self, target: str, load: str, sessions: int) -> Iterator[None]:
        """So many open sessions past RCPT. Raises EngineError if there are less."""
        shares = self._shares(sessions)
        for host, some in shares:
            host.ask("hold", target=target, load=load, sessions=some)
        faults = []
        for host, _ in shares:
            try:
                host.answer()
            except EngineError as error:
                faults.append(error)
        try:
            if faults:
                raise faults[0]
            yield
        finally:
            for host, _ in shares:
                host.ask("release")
                host.answer()

    def _shares(self, sessions: int) -> list[tuple[Sender, int]]:
        """The hosts that take part, each with its number of sessions; no more of them than needed."""
        hosts = self._hosts[: min(sessions, max(_HOSTS, -(-sessions // _SESSIONS)))]
        return [(host, len(range(at, sessions, len(hosts)))) for at, host in enumerate(hosts)]


class NextHop:
    """smtp-sink(1) on a machine."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        wait_for(lambda: machine.listens(25), "the next hop does not listen")

    # It updates a line of counters for each message, by carriage returns.
    COUNT = ("sh", "-c", f"exec smtp-sink -c 0.0.0.0:25 {_BACKLOG} > {_COUNTED}")
    DUMP = ("sh", "-c", f"mkdir {_DUMPED} && exec smtp-sink -d {_DUMPED}/ 0.0.0.0:25 {_BACKLOG}")

    def count(self) -> int:
        """How many messages it has taken; with COUNT."""
        found = re.findall(r"mesg=(\d+)", self._machine.run("tail", "-c", "200", _COUNTED))
        return int(found[-1]) if found else 0

    def take(self) -> bytes | None:
        """The messages that it has taken since the last time, if any; with DUMP."""
        command = f"cat {_DUMPED}/* && rm {_DUMPED}/*"
        try:
            return self._machine.run("sh", "-c", command).encode()
        except EngineError:
            return None
