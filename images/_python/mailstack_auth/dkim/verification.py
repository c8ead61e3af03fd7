"""DKIM signatures verified here (RFC 6376 section 6), where OpenDKIM has no result that decides.

A stranger writes what is verified: signature, key record, header and body. Each has a limit, or takes time in
proportion to its length. The body is hashed as it arrives, so nothing of it is kept.
"""

import hashlib
import re
import time
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from mailstack_auth import names
from mailstack_auth.dkim import canonical, keys
from mailstack_auth.dkim.canonical import Canonicalization
from mailstack_auth.dkim.tags import WHITE, PermError, from_base64, tag_list
from mailstack_auth.header.fields import Field, Fields

# In octets. Honest signatures have less than 2 kB, those by RSA keys of 4096 bits included.
MAX_FIELD = 3072
# How far two clocks may be apart, in seconds.
CLOCK_SKEW = 300

_NUMBER = re.compile(rb"[0-9]{1,76}")


class Finding(NamedTuple):
    """A result of RFC 8601 section 2.7.1, the reason if it is no pass, and the key's length for a comment."""

    result: str
    reason: str = ""
    key: str = ""


class Body:
    """A body's hashes, taken as it arrives: one for each way in which signatures canonicalize it."""

    def __init__(self, signatures: Iterable[bytes]) -> None:
        """For the values of some DKIM-Signature fields; those that no verification will take need none."""
        wanted = {_body_canonicalization(value) for value in signatures}
        self._hashes = {name: canonical.BodyHash(name) for name in wanted if name}

    def add(self, octets: bytes) -> None:
        """Take the next piece."""
        for body_hash in self._hashes.values():
            body_hash.add(octets)

    def digest(self, canonicalization: Canonicalization) -> tuple[bytes, int]:
        """SHA-256 of the whole canonicalized body, and its length in octets."""
        return self._hashes[canonicalization].digest()


def _body_canonicalization(value: bytes) -> Canonicalization | None:
    try:
        return _canonicalizations(tag_list(value))[1] if len(value) <= MAX_FIELD else None
    except (ValueError, PermError):
        return None


class Verifier:
    """Verifies signatures of one message; its header is canonicalized once."""

    def __init__(self, fields: Fields, body: Body) -> None:
        self._fields = fields
        self._body = body
        self._canonical: dict[tuple[Canonicalization, bytes], list[bytes]] = {}

    def verify(self, field: Field, record: bytes) -> Finding:
        """Verify the signature in a DKIM-Signature field by a key record. No input makes it raise."""
        try:
            return self._verify(field, record)
        except PermError as error:
            return Finding("permerror", str(error))

    def _verify(self, field: Field, record: bytes) -> Finding:
        tags, signed_names, signature, body_hash = _read(field.value)
        key = keys.public_key(record, tags[b"a"].lower(), tags)
        bits = keys.length(key)
        untimely = _untimely(tags)
        if untimely:
            return Finding("fail", untimely, bits)
        for_header, for_body = _canonicalizations(tags)
        digest, length = self._body.digest(for_body)
        covered = int(tags.get(b"l", length))
        if covered > length:
            raise PermError("l= is larger than the body")
        if covered < length:
            return Finding("policy", "l= leaves a part of the body unsigned", bits)
        if digest != body_hash:
            return Finding("fail", "the body was altered", bits)
        header = b"".join([*self._signed(for_header, signed_names), _without_b(for_header, field)])
        passes = keys.verifies(key, signature, hashlib.sha256(header).digest())
        return Finding("pass", "", bits) if passes else Finding("fail", "the header was altered", bits)

    def _signed(self, canonicalization: Canonicalization, signed_names: Iterable[bytes]) -> Iterable[bytes]:
        """The fields that h= names, of several with one name from the last one up (RFC 6376 section 5.4.2)."""
        taken: dict[bytes, int] = {}
        for name in signed_names:
            fields = self._canonical.get((canonicalization, name))
            if fields is None:
                fields = [canonical.field(canonicalization, *one) for one in self._fields.named(name)]
                self._canonical[canonicalization, name] = fields
            taken[name] = taken.get(name, 0) + 1
            if taken[name] <= len(fields):
                yield fields[-taken[name]]


