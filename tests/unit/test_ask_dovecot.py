"""What smtpd and Dovecot say to each other by Postfix's ask-dovecot; Dovecot is a socket that says what the test wants."""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "images/postfix/rootfs/usr/local/bin/ask-dovecot"
BEGUN = b"VERSION\t1\t1\nCPID\t77\n"
# Of Dovecot 2.4.1.
GREETING = (
    b"VERSION\t1\t3\nMECH\tPLAIN\tplaintext\nMECH\tSCRAM-SHA-256\tmutual-auth\nSPID\t12\nCUID\t2\n"
    b"COOKIE\ta8a31b6ffe206e7c4fb031fb0411bb72\nDONE\n"
)
REQUEST = b"AUTH\t1\tPLAIN\tservice=smtp\tnologin\tsecured\tresp=AGpvAHNlY3JldA==\n"


@contextmanager
def asking(server: str) -> Iterator[subprocess.Popen[bytes]]:
    """The program as spawn(8) starts it, after what smtpd says first."""
    with subprocess.Popen(
        ["perl", PROGRAM, server], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    ) as process:
        assert process.stdin
        process.stdin.write(BEGUN)
        try:
            yield process
        finally:
            process.stdin.close()


def read(process: subprocess.Popen[bytes], end: bytes) -> bytes:
    """What the program says, up to a line."""
    assert process.stdout
    said = b""
    while not said.endswith(end):
        octets = process.stdout.read(4096)
        assert octets, f"it ended after {said!r}"
        said += octets
    return said


def now(server: str) -> str:
    """What the program says is wrong."""
    done = subprocess.run(["perl", PROGRAM, server, "now"], check=True, capture_output=True, text=True)
    assert done.stderr == ""
    return done.stdout


@pytest.fixture
def dovecot() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def name_of(server: socket.socket) -> str:
    return f"inet:127.0.0.1:{server.getsockname()[1]}"


def test_requests_and_replies(dovecot: socket.socket) -> None:
    """All goes from one to the other as it is, but for the process number; and both see when the other one ends."""
    numbers = set()
    for _ in range(2):
        with asking(name_of(dovecot)) as process:
            link, _ = dovecot.accept()
            with link:
                version, number, _ = link.recv(4096).split(b"\n")
                assert version == b"VERSION\t1\t2"
                assert number.startswith(b"CPID\t")
                numbers.add(number)
                # In two pieces.
                link.sendall(GREETING[:50])
                link.sendall(GREETING[50:])
                assert read(process, b"DONE\n") == GREETING
                assert process.stdin
                process.stdin.write(REQUEST)
                assert link.recv(4096) == REQUEST
                link.sendall(b"OK\t1\tuser=jo\n")
                assert read(process, b"jo\n") == b"OK\t1\tuser=jo\n"
            assert process.stdout
            assert process.stdout.read(1) == b""
    assert len(numbers) == 2
    with asking(name_of(dovecot)) as process:
        link, _ = dovecot.accept()
        with link:
            link.sendall(GREETING)
            read(process, b"DONE\n")
            assert process.stdin
            process.stdin.close()
            while link.recv(4096):
                pass


def test_a_dovecot_that_is_away(dovecot: socket.socket) -> None:
    """Mechanisms are offered at once, or after two seconds, and the first request finds no connection."""
    refused = name_of(dovecot)
    silent = socket.create_server(("127.0.0.1", 0))
    dovecot.close()
    with silent:
        for server in (refused, name_of(silent)):
            with asking(server) as process:
                offered = read(process, b"DONE\n").splitlines()
                assert offered == [b"VERSION\t1\t2", b"MECH\tPLAIN\tplaintext", b"MECH\tLOGIN\tplaintext", b"DONE"]
                assert process.stdin
                assert process.stdout
                process.stdin.write(REQUEST)
                assert process.stdout.read(1) == b""


def test_what_is_wrong(dovecot: socket.socket) -> None:
    """A server that greets is well; of others it is told what happened."""

    def greets(greeting: bytes) -> str:
        with subprocess.Popen(["perl", PROGRAM, name_of(dovecot), "now"], stdout=subprocess.PIPE, text=True) as process:
            link, _ = dovecot.accept()
            with link:
                link.sendall(greeting)
                link.shutdown(socket.SHUT_WR)
                return process.communicate()[0]

    assert greets(GREETING) == ""
    assert greets(b"220 mail.example.com ESMTP\r\n") == "not the answer of a Dovecot\n"
    # What Dovecot has for its own processes (auth-master).
    master = "this socket of Dovecot is not for clients: it offers no mechanism\n"
    assert greets(b"VERSION\t1\t3\nSPID\t12\nDONE\n") == master
    assert now(name_of(dovecot)) == "no answer within 2 seconds\n"
    assert now("inet:127.0.0.1:9") == "Connection refused\n"
    assert now("inet:dovecot.invalid:12345") == "the name dovecot.invalid is not found\n"
    assert now("unix:no/auth") == "No such file or directory\n"
