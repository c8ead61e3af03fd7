"""Postfix's policy delegation protocol (SMTPD_POLICY_README): one request, one reply, many on a connection."""

from collections.abc import Iterator
from typing import Protocol

# Postfix's own limits are far below (line_length_limit 2048); more than this is no Postfix.
MAX_LINE = 8192
MAX_LINES = 100


class Lines(Protocol):
    """What is read from: readline() of a binary stream."""

    def readline(self, limit: int, /) -> bytes: ...


class ProtocolError(Exception):
    """The peer does not speak the protocol; the connection cannot be used any further."""


def requests(stream: Lines) -> Iterator[dict[str, str]]:
    """The requests that arrive on a connection, until its end.

    Octets that are not UTF-8 come as surrogates (PEP 383), so that nothing is lost or altered.
    """
    attributes: dict[str, str] = {}
    for count, raw in enumerate(iter(lambda: stream.readline(MAX_LINE + 1), b"")):
        if len(raw) > MAX_LINE or not raw.endswith(b"\n"):
            raise ProtocolError("a line is too long or cut off")
        line = raw[:-1].decode("utf-8", "surrogateescape")
        if not line:
            yield attributes
            attributes = {}
            continue
        name, equals, value = line.partition("=")
        if not equals or len(attributes) >= MAX_LINES:
            raise ProtocolError(f"line {count + 1} is no attribute, or there are too many")
        attributes[name] = value


def reply(action: str) -> bytes:
    """One action (access(5)) as a reply. An action that would not stay one line is a bug here, not input."""
    if not action.isascii() or not action.isprintable():
        raise ValueError(f"not one printable line: {action!r}")
    return f"action={action}\n\n".encode("ascii")