def fault(value: bytes) -> Finding | None:
    """Why no key lets a DKIM-Signature field with this value pass; None if one may."""
    try:
        tags, *_ = _read(value)
        _canonicalizations(tags)
    except PermError as error:
        return Finding("permerror", str(error))
    untimely = _untimely(tags)
    return Finding("fail", untimely) if untimely else None


def _read(value: bytes) -> tuple[dict[bytes, bytes], list[bytes], bytes, bytes]:
    """The tags, what h= names, the signature, and the body's hash. Raises PermError."""
    if len(value) > MAX_FIELD:
        raise PermError("the signature field is too long")
    try:
        tags = tag_list(value)
        signed_names = [name.strip(WHITE).lower() for name in tags[b"h"].split(b":")]
        _, signature, body_hash = tags[b"a"], from_base64(tags[b"b"]), from_base64(tags[b"bh"])
    except (ValueError, KeyError):
        raise PermError("malformed signature") from None
    _check_applicable(tags, signed_names)
    return tags, signed_names, signature, body_hash


def _check_applicable(tags: Mapping[bytes, bytes], signed_names: Iterable[bytes]) -> None:
    """See that the signature can be verified at all (RFC 6376 sections 3.5 and 6.1.1). Raises PermError."""
    if tags.get(b"v") != b"1":
        raise PermError("unknown DKIM version")
    if b"from" not in signed_names:
        raise PermError("From is not signed")
    methods = [method.strip(WHITE).lower() for method in tags.get(b"q", b"dns/txt").split(b":")]
    if b"dns/txt" not in methods:
        raise PermError("unknown query method in q=")
    domain = tags.get(b"d", b"").lower().decode("latin-1")
    identity = tags.get(b"i", b"@" + tags.get(b"d", b"")).lower().rpartition(b"@")[2].decode("latin-1")
    if not names.within(identity, domain):
        raise PermError("i= is outside d=")
    if any(tag in tags and not _NUMBER.fullmatch(tags[tag]) for tag in (b"l", b"t", b"x")):
        raise PermError("l=, t= or x= is not a number")
    if b"t" in tags and b"x" in tags and int(tags[b"x"]) <= int(tags[b"t"]):
        raise PermError("x= is before t=")


def _untimely(tags: Mapping[bytes, bytes]) -> str:
    """Why the signature does not hold now; empty if it does."""
    now = time.time()
    if b"x" in tags and int(tags[b"x"]) + CLOCK_SKEW < now:
        return "the signature has expired"
    if b"t" in tags and int(tags[b"t"]) - CLOCK_SKEW > now:
        return "the signature is from the future"
    return ""


def _canonicalizations(tags: Mapping[bytes, bytes]) -> tuple[Canonicalization, Canonicalization]:
    """Header's and body's (RFC 6376 section 3.5, tag c=). Raises PermError."""
    header, _, body = b"".join(tags.get(b"c", b"").lower().split()).partition(b"/")
    try:
        return canonical.CANONICALIZATIONS[header or b"simple"], canonical.CANONICALIZATIONS[body or b"simple"]
    except KeyError:
        raise PermError("unknown canonicalization in c=") from None


def _without_b(canonicalization: Canonicalization, field: Field) -> bytes:
    """The signature's own field, its tag b= emptied and without the last line end (RFC 6376 section 3.7)."""
    parts = field.value.split(b";")
    for at, part in enumerate(parts):
        name, equals, _ = part.partition(b"=")
        if name.strip(WHITE) == b"b":
            parts[at] = name + equals
    return canonical.field(canonicalization, field.name, b";".join(parts)).removesuffix(b"\r\n")
