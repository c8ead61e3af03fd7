"""Clients that hold a session by saying nothing, or saying it slowly."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

from mailstack.world.containers import Machine
from mailstack.world.site import Site
from support import address_of

# smtpd_timeout is 60 seconds.
HELD_SECONDS = 75


def greeting(link: socket.socket) -> bytes:
    return link.recv(1024)


HELLO = [b"EHLO outsider.example"]
DATA = [*HELLO, b"MAIL FROM:<someone@listed.example>", b"RCPT TO:<user@bravo.example>", b"DATA"]
# What a client says first, and then every four seconds.
SLOW: dict[str, tuple[list[bytes], bytes]] = {
    "nothing": ([], b""),
    "nothing after EHLO": (HELLO, b""),
    "nothing after DATA": (DATA, b""),
    "a command, by octets": (HELLO, b"N"),
    "a command without end": (HELLO, b"x" * 500),
    "data, by octets": (DATA, b"x"),
    "data, by lines": (DATA, b"X: y\r\n"),
}


def held(machine: Machine, site: Site, first: list[bytes], then: bytes, ended: threading.Event) -> tuple[float, bytes]:
    """How long a session can be held, and what the server says at its end."""
    with machine.connect(address_of(site), 25) as link:
        said = greeting(link)
        for line in first:
            link.sendall(line + b"\r\n")
            said = greeting(link)
            assert said[:1] in {b"2", b"3"}
        begun = time.monotonic()
        link.settimeout(4)
        while (seconds := time.monotonic() - begun) < 2 * HELD_SECONDS and not ended.is_set():
            try:
                more = greeting(link)
            except TimeoutError:
                link.sendall(then)
                continue
            except ConnectionError:
                more = b""
            if not more:
                break
            said = more
            if said.startswith(b"421 "):
                break
        return seconds, said


@contextlib.contextmanager
def slow_clients(machine: Machine, site: Site) -> Iterator[Mapping[str, Future[tuple[float, bytes]]]]:
    """One of each kind at a site, all at once."""
    ended = threading.Event()
    with ThreadPoolExecutor(len(SLOW)) as pool:
        try:
            yield {way: pool.submit(held, machine, site, *said, ended) for way, said in SLOW.items()}
        finally:
            ended.set()
