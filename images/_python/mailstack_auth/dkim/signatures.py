"""The DKIM signatures of a message, and what OpenDKIM found about each.

OpenDKIM 2.11.0~beta2 accepts a message and writes no result when a key lookup fails, and when a malformed signature
stands beside a good one. What a sender wrote into a signature (i=, quoted-printable) stands undecorated in its results,
so they count only where no signature holds anything that could look like a result.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from mailstack_auth import names
from mailstack_auth.dkim.keys import ALGORITHMS
from mailstack_auth.dkim.tags import tag_list
from mailstack_auth.dkim.verification import MAX_FIELD, Finding, fault
from mailstack_auth.header.fields import Field, Fields

# So many octets of b= at least tell signatures apart (RFC 6008 section 4).
_SHOWN = 8

# How i= is written where OpenDKIM's results can show nothing but it; an algorithm's name.
_PLAIN = re.compile(rb"[A-Za-z0-9.!#$%&'*+/?^_`{|}~@-]*")
_ALGORITHM = re.compile(rb"[A-Za-z0-9-]{1,32}")
# One result as OpenDKIM writes it (dkimf_ar_all_sigs), and what it says of RFC 6541 beside that, which nobody uses.
_RESULT = re.compile(
    rb"\s*dkim=(?P<result>[a-z]+)(?:\s+reason=\"[^\"]*\")?(?:\s+\((?P<key>[0-9]+-bit key(?:; [a-z]+)?)?[^()]*\))?"
    rb"\s+header\.d=(?P<d>[^\s;]+)\s+header\.i=[^\s;]+\s+header\.a=[^\s;]+\s+header\.s=(?P<s>[^\s;]+)"
    rb"\s+header\.b=\"?(?P<b>[A-Za-z0-9+/=]+)\"?\s*(?:;|$)"
)
_ATPS = re.compile(rb"\s*dkim-atps=neutral\s*(?:;|$)")


class Signature(NamedTuple):
    """One DKIM-Signature field and what is known about it. Without a domain it is malformed."""

    # Which of the DKIM-Signature fields it is, from the top.
    at: int
    domain: str | None
    selector: str = ""
    algorithm: str = ""
    start: str = ""
    # It covers only a part of the body (l=), or may.
    partial: bool = False
    # It can never be a pass.
    final: bool = False
    # Its i= is no more than an address in OpenDKIM's results.
    plain: bool = True
    # RFC 8601 section 2.7.1.
    result: str = "neutral"
    reason: str = ""
    # Its length, and whether DNSSEC vouches for it.
    key: str = ""

    @property
    def open(self) -> bool:
        """Whether a verification may still make it a pass."""
        return self.result != "pass" and not self.final

    def found(self, finding: Finding) -> "Signature":
        """With what verification found."""
        return self._replace(result=finding.result, reason=finding.reason, key=finding.key or self.key)


# No honest message has more.
MAX_SIGNATURES = 100
_MALFORMED = Signature(0, None, final=True, plain=False, result="permerror", reason="malformed signature")


def fields(all_fields: Fields) -> list[Field]:
    """The DKIM-Signature fields, from the top. One with a space before its colon is none to OpenDKIM."""
    return [one for one in all_fields.named(b"dkim-signature") if one.name == one.name.strip()]


def of(all_fields: Fields) -> list[Signature]:
    """The signatures of a message, from the top, none of them verified.

    Of too many the lowest are read: they were there first, and the author's among them.
    """
    found = fields(all_fields)
    unread = max(0, len(found) - MAX_SIGNATURES)
    read = [_parsed(at, found[at].value) for at in range(unread, len(found))]
    return [*(_MALFORMED._replace(at=at) for at in range(unread)), *read]


def useless(all_fields: Fields, signers: Collection[str]) -> Iterator[int]:
    """Of mail that one of these domains is to sign, which of the DKIM-Signature fields are of no use, from the top.

    One that no verifier can read keeps OpenDKIM from signing. One of the signers' is replaced by a new one, so that any
    that is there in the end is new.
    """
    if signers:
        for at, one in enumerate(all_fields.named(b"dkim-signature")):
            found = fault(one.value)
            domain = _parsed(at, one.value).domain
            if domain is None or domain in signers or (found and found.result == "permerror"):
                yield at


def _parsed(at: int, value: bytes) -> Signature:
    try:
        tags = tag_list(value)
        domain, selector = (names.domain(tags[tag].decode("ascii")) for tag in (b"d", b"s"))
        algorithm, start = tags[b"a"].lower(), b"".join(tags[b"b"].split())
    except (ValueError, KeyError):
        domain = selector = None
    if domain is None or selector is None or not _ALGORITHM.fullmatch(algorithm) or not start.isascii():
        return _MALFORMED._replace(at=at)
    signature = Signature(
        at,
        domain,
        selector,
        algorithm.decode("ascii"),
        start.decode("ascii"),
        partial=b"l" in tags,
        plain=_PLAIN.fullmatch(tags.get(b"i", b"")) is not None,
        reason="not verified",
    )
    if algorithm not in ALGORITHMS:
        return signature._replace(final=True, result="permerror", reason="the algorithm is not supported")
    if len(value) > MAX_FIELD:
        return signature._replace(final=True, result="permerror", reason="the signature field is too long")
    if len(key_name(signature)) > names.MAX_DOMAIN:
        return signature._replace(final=True, result="permerror", reason="the name of the key is too long")
    return signature


def verified(signatures: Sequence[Signature], results: Sequence[bytes]) -> list[Signature]:
    """The signatures with what OpenDKIM's Authentication-Results fields (values behind the authserv-id) say of them.

    They may say nothing of some; what belongs to none, or to another one as well, makes all of them worthless.
    """
    found = list(signatures)
    if not all(one.plain for one in signatures):
        return found
    untold = {one.at: one for one in signatures}
    for match in _each(results):
        fits = [one for one in untold.values() if match and _belongs(match, one)]
        if match is None or len(fits) != 1:
            return list(signatures)
        one = untold.pop(fits[0].at)
        result, key = match["result"].decode("ascii"), (match["key"] or b"").decode("ascii")
        # l= may leave open what it lets pass; RFC 8301 section 3.1 refuses what it may still accept.
        if not (one.final or (one.partial and result == "pass")):
            found[one.at] = one._replace(result=result, reason="", key=key)
    return found


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
