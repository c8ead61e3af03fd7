"""Postfix's policy delegation protocol (SMTPD_POLICY_README): one request, one reply, many on a connection."""

from mailstack_auth.runtime.serving import ProtocolError

# Postfix's own limit for a value is line_length_limit, 2048, and it sends some thirty; more than this is no Postfix.
MAX_REQUEST = 64 * 1024
MAX_ATTRIBUTES = 100

_END = b"\n\n"


def request(waiting: bytearray) -> dict[str, str] | None:
    """Take the next request away, if it has come whole. Raises ProtocolError."""
    end = waiting.find(_END)
    if (end if end >= 0 else len(waiting)) > MAX_REQUEST:
        raise ProtocolError("request too long")
    if end < 0:
        return None
    octets = bytes(waiting[:end])
    del waiting[: end + len(_END)]
    return parse(octets)


def parse(octets: bytes) -> dict[str, str]:
    """The attributes of one request, without its empty line. Of two with one name the last one counts.

    Octets that are not UTF-8 come as surrogates (PEP 383), so that nothing is lost or altered.
    """
    lines = octets.decode("utf-8", "surrogateescape").split("\n")
    if len(lines) > MAX_ATTRIBUTES:
        raise ProtocolError("request has too many attributes")
    try:
        return dict(line.split("=", 1) for line in lines)
    except ValueError:
        raise ProtocolError("invalid line: not NAME=VALUE") from None


def question(queue_id: str, client: str, helo: bytes, sender: bytes) -> bytes:
    """What is asked on policyd-spf's internal socket about a message; its result is left under it (handover.py)."""
    attributes = {
        b"request": b"results",
        b"queue_id": queue_id.encode("ascii", "replace"),
        b"client_address": client.encode("ascii", "replace"),
        b"helo_name": helo,
        b"sender": sender,
    }
    return b"".join(name + b"=" + value.translate(None, b"\r\n") + b"\n" for name, value in attributes.items()) + b"\n"


def reply(action: str) -> bytes:
    """One action (access(5)) as a reply. An action that would not stay one line is a bug here, not input."""
    if not action.isascii() or not action.isprintable():
        raise ValueError(f"not one printable line: {action!r}")
    return f"action={action}\n\n".encode("ascii")
