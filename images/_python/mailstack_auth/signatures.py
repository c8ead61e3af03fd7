"""The DKIM signatures of a message: what OpenDKIM found, and a second look where it found nothing usable.

OpenDKIM 2.11.0~beta2 accepts a message and writes no result when a key cannot be looked up, and when a signature that
is not one stands beside a good one. What a sender wrote into a signature (i=, quoted-printable) stands undecorated in
its results. So a pass counts only where all results are there and each one belongs to a signature.
"""

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import dkim
import dkim.canonicalization
import dkim.crypto

from mailstack_auth import names
from mailstack_auth.milter import Fields

# RFC 8301 section 3.2: shorter RSA keys are no pass. rsa-sha1 is none either (section 3.1).
MIN_KEY_BITS = 1024
_ALGORITHMS = {b"rsa-sha256", b"ed25519-sha256"}
# So many octets of b= at least tell signatures apart (RFC 6008 section 4).
_SHOWN = 8

# Bounds of keys, before any arithmetic: verification takes time in proportion to the square of the modulus's length and
# to that of the exponent, and nothing else works here meanwhile. Octets of a record, and bits.
_MAX_KEY_RECORD = 2048
_MAX_KEY_BITS = 8192
_MAX_EXPONENT_BITS = 32

# What is verified here: dkimpy's time grows with the square of the field's length. Honest ones have less than 2 kB.
_MAX_FIELD = 8192

# How i= is written where OpenDKIM's results can show nothing but it.
_PLAIN = re.compile(rb"[A-Za-z0-9.!#$%&'*+/?^_`{|}~@-]*")
# One result as OpenDKIM writes it (dkimf_ar_all_sigs), and what it says of RFC 6541 beside that, which nobody uses.
_RESULT = re.compile(
    rb"\s*dkim=(?P<result>[a-z]+)(?:\s+reason=\"[^\"]*\")?(?:\s+\((?P<key>[0-9]+-bit key(?:; [a-z]+)?)?[^()]*\))?"
    rb"\s+header\.d=(?P<d>[^\s;]+)\s+header\.i=[^\s;]+\s+header\.a=[^\s;]+\s+header\.s=(?P<s>[^\s;]+)"
    rb"\s+header\.b=\"?(?P<b>[A-Za-z0-9+/=]+)\"?\s*(?:;|$)"
)
_ATPS = re.compile(rb"\s*dkim-atps=neutral\s*(?:;|$)")


class Signature(NamedTuple):
    """One DKIM-Signature field and what is known of it. Without a domain it is malformed."""

    # Which of the DKIM-Signature fields it is, from the top.
    at: int
    domain: str | None
    selector: str = ""
    algorithm: str = ""
    start: str = ""
    # It covers only a part of the body (l=), or may.
    partial: bool = False
    # Its i= is no more than an address in OpenDKIM's results.
    plain: bool = True
    # RFC 8601 section 2.7.1.
    result: str = "temperror"
    reason: str = ""
    # Its length, and whether DNSSEC vouches for it.
    key: str = ""


def of(fields: Fields) -> list[Signature]:
    """The signatures of a message, from the top, none of them verified."""
    return [_parsed(at, value) for at, value in enumerate(_values(fields))]


def _values(fields: Fields) -> list[bytes]:
    return [one.value for one in fields.named(b"dkim-signature") if one.name == one.name.strip()]


def _tags(value: bytes) -> dict[bytes, bytes]:
    """A tag list (RFC 6376 section 3.2), read as dkimpy reads it, in less time. Raises ValueError, for none, too."""
    tags: dict[bytes, bytes] = {}
    for one in value.strip().removesuffix(b";").split(b";"):
        name, equals, text = one.partition(b"=")
        name = name.strip()
        if not equals or not name[:1].isalpha() or name in tags:
            raise ValueError(f"not a tag, or not the first of its name: {one!a:.100}")
        tags[name] = text.strip()
    return tags


