"""The Received-SPF header field (RFC 7208 section 9.1)."""

import re
from functools import lru_cache

from mailstack_auth.spf.evaluation import Result

# RFC 5322 section 3.2.3.
_DOT_ATOM = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
# An address is at most 64 + 1 + 255 octets (RFC 5321 section 4.5.3.1); with the quoting of two such values the field
# stays below the 998 octets of a line (RFC 5322 section 2.1.1).
_MAX_VALUE = 320


def field(judged: Result, client: str, helo: str, sender: str, receiver: str) -> str:
    """Name and value on one line. HELO and sender stand in it as they were sent, or not at all."""
    pairs = [
        ("identity", judged.identity),
        ("client-ip", client),
        ("helo", helo),
        ("envelope-from", sender),
        ("receiver", receiver),
    ]
    quoted = ((name, _value(value)) for name, value in pairs)
    values = "; ".join(f"{name}={value}" for name, value in quoted if value is not None)
    return f"Received-SPF: {judged.result.capitalize()} ({judged.identity}) {values}"


@lru_cache(512)
def _value(value: str) -> str | None:
    """A dot-atom or a quoted-string; None for what neither can hold."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    if not value.isascii() or not value.isprintable() or len(escaped) > _MAX_VALUE:
        return None
    return value if _DOT_ATOM.fullmatch(value) else f'"{escaped}"'
