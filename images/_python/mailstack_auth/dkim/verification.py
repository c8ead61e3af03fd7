"""DKIM signatures verified here (RFC 6376 section 6), where OpenDKIM has no result that decides.

A stranger writes what is verified: signature, key record, header and body. Each has a limit, or takes time in
proportion to its length. The body is hashed as it arrives, so nothing of it is kept.
"""

import base64
import binascii
import hashlib
import re
import time
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from mailstack_auth import names
from mailstack_auth.header.fields import Field, Fields

# In octets. Honest signatures have less than 2 kB, those by RSA keys of 4096 bits included; the record of a key of 8192
# bits has 1.4 kB.
MAX_FIELD = 3072
MAX_KEY_RECORD = 2048
# RFC 8301 section 3.2 refuses shorter RSA keys, and asks for up to 4096 bits. What a verification costs grows with the
# square of the modulus's length and with the exponent's.
MIN_KEY_BITS, MAX_KEY_BITS = 1024, 8192
MAX_EXPONENT = 2**32
# How far two clocks may be apart, in seconds.
CLOCK_SKEW = 300

# Algorithms and the key type of each (RFC 8301, RFC 8463). rsa-sha1 is no pass (RFC 8301 section 3.1).
ALGORITHMS: Mapping[bytes, bytes] = {b"rsa-sha256": b"rsa", b"ed25519-sha256": b"ed25519"}

Canonicalization = Literal["simple", "relaxed"]
_CANONICALIZATIONS: Mapping[bytes, Canonicalization] = {b"simple": "simple", b"relaxed": "relaxed"}
_WHITE = b" \t\r\n"
_NUMBER = re.compile(rb"[0-9]{1,76}")
_LINE_END = re.compile(rb"\r?\n")
_EMPTY_LINES = b"\r\n" * 4096


class Finding(NamedTuple):
    """A result of RFC 8601 section 2.7.1, the reason if it is no pass, and the key's length for a comment."""

    result: str
    reason: str = ""
    key: str = ""


class _PermError(Exception):
    """The signature can never verify, or the key record is not for it; the text says why (RFC 6376 section 6.1)."""


def tag_list(value: bytes) -> dict[bytes, bytes]:
    """The tags by name (RFC 6376 section 3.2). Raises ValueError for what is no tag, and for two of one name."""
    tags: dict[bytes, bytes] = {}
    for part in value.strip(_WHITE).removesuffix(b";").split(b";"):
        name, equals, text = part.partition(b"=")
        name = name.strip(_WHITE)
        if not equals or not name[:1].isalpha() or name in tags:
            raise ValueError(f"not a tag, or not the first of its name: {part!a:.100}")
        tags[name] = text.strip(_WHITE)
    return tags


class Body:
    """A body's hashes, taken as it arrives: one for each way in which signatures canonicalize it."""

    def __init__(self, signatures: Iterable[bytes]) -> None:
        """For the values of some DKIM-Signature fields; those that no verification will take need none."""
        wanted = {_body_canonicalization(value) for value in signatures}
        self._hashes = {name: _BodyHash(name) for name in wanted if name}

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
    except (ValueError, _PermError):
        return None


