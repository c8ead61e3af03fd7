"""A policy client, as Postfix is one (SMTPD_POLICY_README): connections, requests, replies that must be well-formed."""

import socket
from collections.abc import Callable
from types import TracebackType
from typing import Self

_SECONDS = 60.0
_MAX_REPLY = 4096


def request(sender: str, *, client: str = "192.0.2.1", helo: str = "mail.client.example", **others: str) -> bytes:
    """The attributes of a request; octets that are no UTF-8 stand in it as surrogates (PEP 383)."""
    values = {"request": "smtpd_access_policy", "helo_name": helo, "sender": sender, "client_address": client} | others
    return "".join(f"{name}={value}\n" for name, value in values.items()).encode("utf-8", "surrogateescape") + b"\n"


class PolicyConnection:
    """One connection, request after request."""

    def __init__(self, connect: Callable[[], socket.socket]) -> None:
        self._socket = connect()
        self._socket.settimeout(_SECONDS)
        self._buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, octets: bytes) -> None:
        self._socket.sendall(octets)

    def receive(self) -> str | None:
        """The next action; None when the server closes. Anything that is no reply is an error."""
        while b"\n\n" not in self._buffer:
            octets = self._socket.recv(_MAX_REPLY)
            if not octets:
                assert not self._buffer, self._buffer
                return None
            self._buffer += octets
            assert len(self._buffer) <= _MAX_REPLY
        reply, _, self._buffer = self._buffer.partition(b"\n\n")
        text = reply.decode("ascii")
        assert text.startswith("action="), text
        assert text.isprintable(), text
        return text.removeprefix("action=")

    def ask(self, octets: bytes) -> str | None:
        self.send(octets)
        return self.receive()
