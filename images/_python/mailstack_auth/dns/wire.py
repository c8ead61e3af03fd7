"""Answers of DNS that are cut before dnspython reads them.

dnspython takes 0.1 ms for a record whose owner has 127 labels, and 1.5 ms if the record holds such a name too: an
answer of 64 kB with thousands of MX or PTR records would stop the event loop for four seconds.
"""

import struct
from typing import Any

import dns.exception
import dns.message
import dns.rdatatype

# No more records of an answer are read, CNAMEs on the way to them included.
MAX_RECORDS = 128
# pyspf wants to know of ten PTR records, and whether there are more than ten MX (RFC 7208 section 4.6.4).
MAX_NAMES = 12
# What else may be there, in each section: a SOA record, EDNS.
_MAX_OTHERS = 4

# RFC 1035 section 4.1: octets of a header, of a question and a record behind their names, and the least of a pointer.
_HEADER, _QUESTION, _RECORD, _POINTER = 12, 4, 10, 0xC0

_from_wire = dns.message.from_wire


def install() -> None:
    """Have dnspython read messages cut; it has no option for that."""
    dns.message.from_wire = _from_cut_wire


def _from_cut_wire(wire: bytes, *args: Any, **options: Any) -> dns.message.Message:  # noqa: ANN401
    return _from_wire(cut(wire), *args, **options)


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
