"""Mistakes in DKIM key records (RFC 6376 section 3.6.1)."""

from collections.abc import Iterator, Mapping, Sequence

from mailstack.dns.mistakes import texts
from mailstack.dns.mistakes.mistake import Mistake
from mailstack_auth.dkim.keys import length, public_key
from mailstack_auth.dkim.tags import PermError, from_base64, tag_list

_ALGORITHM = b"rsa-sha256"
_OTHERS = {"v=spf1": "an SPF", "v=dmarc1": "a DMARC"}


def mistakes(published: Sequence[str], wanted: str, domain: str, keys: Mapping[str, str]) -> list[Mistake]:
    """What is wrong with the TXT values at a selector; keys has the names of this site's keys by their p= values."""
    parted = texts.parted(published, wanted)
    if parted:
        return [parted]
    if len(published) > 1:
        right = sum(same(one, wanted) for one in published)
        return [
            Mistake(
                "fault",
                "several-records",
                f"{len(published)} records share one selector, {'one of them' if right else 'none'} with the key; "
                "verifiers may take any (RFC 6376 section 3.6.2.2)",
                wanted,
            )
        ]
    return [one for value in published for one in list(_mistakes(value, wanted, domain, keys))[:1]]


def same(published: str, wanted: str) -> bool:
    """Whether a record has the wanted key, however it is written."""
    key = _key(published)
    return bool(key) and key == _key(wanted)


def has_key(published: str) -> bool:
    """Whether a record has a key at all, of whomever."""
    return bool(_key(published))


def _mistakes(published: str, wanted: str, domain: str, keys: Mapping[str, str]) -> Iterator[Mistake]:
    """What is wrong with one value, the cause first."""
    right = same(published, wanted) and not _reason(published, domain)
    mangled = texts.mangled(published, wanted, right=right) or texts.cut(published, wanted)
    if mangled:
        yield mangled
    try:
        tags = tag_list(published.encode("utf-8", "surrogateescape"))
    except ValueError:
        yield Mistake("fault", "malformed", "the value is no list of tags, each once (RFC 6376 section 3.2)", wanted)
        return
    yield from (Mistake("fault", *one, wanted) for one in _of_key(published, tags, wanted, keys))
    yield from (Mistake("fault", *one, wanted) for one in _of_tags(tags))
    if b"v" in tags and next(iter(tags)) != b"v":
        what = "v= is not the first tag, as it must be (RFC 6376 section 3.6.1); some verifiers may refuse the key"
        yield Mistake("warning", "version-not-first", what, wanted)
    reason = _reason(published, domain)
    if reason:
        yield Mistake("fault", "unusable", f"verifiers refuse it: {reason}", wanted)
    if b"y" in _list(tags, b"t"):
        what = "the flag t=y says that the domain only tests DKIM; some verifiers then ignore a signature"
        yield Mistake("warning", "test-flag", what, wanted)


def _of_key(
    published: str, tags: Mapping[bytes, bytes], wanted: str, keys: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    ours, theirs = _text_of_key(wanted), _text_of_key(published)
    if b"p" not in tags:
        other = next((kind for version, kind in _OTHERS.items() if published.lower().startswith(version)), None)
        what = f"the value is {other} record, perhaps of a wildcard" if other else "the value has no p=, the key"
        yield "no-key", what
    elif not theirs:
        yield "revoked", "the key is revoked (an empty p=), and mail is still signed with it"
    elif theirs.lower() == ours.lower() and theirs != ours:
        yield "base64-case", "upper and lower case of p= were changed, and base64 tells them apart"
    elif _key(published) is None:
        yield "not-base64", "p= is not base64, so it holds no key"
    elif _key(published) != _key(wanted):
        whose = keys.get(theirs)
        said = f"that of {whose}" if whose else f"one that this site does not have{_bits(published)}"
        yield "another-key", f"the record holds another key than the one that signs: {said}"


def _of_tags(tags: Mapping[bytes, bytes]) -> Iterator[tuple[str, str]]:
    hashes = _list(tags, b"h")
    if hashes and b"sha256" not in hashes:
        if any(b"-" in one for one in hashes):
            shown = tags[b"h"].decode("ascii", "replace")
            yield "h-algorithm", f"h={shown} names a signature algorithm; h= takes hashes: sha256"
        else:
            yield "h-hash", "h= does not list sha256, so verifiers refuse every signature"
    if tags.get(b"k", b"rsa").lower() != b"rsa":
        yield "k-type", "k= names another type than the key has, which is rsa"
    if b"s" in tags and not {b"email", b"*"} & set(_list(tags, b"s")):
        yield "s-service", "s= lists neither email nor *, so the key is not for mail"
    if tags.get(b"v", b"DKIM1") != b"DKIM1":
        yield "version", "v= is not DKIM1"


def _reason(published: str, domain: str) -> str:
    """Why the verifier of this project's own containers refuses a record; empty if it does not."""
    try:
        public_key(published.encode("utf-8", "surrogateescape"), _ALGORITHM, {b"d": domain.encode()})
    except PermError as error:
        return str(error)
    return ""


def _bits(published: str) -> str:
    try:
        found = length(public_key(published.encode("utf-8", "surrogateescape"), _ALGORITHM, {b"d": b"example"}))
    except PermError:
        return ""
    return f" ({found})" if found else ""


def _list(tags: Mapping[bytes, bytes], name: bytes) -> list[bytes]:
    return [one.strip().lower() for one in tags[name].split(b":")] if name in tags else []


def _text_of_key(record: str) -> str:
    try:
        found = tag_list(record.encode("utf-8", "surrogateescape"))
    except ValueError:
        return ""
    return b"".join(found.get(b"p", b"").split()).decode("ascii", "replace")


def _key(record: str) -> bytes | None:
    """The octets of a record's key; None where it holds none."""
    try:
        return from_base64(_text_of_key(record).encode())
    except ValueError:
        return None
