"""A name server between a stack's resolver and the world's: it hands questions on, and fails for some names as it is told.

Run as a program in a container of the world, which has Python and no library of DNS. The faults are lines of a file,
"KIND NAME" each, for a name and all below it, or for all without one; the file is read for every question.
"""

import contextlib
import socket
import socketserver
import sys
import threading
from pathlib import Path

PORT = 53
FAULTS = Path("/run/faults/names")
# RFC 1035 section 4.1.1; None is silence.
KINDS = {"silence": None, "servfail": 2, "refused": 5}
# A server that knows nothing of DNSSEC: it hands on no signatures, or says that there are no keys.
WITHOUT_DNSSEC = ("strip", "nodata")
_DNSKEY = b"\0\x30"
_HEADER_OCTETS = 12
_ANSWER_OCTETS = 65535
_SECONDS = 3.0


def question(query: bytes) -> tuple[str, int]:
    """The name that is asked for, in lower case, and where the question ends (RFC 1035 section 4.1.2)."""
    labels, at = [], _HEADER_OCTETS
    while query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode("latin-1").lower())
        at += 1 + query[at]
    return ".".join(labels), at + 5


def fault(name: str) -> str | None:
    """What is to happen to questions about a name; None: nothing."""
    lines = FAULTS.read_text().splitlines() if FAULTS.exists() else []
    for kind, _, domain in (line.partition(" ") for line in lines):
        if not domain or f".{name}".endswith(f".{domain}"):
            return kind
    return None


def failure(query: bytes, end: int, code: int) -> bytes:
    """An answer with a response code, 0 for NODATA, and nothing else; opcode and RD are the query's."""
    flags = bytes([0x80 | query[2] & 0x79, code])
    return query[:2] + flags + (1).to_bytes(2, "big") + bytes(6) + query[_HEADER_OCTETS:end]


def answer(query: bytes, kind: socket.SocketKind) -> bytes | None:
    """The world's answer by the same protocol, the failure that is wanted, or silence."""
    name, end = question(query)
    wanted = fault(name)
    if wanted is None:
        return _handed_on(query, kind)
    if wanted in WITHOUT_DNSSEC:
        if wanted == "nodata" and query[end - 4 : end - 2] == _DNSKEY:
            return failure(query, end, 0)
        # Without the OPT record, which asks for signatures.
        return _handed_on(query[: _HEADER_OCTETS - 2] + bytes(2) + query[_HEADER_OCTETS:end], kind)
    code = KINDS[wanted]
    return None if code is None else failure(query, end, code)


def _handed_on(query: bytes, kind: socket.SocketKind) -> bytes:
    with socket.socket(socket.AF_INET, kind) as link:
        link.settimeout(_SECONDS)
        link.connect((sys.argv[1], PORT))
        if kind == socket.SOCK_DGRAM:
            link.send(query)
            return link.recv(_ANSWER_OCTETS)
        link.sendall(len(query).to_bytes(2, "big") + query)
        with link.makefile("rb") as stream:
            return stream.read(int.from_bytes(stream.read(2), "big"))


class Datagram(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        query, link = self.request
        found = answer(query, socket.SOCK_DGRAM)
        if found is not None:
            link.sendto(found, self.client_address)


class Stream(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        while length := self.rfile.read(2):
            found = answer(self.rfile.read(int.from_bytes(length, "big")), socket.SOCK_STREAM)
            if found is None:
                # As silent as by UDP: until the other side gives up.
                with contextlib.suppress(OSError):
                    self.rfile.read()
                return
            self.wfile.write(len(found).to_bytes(2, "big") + found)


class TcpServer(socketserver.ThreadingTCPServer):
    allow_reuse_address = True


def main() -> None:
    """Serve; the argument is the address of the world's name server."""
    threading.Thread(target=TcpServer(("", PORT), Stream).serve_forever, daemon=True).start()
    socketserver.ThreadingUDPServer(("", PORT), Datagram).serve_forever()


if __name__ == "__main__":
    main()