class _BodyHash:
    """The hash of a body in one canonicalization (RFC 6376 section 3.4).

    White space and empty lines at the end of what has come may have to go; they wait, as one space and a number.
    """

    def __init__(self, canonicalization: Canonicalization) -> None:
        self._relaxed = canonicalization == "relaxed"
        self._hash = hashlib.sha256()
        self._length = 0
        self._waiting = b""
        self._empty_lines = 0

    def add(self, octets: bytes) -> None:
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
        waiting = self._waiting.removesuffix(b" ") if self._relaxed else self._waiting
        if waiting:
            self._waiting = b""
            self._take(waiting)
        whole, length = self._hash.copy(), self._length
        if length or not self._relaxed:
            whole.update(b"\r\n")
            length += 2
        return whole.digest(), length


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
        except _PermError as error:
            return Finding("permerror", str(error))

    def _verify(self, field: Field, record: bytes) -> Finding:
        tags, signed_names, signature, body_hash = _read(field.value)
        key = _public_key(record, tags[b"a"].lower(), tags)
        bits = f"{key.key_size}-bit key" if isinstance(key, RSAPublicKey) else ""
        untimely = _untimely(tags)
        if untimely:
            return Finding("fail", untimely, bits)
        for_header, for_body = _canonicalizations(tags)
        digest, length = self._body.digest(for_body)
        covered = int(tags.get(b"l", length))
        if covered > length:
            raise _PermError("l= is more than the body has")
        if covered < length:
            return Finding("policy", "l= leaves a part of the body unsigned", bits)
        if digest != body_hash:
            return Finding("fail", "the body was altered", bits)
        header = b"".join([*self._signed(for_header, signed_names), _without_b(for_header, field)])
        passes = _verifies(key, signature, hashlib.sha256(header).digest())
        return Finding("pass", "", bits) if passes else Finding("fail", "the header was altered", bits)

    def _signed(self, canonicalization: Canonicalization, signed_names: Iterable[bytes]) -> Iterable[bytes]:
        """The fields that h= names, of several with one name from the last one up (RFC 6376 section 5.4.2)."""
        taken: dict[bytes, int] = {}
        for name in signed_names:
            fields = self._canonical.get((canonicalization, name))
            if fields is None:
                fields = [_canonical(canonicalization, *one) for one in self._fields.named(name)]
                self._canonical[canonicalization, name] = fields
            taken[name] = taken.get(name, 0) + 1
            if taken[name] <= len(fields):
                yield fields[-taken[name]]


def fault(value: bytes) -> Finding | None:
    """Why no key lets a DKIM-Signature field with this value pass; None if one may."""
    try:
        tags, *_ = _read(value)
        _canonicalizations(tags)
    except _PermError as error:
        return Finding("permerror", str(error))
    untimely = _untimely(tags)
    return Finding("fail", untimely) if untimely else None


def _read(value: bytes) -> tuple[dict[bytes, bytes], list[bytes], bytes, bytes]:
    """The tags, what h= names, the signature, and the body's hash. Raises _PermError."""
    if len(value) > MAX_FIELD:
        raise _PermError("the signature field is too long")
    try:
        tags = tag_list(value)
        signed_names = [name.strip(_WHITE).lower() for name in tags[b"h"].split(b":")]
        _, signature, body_hash = tags[b"a"], _base64(tags[b"b"]), _base64(tags[b"bh"])
    except (ValueError, KeyError):
        raise _PermError("malformed signature") from None
    _check_applicable(tags, signed_names)
    return tags, signed_names, signature, body_hash


def _check_applicable(tags: Mapping[bytes, bytes], signed_names: Iterable[bytes]) -> None:
    """See that the signature can be verified at all (RFC 6376 sections 3.5 and 6.1.1). Raises _PermError."""
    if tags.get(b"v") != b"1":
        raise _PermError("unknown version of DKIM")
    if b"from" not in signed_names:
        raise _PermError("From is not signed")
    methods = [method.strip(_WHITE).lower() for method in tags.get(b"q", b"dns/txt").split(b":")]
    if b"dns/txt" not in methods:
        raise _PermError("unknown query method in q=")
    domain = tags.get(b"d", b"").lower().decode("latin-1")
    identity = tags.get(b"i", b"@" + tags.get(b"d", b"")).lower().rpartition(b"@")[2].decode("latin-1")
    if not names.within(identity, domain):
        raise _PermError("i= is outside d=")
    if any(tag in tags and not _NUMBER.fullmatch(tags[tag]) for tag in (b"l", b"t", b"x")):
        raise _PermError("l=, t= or x= is no number")
    if b"t" in tags and b"x" in tags and int(tags[b"x"]) <= int(tags[b"t"]):
        raise _PermError("x= is before t=")


def _untimely(tags: Mapping[bytes, bytes]) -> str:
    """Why the signature does not hold now; empty if it does."""
    now = time.time()
    if b"x" in tags and int(tags[b"x"]) + CLOCK_SKEW < now:
        return "the signature has expired"
    if b"t" in tags and int(tags[b"t"]) - CLOCK_SKEW > now:
        return "the signature is from the future"
    return ""


def _canonicalizations(tags: Mapping[bytes, bytes]) -> tuple[Canonicalization, Canonicalization]:
    """Header's and body's (RFC 6376 section 3.5, tag c=). Raises _PermError."""
    header, _, body = b"".join(tags.get(b"c", b"").lower().split()).partition(b"/")
    try:
        return _CANONICALIZATIONS[header or b"simple"], _CANONICALIZATIONS[body or b"simple"]
    except KeyError:
        raise _PermError("unknown canonicalization in c=") from None


