"""DMARC (RFC 9989): policy records, how they are found, organisational domains and alignment.

Every look-up is one for the TXT records at _dmarc and a domain, or whether a name exists.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, Protocol

Policy = Literal["none", "quarantine", "reject"]
Psd = Literal["y", "n", "u"]

# RFC 9989 section 4.10: so many labels remain after the first step, for at most eight look-ups.
MAX_LABELS = 7
# No honest record is longer; in octets.
MAX_RECORD = 4096

_VERSION = re.compile(r"[vV][ \t]*=[ \t]*DMARC1[ \t]*(?:;|$)")
_TAG = re.compile(r"([A-Za-z]++)[ \t]*+=[ \t]*+([ -:<-~]*+)")
# At least a scheme; which ones are reported to is the reporter's business.
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[^,\s]+")
_POLICIES: Mapping[str, Policy] = {"none": "none", "quarantine": "quarantine", "reject": "reject"}
# Test mode: one level below (section 4.7, tag "t").
_TESTED: Mapping[Policy, Policy] = {"reject": "quarantine", "quarantine": "none", "none": "none"}


class RecordError(Exception):
    """A policy record that cannot be used. It says so as a permanent error (section 9.2)."""

    def __init__(self, domain: str, psd: Psd) -> None:
        super().__init__(f"the DMARC record of {domain} has no valid policy")
        # What it says of the tree counts nevertheless.
        self.psd = psd


class Lookups(Protocol):
    """Where records come from. Both raise an error of their own when DNS gives no answer."""

    async def texts(self, name: str) -> list[bytes]:
        """The TXT records at a name, the strings of each one joined."""

    async def exists(self, name: str) -> bool:
        """Whether there is such a name: everything but NXDOMAIN (RFC 8020)."""


@dataclass(frozen=True)
class Record:
    """A policy record. Tags that RFC 9989 has removed (pct, rf, ri) are ignored like unknown ones."""

    domain: str
    p: Policy
    sp: Policy | None
    np: Policy | None
    adkim: Literal["r", "s"]
    aspf: Literal["r", "s"]
    psd: Psd
    testing: bool
    fo: str
    rua: str


def is_record(text: str) -> bool:
    """Whether a TXT value is a policy record, be it a valid one or not (section 4.10): its version says so."""
    return len(text) <= MAX_RECORD and _VERSION.match(text) is not None


@lru_cache(256)
def parse(domain: str, text: str) -> Record:
    """A policy record that was found for a domain, of at most MAX_RECORD octets. Raises RecordError."""
    tags: dict[str, str] = {}
    for part in text.split(";"):
        match = _TAG.fullmatch(part.strip(" \t"))
        # What is broken is ignored, and of two tags the first counts (section 4.8).
        if match:
            tags.setdefault(match[1].lower(), match[2])
    values = {name: value.lower() for name, value in tags.items()}
    wanted = [values[name] for name in ("p", "sp", "np") if name in values]
    rua = tags.get("rua", "")
    psd: Psd = "y" if values.get("psd") == "y" else "n" if values.get("psd") == "n" else "u"
    if any(one not in _POLICIES for one in wanted):
        # Section 4.10.1.
        if not any(_URI.fullmatch(one.strip()) for one in rua.split(",")):
            raise RecordError(domain, psd)
        values |= {"p": "none", "sp": "none", "np": "none"}
    return Record(
        domain=domain,
        p=_POLICIES[values.get("p", "none")],
        sp=_POLICIES.get(values.get("sp", "")),
        np=_POLICIES.get(values.get("np", "")),
        adkim="s" if values.get("adkim") == "s" else "r",
        aspf="s" if values.get("aspf") == "s" else "r",
        psd=psd,
        testing=values.get("t") == "y",
        fo=values.get("fo", "0"),
        rua=rua,
    )


@dataclass(frozen=True)
class Published:
    """The record that applies to an author domain, and the policy that it has for it."""

    record: Record
    policy: Policy

    @property
    def applied(self) -> Policy:
        """The policy, after test mode."""
        return _TESTED[self.policy] if self.record.testing else self.policy


class Tree:
    """The DNS tree as one message needs it; each name is asked about once."""

    def __init__(self, lookups: Lookups) -> None:
        self._lookups = lookups
        self._records: dict[str, Record | RecordError | None] = {}
        self._unanswered: dict[str, Exception] = {}

    async def published(self, author: str) -> Published | None:
        """Policy discovery (section 4.10.1). Raises RecordError."""
        own = await self._record(author)
        if own is not None:
            return Published(_usable(own), _usable(own).p)
        walk = await self._walk(author)
        organisational = _organisational(author, walk)
        suffix = next((one for one in walk.values() if one.psd == "y"), None)
        found = walk.get(organisational, suffix)
        if found is None:
            return None
        record = _usable(found)
        if record.np is not None and not await self._lookups.exists(author):
            return Published(record, record.np)
        return Published(record, record.sp or record.p)

    async def aligned(self, author: str, identifier: str, mode: Literal["r", "s"]) -> bool:
        """Whether an authenticated identifier aligns with the author domain (section 4.10.2)."""
        if author == identifier:
            return True
        if mode == "s" or author.rpartition(".")[2] != identifier.rpartition(".")[2]:
            return False
        if await self._joined(author, identifier):
            return True
        return await self.organisational(author) == await self.organisational(identifier)

    async def _joined(self, one: str, other: str) -> bool:
        """Whether two names have one organisational domain, whatever the records above the nearest name over both say.

        They have if there is a record where their ways meet, and none before that ends one of them.
        """
        ways = _targets(one), _targets(other)
        meeting = next((name for name in ways[0] if name in ways[1]), None)
        if meeting is None:
            return False
        for way in ways:
            for name in way[: way.index(meeting)]:
                record = await self._record(name)
                if record is not None and record.psd in {"y", "n"}:
                    return False
        record = await self._record(meeting)
        return record is not None and record.psd != "y"

    async def organisational(self, domain: str) -> str:
        """The organisational domain of a domain."""
        return _organisational(domain, await self._walk(domain))

    async def _walk(self, start: str) -> dict[str, Record | RecordError]:
        """The records from a domain to the top (section 4.10), those with the most labels first."""
        found: dict[str, Record | RecordError] = {}
        for domain in _targets(start):
            record = await self._record(domain)
            if record is not None:
                found[domain] = record
                if record.psd in {"y", "n"}:
                    break
        return found

    async def _record(self, domain: str) -> Record | RecordError | None:
        if domain in self._unanswered:
            raise self._unanswered[domain]
        if domain not in self._records:
            try:
                answer = await self._lookups.texts(f"_dmarc.{domain}")
            except Exception as error:
                # The same question again would take as long again.
                self._unanswered[domain] = error
                raise
            texts = [one.decode("latin-1") for one in answer]
            found = [one for one in texts if is_record(one)]
            # Of several records none counts.
            self._records[domain] = _parsed(domain, found[0]) if len(found) == 1 else None
        return self._records[domain]


def _targets(start: str) -> list[str]:
    labels = start.split(".")
    rest = labels[1:] if len(labels) <= MAX_LABELS else labels[-MAX_LABELS:]
    return [start, *(".".join(rest[at:]) for at in range(len(rest)))]


def _organisational(start: str, walk: Mapping[str, Record | RecordError]) -> str:
    for domain, record in walk.items():
        if record.psd == "n":
            return domain
        if record.psd == "y" and domain != start:
            below = start.removesuffix(f".{domain}").rpartition(".")[2]
            return f"{below}.{domain}"
    return min(walk, key=lambda domain: domain.count("."), default=start)


def _parsed(domain: str, text: str) -> Record | RecordError:
    try:
        return parse(domain, text)
    except RecordError as error:
        return error


def _usable(found: Record | RecordError) -> Record:
    if isinstance(found, RecordError):
        raise found
    return found
