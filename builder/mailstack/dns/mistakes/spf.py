"""Mistakes in SPF records (RFC 7208), and the record that mends them.

Every mistake of a record has the same remedy: all that the record allows and that makes sense, what this site needs,
and one 'all' at the end.
"""

import ipaddress
import re
from collections.abc import Collection, Iterator, Sequence

from mailstack.dns.findings import Level
from mailstack.dns.mistakes import texts
from mailstack.dns.mistakes.mistake import Mistake
from mailstack.values.network import Address
from mailstack.values.spf import MAX_LOOKUPS, Term, spf_record, terms

_RECORD = re.compile(r"v=spf1(?: |$)", re.IGNORECASE)
_LIKE_A_RECORD = re.compile(r"v\s*=\s*spf1|^\s*spf1\b|\bspf1\s+(?:mx|a|ip4:)", re.IGNORECASE)
_ASKING = ("include", "a", "mx", "ptr", "exists", "redirect")
# Wider networks are nobody's own.
_EVERYBODY = re.compile(r"(?:[/]|//)0+(?:$|//)")


def is_record(text: str) -> bool:
    """Whether a TXT value is an SPF record (section 4.5)."""
    return _RECORD.match(text) is not None


def is_meant(text: str) -> bool:
    """Whether a TXT value is, or was to be, a SPF record."""
    return _LIKE_A_RECORD.search(text) is not None


def mistakes(published: Sequence[str], wanted: str, domain: str, addresses: Collection[Address]) -> list[Mistake]:
    """What is wrong with the TXT values of a domain that are, or were to be, SPF records.

    addresses are those from which this site sends.
    """
    meant = [one for one in published if is_meant(one)]
    records = [one for one in meant if is_record(one)]
    if len(records) > 1:
        what = f"{len(records)} SPF records share one name, so SPF has the result permerror; merged they are one"
        return [Mistake("fault", "several-records", what, merged(records, wanted, domain, addresses))]
    found = []
    for value in meant:
        found += list(_mistakes(value, wanted, domain, addresses))
    return found


def same(published: str, wanted: str) -> bool:
    """Whether two records have the same terms in the same order."""
    return is_record(published) and [one.text for one in terms(published)] == [one.text for one in terms(wanted)]


def merged(records: Sequence[str], wanted: str, domain: str, addresses: Collection[Address]) -> str:
    """One record that allows what several do, and what is wanted, as the wanted one ends."""
    kept: list[str] = []
    ends = [words for record in (wanted, *records) for words in record.split()[1:] if _term(words).name == "all"]
    several = len(records) > 1
    for record in records:
        whole = any(one.name == "all" for one in terms(record))
        for word in record.split()[1:]:
            term = _term(word)
            if term.name == "redirect":
                # It counts where there is no 'all' (section 6.1), and one record has it at the most.
                kept += [] if whole else [f"include:{term.value}" if several else word]
            elif _keeps(word, term):
                kept.append(word)
    kept += _missing(kept, wanted, domain, addresses)
    words = list({word.lower(): word for word in kept}.values())
    if any(_term(one).name == "redirect" for one in words):
        return " ".join(["v=spf1", *words])
    end = next((one for one in ends if _term(one).qualifier in {"-", "~"}), "~all")
    return _short(words, wanted, end, addresses)


def _short(words: Sequence[str], wanted: str, end: str, addresses: Collection[Address]) -> str:
    """A record of words with no more look-ups than there may be: of the site's own addresses first, then its alone."""
    record = " ".join(["v=spf1", *words, end])
    if _lookups(record) > MAX_LOOKUPS and addresses:
        own = [f"ip{one.version}:{one}" for one in addresses]
        rest = [one for one in words if one.lower() not in {"a", "mx", "+a", "+mx", *own}]
        record = " ".join(["v=spf1", *own, *rest, end])
    return record if _lookups(record) <= MAX_LOOKUPS else wanted


def _mistakes(published: str, wanted: str, domain: str, addresses: Collection[Address]) -> Iterator[Mistake]:
    if same(published, wanted):
        return
    mended = merged([texts.unescaped(published)], wanted, domain, addresses)
    mangled = texts.mangled(published, mended, right=same(published, mended))
    if not mangled and len(published) == texts.MAX_STRING:
        mangled = texts.cut(published, wanted)
    if mangled:
        yield Mistake(mangled.level, mangled.code, mangled.what, mended)
        return
    if not is_record(published):
        what = "the value does not begin with 'v=spf1 ', so it is no SPF record"
        yield Mistake("fault", "version", what, merged([], wanted, domain, addresses))
        return
    missing = _missing(_before_all(published)[1:], wanted, domain, addresses)
    named = [*_of_terms(published), *_of_order(published, missing)]
    yield from (Mistake(level, code, what, mended) for level, code, what in named)
    if any(level == "fault" for level, _, _ in named):
        return
    try:
        spf_record(" ".join(_before_all(published)))
    except ValueError as error:
        yield Mistake("fault", "invalid", f"receivers refuse the record: it {error}", mended)


