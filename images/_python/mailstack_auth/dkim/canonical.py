"""Canonical forms of a header and a body, as they are signed (RFC 6376 section 3.4)."""

import hashlib
import re
from collections.abc import Mapping
from typing import Literal

Canonicalization = Literal["simple", "relaxed"]
CANONICALIZATIONS: Mapping[bytes, Canonicalization] = {b"simple": "simple", b"relaxed": "relaxed"}
_LINE_END = re.compile(rb"\r?\n")
_EMPTY_LINES = b"\r\n" * 4096


class BodyHash:
    """The hash of a body in one canonicalization.

    White space and empty lines at the end of what has come may have to go; they wait, as one space and a number.
    """

    def __init__(self, canonicalization: Canonicalization) -> None:
        self._relaxed = canonicalization == "relaxed"
        self._hash = hashlib.sha256()
        self._length = 0
        self._waiting = b""
        self._empty_lines = 0

    def add(self, octets: bytes) -> None:
        """Take the next piece."""
        octets, self._waiting = self._waiting + octets, b""
        if octets.endswith(b"\r"):
            octets, self._waiting = octets[:-1], b"\r"
        octets = _crlf(octets)
        if self._relaxed:
            octets = _compressed(octets).replace(b" \r\n", b"\r\n")
            if octets.endswith(b" "):
                octets, self._waiting = octets[:-1], b" " + self._waiting
        # A CR without LF is text.
        end = len(octets) if octets.endswith(b"\r") else len(octets.rstrip(b"\r\n"))
        end = octets.rfind(b"\r\r", end) + 1 or end
        if end:
            self._take(octets[:end])
        self._empty_lines += (len(octets) - end) // 2

    def _take(self, octets: bytes) -> None:
        count, rest = divmod(self._empty_lines, len(_EMPTY_LINES) // 2)
        for _ in range(count):
            self._hash.update(_EMPTY_LINES)
        self._hash.update(_EMPTY_LINES[: 2 * rest])
        self._hash.update(octets)
        self._length += 2 * self._empty_lines + len(octets)
        self._empty_lines = 0

    def digest(self) -> tuple[bytes, int]:
        """SHA-256 of the whole, and its length in octets."""
        waiting = self._waiting.removesuffix(b" ") if self._relaxed else self._waiting
        if waiting:
            self._waiting = b""
            self._take(waiting)
        whole, length = self._hash.copy(), self._length
        if length or not self._relaxed:
            whole.update(b"\r\n")
            length += 2
        return whole.digest(), length


def field(canonicalization: Canonicalization, name: bytes, value: bytes) -> bytes:
    """A header field as it is signed."""
    if canonicalization == "simple":
        return name + b":" + _crlf(value) + b"\r\n"
    return name.strip(b" \t").lower() + b":" + _compressed(_LINE_END.sub(b"", value)).strip(b" ") + b"\r\n"


def _crlf(value: bytes) -> bytes:
    # Postfix writes a body so, and folds of fields with LF alone.
    return value if value.count(b"\n") == value.count(b"\r\n") else _LINE_END.sub(b"\r\n", value)


def _compressed(content: bytes) -> bytes:
    """With one space for each run of white space."""
    content = content.replace(b"\t", b" ")
    while b"  " in content:
        content = content.replace(b"  ", b" ")
    return content
