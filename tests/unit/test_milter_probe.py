"""What status asks milters, by Perl as in Postfix's container; the milters are sockets that say what the test wants."""

import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from mailstack.engine import status

# SMFIC_OPTNEG with version, actions and protocol (libmilter/mfdef.h).
NEGOTIATION = struct.pack(">IcIII", 13, b"O", 6, 1, 0)


@pytest.fixture
def milters() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def serve(milters: ExitStack, answer: bytes | None) -> tuple[str, list[bytes]]:
    """A server's name as the setting has it, and what it was sent; without an answer it only listens."""
    server = milters.enter_context(socket.create_server(("127.0.0.1", 0)))
    seen: list[bytes] = []

    def talk() -> None:
        link, _ = server.accept()
        with link:
            seen.append(link.recv(100))
            link.sendall(answer or b"")

    if answer is not None:
        thread = threading.Thread(target=talk)
        thread.start()
        milters.callback(thread.join)
    return f"inet:127.0.0.1:{server.getsockname()[1]}", seen


def test_answers_of_milters(milters: ExitStack) -> None:
    """One that negotiates is well; one that hangs, says something else, or is not there is told with what happened."""
    good, seen = serve(milters, NEGOTIATION)
    expected = {
        good: "",
        serve(milters, None)[0]: "no answer within 3 seconds",
        serve(milters, b"220 mail.example.com ESMTP\r\n")[0]: "not the answer of a milter",
        serve(milters, b"")[0]: "not the answer of a milter",
        "inet:127.0.0.1:9": "connect: Connection refused",
        "unix:no/milter.sock": "No such file or directory",
        "inet:milter.invalid:8891": "Bad hostname 'milter.invalid",
    }
    command = ["perl", "-e", status._ASK_MILTERS, *expected]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stderr == ""
    found = dict(line.split("\t") for line in done.stdout.splitlines())
    assert found.keys() == expected.keys()
    for milter, words in expected.items():
        assert (words in found[milter]) if words else (found[milter] == "")
    assert struct.unpack(">IcI", seen[0][:9]) == (13, b"O", 6)