_Named = tuple[Level, str, str]


def _of_terms(record: str) -> Iterator[_Named]:
    """What is wrong with single terms."""
    for term in terms(record):
        if term.name == "all" and term.qualifier == "+":
            yield "fault", "plus-all", f"{term.text} lets every host of the Internet send in this name"
        elif _is_everybody(term):
            yield "fault", "slash-zero", f"{term.text} lets every host of the Internet send in this name"
        elif term.name == "ptr":
            yield "warning", "ptr", f"{term.text} is slow, and some receivers ignore it (section 5.5): name addresses"
        elif term.name == "all" and term.qualifier == "?":
            yield "warning", "neutral-all", "?all says nothing of other hosts; end with ~all or -all"


def _of_order(record: str, missing: Sequence[str]) -> Iterator[_Named]:
    """What is wrong with the terms together."""
    found = terms(record)
    names = [one.name for one in found]
    count = _lookups(record)
    if count > MAX_LOOKUPS:
        what = f"{count} terms need look-ups; with more than {MAX_LOOKUPS} the result is permerror (section 4.6.4)"
        yield "fault", "look-ups", what
    after = found[names.index("all") + 1 :] if "all" in names else ()
    ignored = ", ".join(one.text for one in after if one.name != "redirect")
    if ignored:
        what = f"what follows 'all' is ignored: {ignored} (section 5.1)"
        yield "fault" if missing else "warning", "after-all", what
    elif missing:
        own = all(_term(one).name in {"a", "mx", "ip4", "ip6"} for one in missing)
        what = f"the record does not have {' '.join(missing)}, so mail of this site fails SPF"
        yield "fault", "not-allowed" if own else "term-missing", what
    if "all" in names and "redirect" in names:
        yield "warning", "redirect-beside-all", "redirect= has no effect beside 'all' (section 6.1)"
    if "all" not in names and "redirect" not in names:
        yield "warning", "no-all", "the record says nothing of other hosts; it ends with ~all or -all"


def _before_all(record: str) -> list[str]:
    """The words that receivers read."""
    words = record.split()
    at = next((at for at, word in enumerate(words) if at and _term(word).name == "all"), len(words))
    return words[: at + 1]


def _missing(words: Sequence[str], wanted: str, domain: str, addresses: Collection[Address]) -> list[str]:
    """The terms of the wanted record that some words lack."""
    there = [_term(word) for word in words]
    pairs = [(word, _term(word)) for word in wanted.split()[1:]]
    return [word for word, term in pairs if term.name != "all" and not _has(there, term, domain, addresses)]


def _has(there: Sequence[Term], term: Term, domain: str, addresses: Collection[Address]) -> bool:
    """Whether a term, or what it means here, is among others; 'mx' and 'a' mean the site's addresses."""
    if _normal(term, domain) in {_normal(one, domain) for one in there}:
        return True
    networks = [network for one in there if one.qualifier == "+" and (network := _network(one))]
    own = _network(term)
    meant = [own] if own else [ipaddress.ip_network(one) for one in addresses if term.name in {"a", "mx"}]
    if not term.value and term.name in {"a", "mx"} and not meant:
        return False
    return bool(meant) and all(any(_within(one, network) for network in networks) for one in meant)


def _within(one: ipaddress.IPv4Network | ipaddress.IPv6Network, other: object) -> bool:
    return type(one) is type(other) and one.subnet_of(other)  # type: ignore[arg-type]


def _network(term: Term) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    if term.name not in {"ip4", "ip6"}:
        return None
    try:
        return ipaddress.ip_network(term.value, strict=False)
    except ValueError:
        return None


def _normal(term: Term, domain: str) -> tuple[str, str, str]:
    """A term in one spelling: 'mx:example.com' of example.com is 'mx', a network of one address is that address."""
    network = _network(term)
    value = str(network) if network else term.value.removesuffix(".")
    if term.name in {"a", "mx"} and value == domain:
        value = ""
    return term.qualifier, term.name, value


def _keeps(word: str, term: Term) -> bool:
    """Whether a word goes into a mended record."""
    if term.name in {"all", "ptr"} or _is_everybody(term):
        return False
    try:
        spf_record(f"v=spf1 {word}")
    except ValueError:
        return False
    return True


def _is_everybody(term: Term) -> bool:
    return term.qualifier == "+" and term.name in {"ip4", "ip6", "a", "mx"} and bool(_EVERYBODY.search(term.text))


def _lookups(record: str) -> int:
    """The terms of the text itself that need look-ups."""
    names = [_term(word).name for word in _before_all(record)[1:]]
    return sum(name in _ASKING and not (name == "redirect" and "all" in names) for name in names)


def _term(word: str) -> Term:
    return terms(f"v=spf1 {word}")[0]
