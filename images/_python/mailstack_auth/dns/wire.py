"""Answers of DNS that are cut before dnspython reads them.

dnspython takes 0.1 ms for a record whose owner has 127 labels, and 1.5 ms if the record holds such a name too: an
answer of 64 kB with thousands of MX or PTR records would stop the event loop for four seconds.
"""

import asyncio
import struct
from collections.abc import Awaitable, Callable
from typing import Any

import dns.asyncbackend
import dns.exception
import dns.rdatatype

# No more records of an answer are read, CNAMEs on the way to them included.
MAX_RECORDS = 128
# pyspf wants to know of ten PTR records, and whether there are more than ten MX (RFC 7208 section 4.6.4).
MAX_NAMES = 12
# What else may be there, in each section: a SOA record, EDNS.
_MAX_OTHERS = 4

# RFC 1035 section 4.1: octets of a header, of a question and a record behind their names, and the least of a pointer.
_HEADER, _QUESTION, _RECORD, _POINTER = 12, 4, 10, 0xC0
# The flag TC in a header's third octet.
_TRUNCATED = 0x02

_Receive = Callable[[int, float | None], Awaitable[bytes]]


class Backend(type(dns.asyncbackend.get_backend("asyncio"))):  # type: ignore[misc]
    """dnspython's sockets of asyncio, which hand on messages that are cut."""

    async def make_socket(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401
        """By UDP a message is a datagram, by TCP its length and the message (RFC 1035 section 4.2.2)."""
        made: Any = await super().make_socket(*args, **options)
        if hasattr(made, "recv"):
            made.recv = _Stream(made.recv).receive
            return made
        receive = made.recvfrom

        async def cut_datagram(size: int, seconds: float | None) -> tuple[bytes, Any]:
            wire, source = await receive(size, seconds)
            try:
                return cut(wire), source
            except dns.exception.FormError:
                # Anybody may send one. dnspython waits for another, as it does where this one is not the server's.
                return b"", source

        made.recvfrom = cut_datagram
        return made


class _Stream:
    """A connection's input."""

    def __init__(self, receive: _Receive) -> None:
        self._receive = receive
        self._cut = b""

    async def receive(self, size: int, seconds: float | None) -> bytes:
        """So many octets of the next message at the most; none at the end."""
        if not self._cut:
            try:
                async with asyncio.timeout(seconds):
                    self._cut = await self._message(seconds)
            except TimeoutError:
                raise dns.exception.Timeout from None
        part, self._cut = self._cut[:size], self._cut[size:]
        return part

    async def _message(self, seconds: float | None) -> bytes:
        """The next message, cut, behind its length; none at the end. Raises dns.exception.FormError."""
        length = await self._whole(2, seconds)
        wire = await self._whole(int.from_bytes(length, "big"), seconds)
        if not wire:
            return b""
        if len(wire) > _HEADER and wire[2] & _TRUNCATED:
            # By TCP that is a resolver whose buffer is too small; dnspython would take what is missing for not there.
            raise dns.exception.FormError
        wire = cut(wire)
        return len(wire).to_bytes(2, "big") + wire

    async def _whole(self, size: int, seconds: float | None) -> bytes:
        """So many octets; none if the connection ends before."""
        octets = b""
        while len(octets) < size:
            part = await self._receive(size - len(octets), seconds)
            if not part:
                return b""
            octets += part
        return octets


def cut(wire: bytes) -> bytes:
    """A message up to the first record that is one too many. Raises dns.exception.FormError."""
    try:
        _, _, questions, *counts = struct.unpack_from("!6H", wire)
        at, kind = _HEADER, 0
        for _ in range(questions):
            at = _after_name(wire, at) + _QUESTION
            (kind,) = struct.unpack_from("!H", wire, at - _QUESTION)
        names = kind in {dns.rdatatype.MX, dns.rdatatype.PTR}
        limits = [MAX_NAMES if names else MAX_RECORDS, _MAX_OTHERS, _MAX_OTHERS]
        kept = [min(count, limit) for count, limit in zip(counts, limits, strict=True)]
        if kept == counts:
            return wire
        # Sections behind one that is cut are left out.
        end = next(section for section in range(3) if kept[section] < counts[section]) + 1
        kept[end:] = [0] * (3 - end)
        for _ in range(sum(kept)):
            at = _after_name(wire, at) + _RECORD
            (length,) = struct.unpack_from("!H", wire, at - 2)
            at += length
    except (struct.error, IndexError):
        raise dns.exception.FormError from None
    return wire[:6] + struct.pack("!3H", *kept) + wire[_HEADER:at]


def _after_name(wire: bytes, at: int) -> int:
    while 0 < wire[at] < _POINTER:
        at += 1 + wire[at]
    return at + (2 if wire[at] else 1)
