"""Sends mail from a host of the world, and times the answers. Runs in a container, with nothing but Python.

Its argument is a JSON file: {"port": 25, "tls": false, "helo": NAME, "recipient": ADDRESS, "loads": {NAME: [[SENDER,
FILE], …]}}. Of a load with several senders the n-th is taken in proportion to 1/n (Zipf's law). One message per
connection, as most mail comes; with TLS each has a handshake of its own.
"""

import contextlib
import itertools
import json
import random
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_SECONDS = 120.0
# So many sessions are opened at a time where they are held: each may start an interpreter, and Postfix waits for its
# policy service no longer than 100 seconds (postconf(5), smtpd_policy_service_timeout).
_OPENING = 5


class Unexpected(Exception):  # noqa: N818
    """The server did not say what a measurement can do with."""


class Session:
    """One SMTP connection, command by command, without pipelining (RFC 5321)."""

    def __init__(self, host: str, port: int) -> None:
        self._link = socket.create_connection((host, port), timeout=_SECONDS)
        self._link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._lines = self._link.makefile("rb")
        self._expect(b"2", "the connection")

    def command(self, text: str, reply: bytes = b"2") -> None:
        self._link.sendall(text.encode() + b"\r\n")
        self._expect(reply, text)

    def start_tls(self) -> None:
        """Go on by TLS (RFC 3207), with whatever certificate."""
        self.command("STARTTLS")
        self._lines.close()
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self._link = context.wrap_socket(self._link)
        self._lines = self._link.makefile("rb")

    def content(self, content: bytes) -> float:
        """Send a message; the seconds from its final dot to the reply."""
        self._link.sendall(content + b".\r\n")
        begin = time.perf_counter()
        self._expect(b"2", "the message")
        return time.perf_counter() - begin

    def close(self) -> None:
        self._lines.close()
        self._link.close()

    def _expect(self, reply: bytes, what: str) -> None:
        line = self._lines.readline()
        while line[3:4] == b"-":
            line = self._lines.readline()
        if not line.startswith(reply):
            raise Unexpected(f"{what} was answered by {line.decode(errors='replace').strip()!r}")


def together(tasks: int, task: Callable[[], None]) -> None:
    """Run a task in several threads; the first fault of any is raised when all have ended."""
    faults: list[Exception] = []

    def run() -> None:
        try:
            task()
        except Exception as fault:  # noqa: BLE001
            faults.append(fault)

    threads = [threading.Thread(target=run) for _ in range(tasks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if faults:
        raise faults[0]


def mix(load: list[tuple[str, bytes]], count: int, seed: int | None) -> list[tuple[str, bytes]]:
    """Senders and messages in the order in which they are sent: the same for the same seed; without one, in turn."""
    if seed is None:
        return list(itertools.islice(itertools.cycle(load), count))
    weights = [1 / rank for rank in range(1, len(load) + 1)]
    return random.Random(seed).choices(load, weights, k=count)  # noqa: S311


class Host:
    """One sending host: what it was asked, line by line, it answers line by line; both are JSON."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self._port: int = plan["port"]
        self._tls: bool = plan["tls"]
        self._helo: str = plan["helo"]
        self._recipient: str = plan["recipient"]
        self._loads = {
            name: [(sender, Path(file).read_bytes()) for sender, file in load] for name, load in plan["loads"].items()
        }
        self._held: list[Session] = []

    def deliver(self, target: str, load: str, sessions: int, messages: int, seed: int | None = None) -> dict[str, Any]:
        """Send messages, so many at a time; when that began and ended (CLOCK_MONOTONIC), and the latencies."""
        waiting = mix(self._loads[load], messages, seed)
        latencies: list[float] = []

        def work() -> None:
            while True:
                try:
                    sender, content = waiting.pop()  # atomic
                except IndexError:
                    return
                latencies.append(self._send(target, sender, content))

        begin = time.monotonic()
        together(sessions, work)
        return {"begin": begin, "end": time.monotonic(), "latencies": latencies}

    def hold(self, target: str, load: str, sessions: int) -> dict[str, Any]:
        """Open sessions that stand past RCPT, until release()."""
        sender, _ = self._loads[load][0]
        waiting = iter(range(sessions))

        def work() -> None:
            for _ in waiting:
                self._held.append(self._past_rcpt(target, sender))

        together(min(sessions, _OPENING), work)
        return {"held": len(self._held)}

    def release(self) -> dict[str, Any]:
        while self._held:
            self._held.pop().close()
        return {"held": 0}

    def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        """Do what is asked for: the name of a method, and its arguments."""
        tasks: dict[str, Callable[..., dict[str, Any]]]
        tasks = {"deliver": self.deliver, "hold": self.hold, "release": self.release}
        task = tasks[question.pop("what")]
        try:
            return task(**question)
        except (OSError, Unexpected) as fault:
            return {"fault": f"{question.get('target')}: {fault}"}

    def _past_rcpt(self, target: str, sender: str) -> Session:
        session = Session(target, self._port)
        with contextlib.ExitStack() as unless_done:
            unless_done.callback(session.close)
            session.command(f"EHLO {self._helo}")
            if self._tls:
                session.start_tls()
                session.command(f"EHLO {self._helo}")
            session.command(f"MAIL FROM:<{sender}>")
            session.command(f"RCPT TO:<{self._recipient}>")
            unless_done.pop_all()
        return session

    def _send(self, target: str, sender: str, content: bytes) -> float:
        """One message on a connection of its own; the seconds that the reply to its end took."""
        with contextlib.closing(self._past_rcpt(target, sender)) as session:
            session.command("DATA", b"3")
            seconds = session.content(content)
            session.command("QUIT")
        return seconds


def main() -> None:
    host = Host(json.loads(Path(sys.argv[1]).read_text()))
    for line in sys.stdin:
        sys.stdout.write(json.dumps(host.answer(json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
