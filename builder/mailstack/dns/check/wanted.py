"""The records that a site needs, each with the TXT value that is to be found at its end."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from mailstack.dns.findings import Row
from mailstack.dns.mistakes import dkim, dmarc, spf
from mailstack.dns.mistakes.mistake import Mistake
from mailstack.dns.records import Record
from mailstack.values.network import Address

Purpose = Literal["spf", "dkim", "dmarc", "report"]


@dataclass(frozen=True)
class Wanted:
    """A record of `dns records`; text is the value at its end, behind a CNAME if it is one."""

    row: Row
    purpose: Purpose
    text: str
    domain: str

    def has(self, value: str) -> bool:
        """Whether a TXT value says what is wanted, in whatever spelling."""
        same = {"spf": spf.same, "dkim": dkim.same}.get(self.purpose, dmarc.same)
        return same(value, self.text)


@dataclass(frozen=True)
class Evidence:
    """What else a text is checked against: the site's keys by p=, with their names, and the addresses it sends from.

    relayed are the domains whose mail leaves by a relay host, and not from these addresses.
    """

    keys: Mapping[str, str]
    addresses: tuple[Address, ...]
    relayed: frozenset[str] = frozenset()


def texts(rows: Sequence[Record]) -> list[Wanted]:
    """The rows that are, or lead to, TXT records."""
    found = {one.name: one for one in rows if one.type in {"TXT", "CNAME"}}
    return [Wanted(row(one), _purpose(name), _text(one, found), _domain(name)) for name, one in found.items()]


def row(record: Record) -> Row:
    """A record as it is to be typed: names in values without the final dot."""
    value = record.value if record.type == "TXT" else record.value.removesuffix(".")
    return Row(record.name, record.type, value)


def mistakes(wanted: Wanted, published: Sequence[str], evidence: Evidence) -> list[Mistake]:
    """What is wrong with the TXT values at a name."""
    if wanted.purpose == "spf":
        return spf.mistakes(published, wanted.text, wanted.domain, evidence.addresses)
    if wanted.purpose == "dkim":
        return dkim.mistakes(published, wanted.text, wanted.domain, evidence.keys)
    if wanted.purpose == "dmarc":
        return dmarc.mistakes(published, wanted.text, wanted.domain)
    return []


def meant(wanted: Wanted, published: Iterable[str]) -> tuple[str, ...]:
    """The values at a name that are, or were to be, of this purpose; at a domain there are others."""
    if wanted.purpose == "spf":
        return tuple(one for one in published if spf.is_meant(one))
    if wanted.purpose == "dkim":
        return tuple(published)
    return tuple(one for one in published if dmarc.is_meant(one))


def _purpose(name: str) -> Purpose:
    if "._report._dmarc." in name:
        return "report"
    if name.startswith("_dmarc."):
        return "dmarc"
    return "dkim" if "._domainkey." in name else "spf"


def _domain(name: str) -> str:
    """The mail domain that a name is about."""
    if "._report._dmarc." in name:
        return name.partition("._report._dmarc.")[0]
    return name.partition("._domainkey.")[2] or name.removeprefix("_dmarc.")


def _text(record: Record, by_name: Mapping[str, Record]) -> str:
    """The value at the end of the CNAMEs, of which none leads out of the site."""
    while record.type == "CNAME":
        record = by_name[record.value.removesuffix(".")]
    return record.value
