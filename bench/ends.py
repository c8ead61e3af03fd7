"""Both ends of a measurement: the hosts that send, and the next hop that takes everything."""

import contextlib
import json
import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO

from bench import load
from mailstack.errors import EngineError
from mailstack.world.containers import Machine, wait_for

_SEND = "/usr/local/lib/bench/send.py"
_SECONDS = 300
_COUNTED = "/tmp/counted"  # noqa: S108
_DUMPED = "/tmp/mail"  # noqa: S108
_BACKLOG = "1024"


@dataclass(frozen=True)
class Delivery:
    """What the senders saw: seconds from the first connection to the last reply, and from each final dot to its reply."""

    seconds: float
    latencies: tuple[float, ...]


class Senders:
    """Hosts that share sessions and messages between them: Postfix allows one client address 50 sessions."""

    def __init__(self, machines: Sequence[Machine]) -> None:
        self._machines = machines

    def deliver(self, target: str, name: str, sessions: int, messages: int, seed: int) -> Delivery:
        """Send messages of a load, so many at a time."""
        running = [
            self._run("deliver", at, target, name, some, "--messages", str(messages * some // sessions), "--seed", str(seed))
            for at, some in enumerate(self._shares(sessions))
            if some
        ]
        reports = [json.loads(_finish(one)) for one in running]
        return Delivery(
            max(one["end"] for one in reports) - min(one["begin"] for one in reports),
            tuple(latency for one in reports for latency in one["latencies"]),
        )

    @contextlib.contextmanager
    def hold(self, target: str, name: str, sessions: int) -> Iterator[None]:
        """So many open sessions past RCPT."""
        running = [self._run("hold", at, target, name, some) for at, some in enumerate(self._shares(sessions)) if some]
        try:
            for one in running:
                if _output(one).readline() != b"held\n":
                    _finish(one)
            yield
        finally:
            for one in running:
                _finish(one)

    def _shares(self, sessions: int) -> list[int]:
        hosts = len(self._machines)
        return [len(range(at, sessions, hosts)) for at in range(hosts)]

    def _run(self, what: str, at: int, target: str, name: str, sessions: int, *more: str) -> subprocess.Popen[bytes]:
        arguments = ["--plan", f"{load.DIRECTORY}/{load.helo(at)}.json", "--target", target, "--load", name]
        return subprocess.Popen(
            ["docker", "exec", "--interactive", self._machines[at].id, "python3", _SEND, what, *arguments]
            + ["--sessions", str(sessions), *more],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )


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


def _output(process: subprocess.Popen[bytes]) -> IO[bytes]:
    assert process.stdout is not None  # noqa: S101
    return process.stdout


def _finish(process: subprocess.Popen[bytes]) -> bytes:
    """Close a sender's input and wait for its end; its output. Raises EngineError with what it says about a fault."""
    output, said = process.communicate(timeout=_SECONDS)
    if process.returncode:
        raise EngineError(f"sending failed: {said.decode(errors='replace').strip()}")
    return output