def _parsed(at: int, value: bytes) -> Signature:
    try:
        tags = _tags(value)
        domain, selector = (names.domain(tags[tag].decode("ascii")) for tag in (b"d", b"s"))
        algorithm, start = tags[b"a"], b"".join(tags[b"b"].split())
    except (ValueError, KeyError):
        domain = selector = None
    if domain is None or selector is None or algorithm not in _ALGORITHMS or not start.isascii():
        return Signature(at, None, result="permerror", reason="malformed signature")
    return Signature(
        at,
        domain,
        selector,
        algorithm.decode("ascii"),
        start.decode("ascii"),
        partial=b"l" in tags,
        plain=_PLAIN.fullmatch(tags.get(b"i", b"")) is not None,
    )


def verified(signatures: Sequence[Signature], results: Sequence[bytes]) -> list[Signature]:
    """The signatures with what OpenDKIM's Authentication-Results fields (values behind the authserv-id) say of them."""
    if not all(one.plain for one in signatures):
        return list(signatures)
    found: dict[int, tuple[str, str]] = {}
    for match in _each(results):
        if match is None:
            return list(signatures)
        fits = [one.at for one in signatures if one.at not in found and _belongs(match, one)]
        if len(fits) != 1:
            return list(signatures)
        found[fits[0]] = match["result"].decode("ascii"), (match["key"] or b"").decode("ascii")
    if len(found) != len(signatures):
        return list(signatures)
    return [
        one
        if one.domain is None or (one.partial and found[one.at][0] == "pass")
        else one._replace(result=found[one.at][0], key=found[one.at][1])
        for one in signatures
    ]


def _each(results: Sequence[bytes]) -> Iterator[re.Match[bytes] | None]:
    """The results one by one; None for what does not look like one, and nothing behind it."""
    for value in results:
        at = 0
        while at < len(value):
            match = _ATPS.match(value, at)
            if match is None:
                match = _RESULT.match(value, at)
                yield match
                if match is None:
                    return
            at = match.end()


def _belongs(match: re.Match[bytes], signature: Signature) -> bool:
    domain, selector, start = (match[tag].decode("latin-1") for tag in ("d", "s", "b"))
    named = signature.domain == domain.lower() and signature.selector == selector.lower()
    return named and len(start) >= _SHOWN and signature.start.startswith(start)


def key_name(signature: Signature) -> str:
    """Where the public key is (RFC 6376 section 3.6.2.1)."""
    return f"{signature.selector}._domainkey.{signature.domain}"


def verify(signature: Signature, fields: Fields, body: bytes, key: bytes) -> Signature:
    """Verify a signature with the key record given. A signature that leaves a part of the body open is no pass."""
    value = _values(fields)[signature.at]
    if len(value) > _MAX_FIELD:
        return signature._replace(result="permerror", reason="too long")
    try:
        verifier = dkim.DKIM(minkey=MIN_KEY_BITS)
        # Not as text: dkimpy would make an object of every line of the body.
        verifier.headers = [(one.name, _crlf(one.value) + b"\r\n") for one in fields]
        verifier.body, canonical = _body(value, body)
        applicable = _applicable(key, value)
        passes = verifier.verify(idx=signature.at, dnsfunc=lambda name, timeout=5: applicable)  # noqa: ARG005
        result, reason = _verdict(verifier, canonical, passes=passes)
    except _InapplicableError as error:
        result, reason = "permerror", str(error)
    except Exception as error:  # noqa: BLE001
        # Besides DKIMException whatever its parsing of a stranger's octets ends in.
        result, reason = "permerror", type(error).__name__
        if isinstance(error, dkim.ValidationError) and str(error).startswith("body hash mismatch"):
            result, reason = "fail", "the body was altered"
    if result not in {"pass", "policy"} and signature.result != "temperror":
        return signature  # OpenDKIM knew why
    return signature._replace(result=result, reason=reason)


class _InapplicableError(Exception):
    """The key record says that the key is not for such a signature."""


