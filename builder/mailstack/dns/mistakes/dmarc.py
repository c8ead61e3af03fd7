"""Mistakes in DMARC policy records (RFC 9989 section 4.7)."""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import get_args

from mailstack.dns.findings import Level
from mailstack.dns.mistakes import texts
from mailstack.dns.mistakes.mistake import Mistake
from mailstack.settings.model import PREFIX
from mailstack_auth.dmarc.discovery import Policy, Record, RecordError, is_record, parse

_WHITE = " \t"
# RFC 9989 appendix C.
REMOVED = ("pct", "rf", "ri")
_LIKE_A_RECORD = re.compile(r"v\s*=\s*DMARC|^\s*p\s*=\s*(?:none|quarantine|reject)", re.IGNORECASE)
_NO_SCHEME = re.compile(r"[^:@\s]+@[^@\s]+")


def is_meant(text: str) -> bool:
    """Whether a TXT value is, or was to be, a DMARC record."""
    return _LIKE_A_RECORD.search(text) is not None


def usable(text: str) -> str:
    """A policy record without what receivers ignore: second tags of a name, policies that do not exist.

    It is the text itself where nothing is wrong with its tags, and empty where the text is no policy record.
    """
    if not is_record(text):
        return ""
    found = _tags(text)
    tags = {name: value for name, value in reversed(found) if value}
    for name in _unknown_policies(found):
        tags[name] = "none"
    if len(found) == len(tags) and "p" in tags and not _unknown_policies(found):
        return text
    version, policy = tags.pop("v"), tags.pop("p", "none")
    first = dict.fromkeys(name for name, _ in found if name in tags)
    return _text([("v", version), ("p", policy), *((name, tags[name]) for name in first)])


def mistakes(published: Sequence[str], wanted: str, domain: str) -> list[Mistake]:
    """What is wrong with the TXT values at _dmarc that are, or were to be, policy records."""
    parted = texts.parted(published, wanted)
    if parted:
        return [parted]
    meant = [one for one in published if is_meant(one)]
    count = sum(map(is_record, meant))
    if count > 1:
        what = f"{count} DMARC records share one name, so none of them counts (RFC 9989 section 4.10)"
        return [Mistake("fault", "several-records", what, wanted)]
    return [one for value in meant for one in list(_mistakes(value, wanted, domain))[:1]]


def same(published: str, wanted: str) -> bool:
    """Whether two records say the same, in whatever order and case."""
    return is_record(published) and _normal(published) == _normal(wanted)


def _mistakes(published: str, wanted: str, domain: str) -> Iterator[Mistake]:
    mangled = texts.mangled(published, wanted, right=same(published, wanted)) or texts.cut(published, wanted)
    if mangled:
        yield mangled
    if not is_record(published):
        yield Mistake("fault", "version", _version(published), wanted)
        return
    found = _tags(published)
    names = [name for name, _ in found]
    try:
        record = None if _unknown_policies(found) else parse(domain, published)
    except RecordError:
        record = None
    if record is None:
        yield Mistake("fault", "policy", "p=, sp= or np= is none of none, quarantine and reject", wanted)
        return
    yield from (Mistake(level, code, what, wanted) for level, code, what in _of_names(names, record))
    if any(_NO_SCHEME.fullmatch(one.strip()) for one in record.rua.split(",") if one.strip()):
        what = "an address in rua= lacks mailto:, so nobody sends reports there"
        yield Mistake("fault", "no-mailto", what, _with_scheme(published))
    old = [one for one in REMOVED if one in names]
    if old:
        tags = ", ".join(f"{one}=" for one in old)
        what = f"{tags} {'was' if len(old) == 1 else 'were'} removed from DMARC, and receivers ignore it (RFC 9989)"
        yield Mistake(
            "warning", "removed-tags", what, _text((name, text) for name, text in found if name not in REMOVED)
        )
    if record.testing and dict(_tags(wanted)).get("t") != "y":
        what = "t=y asks receivers for one level less than p= says: it is the test mode"
        yield Mistake("warning", "test-mode", what, _text((name, text) for name, text in found if name != "t"))
    yield from _of_policy(published, wanted, domain)