def _public_key(record: bytes, algorithm: bytes, tags: Mapping[bytes, bytes]) -> RSAPublicKey | Ed25519PublicKey:
    """The key in a record, if that lets it be used for such a signature (RFC 6376 section 6.1.2). Raises _PermError."""
    if len(record) > MAX_KEY_RECORD:
        raise _PermError("the key record is too long")
    try:
        published = tag_list(record)
        key = _base64(published[b"p"])
    except (ValueError, KeyError):
        raise _PermError("the key record is malformed") from None
    lists = {tag: [one.strip(_WHITE) for one in text.split(b":")] for tag, text in published.items() if tag != b"p"}
    if published.get(b"v", b"DKIM1") != b"DKIM1":
        raise _PermError("the key record is of an unknown version")
    if b"sha256" not in lists.get(b"h", [b"sha256"]):
        raise _PermError("the key is for other hash algorithms")
    if not {b"email", b"*"} & set(lists.get(b"s", [b"*"])):
        raise _PermError("the key is not for mail")
    identity = tags.get(b"i", tags[b"d"]).rpartition(b"@")[2].lower()
    if b"s" in lists.get(b"t", []) and identity != tags[b"d"].lower():
        raise _PermError("the key is not for sub-domains in i=")
    if published.get(b"k", b"rsa").lower() != ALGORITHMS.get(algorithm):
        raise _PermError("the key is for another algorithm")
    if not key:
        raise _PermError("the key is revoked")
    try:
        return Ed25519PublicKey.from_public_bytes(key) if algorithm == b"ed25519-sha256" else _rsa_key(key)
    except (ValueError, UnsupportedAlgorithm):
        raise _PermError("the key is unusable") from None


def _rsa_key(octets: bytes) -> RSAPublicKey:
    key = load_der_public_key(octets)
    if not isinstance(key, RSAPublicKey):
        raise _PermError("the key is for another algorithm")
    if not MIN_KEY_BITS <= key.key_size <= MAX_KEY_BITS:
        raise _PermError(f"the key has {key.key_size} bits")
    if key.public_numbers().e > MAX_EXPONENT:
        raise _PermError("the key's exponent is too large")
    return key


def _verifies(key: RSAPublicKey | Ed25519PublicKey, signature: bytes, digest: bytes) -> bool:
    try:
        if isinstance(key, RSAPublicKey):
            key.verify(signature, digest, PKCS1v15(), Prehashed(SHA256()))
        else:
            key.verify(signature, digest)
    except InvalidSignature:
        return False
    return True


def _canonical(canonicalization: Canonicalization, name: bytes, value: bytes) -> bytes:
    """A header field as it is signed (RFC 6376 section 3.4)."""
    if canonicalization == "simple":
        return name + b":" + _crlf(value) + b"\r\n"
    return name.strip(b" \t").lower() + b":" + _compressed(_LINE_END.sub(b"", value)).strip(b" ") + b"\r\n"


def _without_b(canonicalization: Canonicalization, field: Field) -> bytes:
    """The signature's own field, its tag b= emptied and without the last line end (RFC 6376 section 3.7)."""
    parts = field.value.split(b";")
    for at, part in enumerate(parts):
        name, equals, _ = part.partition(b"=")
        if name.strip(_WHITE) == b"b":
            parts[at] = name + equals
    return _canonical(canonicalization, field.name, b";".join(parts)).removesuffix(b"\r\n")


def _base64(text: bytes) -> bytes:
    """Base64 with white space in it (RFC 6376 section 3.2). Raises ValueError."""
    try:
        return base64.b64decode(b"".join(text.split()), validate=True)
    except binascii.Error:
        raise ValueError("not base64") from None


def _crlf(value: bytes) -> bytes:
    # Postfix writes a body so, and folds of fields with LF alone.
    return value if value.count(b"\n") == value.count(b"\r\n") else _LINE_END.sub(b"\r\n", value)


def _compressed(content: bytes) -> bytes:
    """With one space for each run of white space."""
    content = content.replace(b"\t", b" ")
    while b"  " in content:
        content = content.replace(b"  ", b" ")
    return content