def _applicable(key: bytes, value: bytes) -> bytes:
    """The key record without its limits (RFC 6376 section 3.6.1), which the signature keeps.

    dkimpy knows nothing of h= and t=s, and takes s= for one word.
    """
    tags = _tags(value)
    try:
        record = _tags(key)
    except ValueError:
        raise _InapplicableError("the key record is malformed") from None
    limits = {tag: [one.strip() for one in record[tag].split(b":")] for tag in (b"h", b"s", b"t") if tag in record}
    if b"sha256" not in limits.get(b"h", [b"sha256"]):
        raise _InapplicableError("the key is for other hash algorithms")
    if not {b"email", b"*"} & set(limits.get(b"s", [b"*"])):
        raise _InapplicableError("the key is not for mail")
    _check_size(key, record)
    if b"s" in limits.get(b"t", []) and _domain(tags.get(b"i", tags[b"d"])) != _domain(tags[b"d"]):
        raise _InapplicableError("the key is not for sub-domains in i=")
    return b"; ".join(name + b"=" + text for name, text in record.items() if name not in {b"h", b"s", b"t"})


def _check_size(key: bytes, record: Mapping[bytes, bytes]) -> None:
    """Refuse a key that is too large to be worked with."""
    if len(key) > _MAX_KEY_RECORD:
        raise _InapplicableError("the key record is too long")
    if record.get(b"k", b"rsa") != b"rsa":
        return
    try:
        numbers = dkim.crypto.parse_public_key(base64.b64decode(b"".join(record.get(b"p", b"").split())))
    except (ValueError, dkim.crypto.UnparsableKeyError):
        return  # unusable, as will be seen
    if numbers["modulus"].bit_length() > _MAX_KEY_BITS or numbers["publicExponent"].bit_length() > _MAX_EXPONENT_BITS:
        raise _InapplicableError("the key is too large")


def _domain(identity: bytes) -> bytes:
    return identity.rpartition(b"@")[2].lower()


def _verdict(verifier: dkim.DKIM, canonical: bytes, *, passes: bool) -> tuple[str, str]:
    """The result and the reason."""
    if not verifier.keysize:
        return "permerror", "the key is unusable or revoked"
    if b"from" not in verifier.include_headers:
        # RFC 6376 section 6.1.1, which dkimpy leaves to others.
        return "permerror", "From is not signed"
    if passes and int(verifier.signature_fields.get(b"l", len(canonical))) < len(canonical):
        return "policy", "l= leaves a part of the body unsigned"
    return ("pass" if passes else "fail"), ""


def _body(value: bytes, body: bytes) -> tuple[bytes, bytes]:
    """The body for dkimpy, and as it is signed."""
    policy = dkim.canonicalization.CanonicalizationPolicy.from_c_value(_tags(value).get(b"c"))
    body = _crlf(body)
    return body, policy.canonicalize_body(body)


def _crlf(value: bytes) -> bytes:
    # Postfix writes a body so.
    return value if value.count(b"\n") == value.count(b"\r\n") else re.sub(rb"\r?\n", b"\r\n", value)


def _selected(headers: Sequence[tuple[bytes, bytes]], include_headers: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
    """In place of dkim.select_headers, whose time grows with the names in h= times the message's fields."""
    left: dict[bytes, list[tuple[bytes, bytes]]] = {}
    for one in headers:
        left.setdefault(one[0].lower(), []).append(one)
    return [left[name].pop() for name in include_headers if left.get(name)]


# dkimpy's canonicalisation takes seconds for a body of many spaces, or a time that grows with the square of a run of
# them; most of it in calls of "re" that let no other thread work.


def _compressed(content: bytes) -> bytes:
    """In place of dkim.canonicalization.compress_whitespace."""
    content = content.replace(b"\t", b" ")
    while b"  " in content:
        content = content.replace(b"  ", b" ")
    return content


def _without_trailing_space(content: bytes) -> bytes:
    """In place of dkim.canonicalization.strip_trailing_whitespace, behind which compress_whitespace comes."""
    return _compressed(content).replace(b" \r\n", b"\r\n")


def _without_trailing_lines(content: bytes) -> bytes:
    """In place of dkim.canonicalization.strip_trailing_lines: one end of line at the end, where LF stands behind CR."""
    if not content.endswith(b"\r\n"):
        return content + b"\r\n"
    start = len(content.rstrip(b"\r\n"))
    lone = content.rfind(b"\r\r", start)
    return content[: start if lone < 0 else lone + 1] + b"\r\n"


dkim.select_headers = _selected
dkim.canonicalization.compress_whitespace = _compressed
dkim.canonicalization.strip_trailing_whitespace = _without_trailing_space
dkim.canonicalization.strip_trailing_lines = _without_trailing_lines