def _of_names(names: Sequence[str], record: Record) -> Iterator[tuple[Level, str, str]]:
    """What is wrong with the tags that are there, and that are not, whatever their values."""
    for name in sorted({one for one in names if names.count(one) > 1}):
        yield "fault", "tag-twice", f"{name}= is there twice, and receivers take either"
    if "p" not in names and ":" in record.rua:
        yield "warning", "no-policy", "the record has no p=, so receivers take p=none (RFC 9989 section 4.10.1)"
    elif "p" not in names:
        yield "fault", "no-policy", "the record has no p=, so it asks for nothing"


def _of_policy(published: str, wanted: str, domain: str) -> Iterator[Mistake]:
    theirs, ours = parse(domain, published), parse(domain, wanted)
    if theirs.p != ours.p:
        what = f"the record asks for p={theirs.p}, and the settings for p={ours.p} ({PREFIX}DMARC_POLICY)"
        yield Mistake("warning", "another-policy", what, wanted)
    meant, said = _effective(ours), _effective(theirs)
    # What the settings do not name is the zone's own business.
    for name in (one for one, _ in _tags(wanted) if theirs.p == ours.p and one in meant and said[one] != meant[one]):
        what = f"the record means {name}={said[name]}, and the settings {name}={meant[name]} ({PREFIX}DMARC_RECORD)"
        yield Mistake("warning", "another-tag", what, wanted)
    for tag in ("rua", "ruf"):
        named, there = (_addresses(dict(_tags(one)).get(tag, "")) for one in (wanted, published))
        missing = [one for one in named if one not in there]
        if missing:
            yield Mistake("warning", "no-reports", f"{tag}= does not name {', '.join(missing)}", wanted)


def _effective(record: Record) -> dict[str, str]:
    """What receivers take where a tag is not there (RFC 9989 section 4.7)."""
    sp = record.sp or record.p
    found = {"sp": sp, "np": record.np or sp, "adkim": record.adkim, "aspf": record.aspf, "psd": record.psd}
    return found | {"t": "y" if record.testing else "n", "fo": record.fo}


def _version(published: str) -> str:
    if re.match(r"\s*v\s*=\s*DMARC1\s*,", published, re.IGNORECASE):
        return "the tags are separated by commas; semicolons separate them"
    if re.search(r";\s*v\s*=\s*DMARC1", published, re.IGNORECASE):
        return "v=DMARC1 is not the first tag, so it is no DMARC record"
    if re.match(r"v\s*=\s*dmarc1", published, re.IGNORECASE):
        return "the version is not written DMARC1, in upper case and before a semicolon, so it is no DMARC record"
    return "the record does not begin with v=DMARC1, so it is no DMARC record"


def _tags(text: str) -> list[tuple[str, str]]:
    pairs = (part.partition("=") for part in text.split(";") if part.strip())
    return [(name.strip(_WHITE).lower(), value.strip(_WHITE)) for name, _, value in pairs]


def _unknown_policies(tags: Iterable[tuple[str, str]]) -> list[str]:
    """The tags whose policy does not exist: receivers take p=none, and that only if they are asked for reports."""
    return [name for name, value in tags if name in {"p", "sp", "np"} and value.lower() not in get_args(Policy)]


def _text(tags: Iterable[tuple[str, str]]) -> str:
    return "; ".join(f"{name}={value}" for name, value in tags)


def _with_scheme(published: str) -> str:
    def fixed(value: str) -> str:
        addresses = (one.strip() for one in value.split(","))
        return ",".join(f"mailto:{one}" if _NO_SCHEME.fullmatch(one) else one for one in addresses)

    return _text((name, fixed(value) if name in {"rua", "ruf"} else value) for name, value in _tags(published))


def _addresses(rua: str) -> list[str]:
    return [one.strip().lower() for one in rua.split(",") if one.strip()]


def _normal(text: str) -> dict[str, object]:
    return {name: sorted(_addresses(value)) if name in {"rua", "ruf"} else value.lower() for name, value in _tags(text)}
