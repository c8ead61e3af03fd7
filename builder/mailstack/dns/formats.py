"""Records as people and programs take them: zone lines, values for web forms, JSON, octoDNS's YAML, CSV."""

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby

import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.ANY.TXT

from mailstack.dns.records import Record

# RFC 1035 section 3.3.14: a character-string holds at most 255 octets.
MAX_STRING = 255
TTL = 3600
# RFC 2181 section 8: 31 bits.
MAX_TTL = 2**31 - 1
_A_GUESS = "a guess: DNS did not name the zone"


@dataclass(frozen=True)
class Placed:
    """A record in its zone, with its name there as web forms want it: "@" is the zone itself.

    No guess says "@": in the zone above, the name would be another one.
    """

    record: Record
    zone: str
    guess: bool

    @property
    def relative(self) -> str:
        """The name in its zone, empty for the zone itself."""
        return "" if self.record.name == self.zone else self.record.name.removesuffix(f".{self.zone}")

    @property
    def label(self) -> str:
        """The name as a form takes it."""
        return self.relative or (self.zone if self.guess else "@")

    @property
    def priority(self) -> int | None:
        """Of an MX record; web forms have a field for it."""
        return int(self.record.value.partition(" ")[0]) if self.record.type == "MX" else None

    @property
    def target(self) -> str:
        """The value without its priority."""
        return self.record.value.partition(" ")[2] if self.record.type == "MX" else self.record.value


def placed(records: Iterable[Record], zones: Mapping[str, str] | None) -> tuple[Placed, ...]:
    """The records by zone, in the order in which the zones come; zones has those that DNS named, by domain.

    None: DNS was not asked, so that nothing is known of the zones, and nothing said.
    """
    by_zone: dict[str, list[Placed]] = {}
    for record in records:
        zone = (zones or {}).get(record.domain, record.widest)
        guess = zones is not None and record.domain not in zones
        by_zone.setdefault(zone, []).append(Placed(record, zone, guess))
    return tuple(one for group in by_zone.values() for one in group)


def rdata(record: Record) -> dns.rdata.Rdata:
    """The record's data; a TXT value is cut into character-strings, which readers join again (RFC 7208 section 3.3)."""
    return _rdata(record.type, record.value)


# Of ten thousand domains most records have the same few values.
@lru_cache
def _rdata(kind: str, text: str) -> dns.rdata.Rdata:
    if kind == "TXT":
        value = text.encode("ascii")
        strings = [value[at : at + MAX_STRING] for at in range(0, len(value), MAX_STRING)]
        return dns.rdtypes.ANY.TXT.TXT(dns.rdataclass.IN, dns.rdatatype.TXT, strings)
    return dns.rdata.from_text("IN", kind, text)


@lru_cache
def _presentation(kind: str, text: str) -> str:
    return _rdata(kind, text).to_text()


def zone_fragment(rows: Sequence[Placed], ttl: int = TTL) -> str:
    """Lines for a zone file (RFC 1035 section 5); every name is absolute, so they fit below any $ORIGIN."""
    blocks = [(zone, list(group)) for zone, group in groupby(rows, key=lambda one: one.zone)]
    lines = []
    for zone, block in blocks:
        if len(blocks) > 1 or block[0].guess:
            lines.append(f"; zone {zone}{f' ({_A_GUESS})' if block[0].guess else ''}")
        for why, group in groupby(block, key=lambda one: one.record.why):
            lines.append(f"; {why}")
            lines += [
                f"{one.record.name}. {ttl} IN {one.record.type} {_presentation(one.record.type, one.record.value)}"
                for one in group
            ]
    return "".join(f"{line}\n" for line in lines)


def comments(texts: Iterable[str]) -> str:
    """What must exist beside the records, as comments of a zone file."""
    return "".join(f"; {one}\n" for one in texts)


def one_line_values(rows: Sequence[Placed], ttl: int = TTL) -> str:
    """For web forms: the name relative to the zone and the value, without quotes, brackets, backslashes or breaks."""
    blocks = []
    for one in rows:
        priority = "" if one.priority is None else f"  priority {one.priority}\n"
        blocks.append(
            f"{one.record.why}\n"
            f"  full     {one.record.name}\n"
            f"  zone     {one.zone}{f' ({_A_GUESS})' if one.guess else ''}\n"
            f"  name     {one.label}\n"
            f"  type     {one.record.type}\n"
            f"  ttl      {ttl}\n"
            f"{priority}"
            f"  value    {one.target}\n"
        )
    return "\n".join(blocks)


def as_json(rows: Sequence[Placed], ttl: int = TTL) -> str:
    """A list of objects; TXT records have "strings" as well, MX records "priority" and "target"."""
    return json.dumps([_object(one, ttl) for one in rows], indent=2) + "\n"


def _object(one: Placed, ttl: int) -> dict[str, object]:
    row: dict[str, object] = {
        "name": f"{one.record.name}.",
        "type": one.record.type,
        "value": one.record.value,
        "ttl": ttl,
        "zone": f"{one.zone}.",
        "zone_is_a_guess": one.guess,
        "label": one.label,
        "why": one.record.why,
    }
    data = rdata(one.record)
    if isinstance(data, dns.rdtypes.ANY.TXT.TXT):
        row["strings"] = [string.decode("ascii") for string in data.strings]
    if one.priority is not None:
        row |= {"priority": one.priority, "target": one.target}
    return row


def as_csv(rows: Sequence[Placed], ttl: int = TTL) -> str:
    """A table with a head, as programs read it (RFC 4180; Terraform's csvdecode); the name "@" is the zone itself."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("zone", "name", "type", "ttl", "priority", "value", "zone_is_a_guess"))
    for one in rows:
        priority = "" if one.priority is None else one.priority
        guess = str(one.guess).lower()
        writer.writerow((one.zone, one.relative or "@", one.record.type, ttl, priority, one.target, guess))
    return text.getvalue()


def as_octodns(rows: Sequence[Placed], ttl: int = TTL) -> str:
    """Zones as octoDNS's YamlProvider reads them from files, each of which is a document with the file's name.

    Semicolons are escaped, which its option escaped_semicolons asks for, on by default before octoDNS 2.
    """
    documents = []
    for zone, group in groupby(rows, key=lambda one: one.zone):
        here = list(group)
        lines = [f"# {zone}.yaml{f' ({_A_GUESS})' if here[0].guess else ''}\n", "---\n"]
        names = groupby(sorted(here, key=lambda one: _natural(one.relative)), key=lambda one: one.relative)
        for name, records in names:
            lines.append(f"{json.dumps(name)}:\n")
            kinds = groupby(sorted(records, key=lambda one: one.record.type), key=lambda one: one.record.type)
            lines += [line for kind, same in kinds for line in _octodns_record(kind, list(same), ttl)]
        documents.append("".join(lines))
    return "".join(documents)


def _octodns_record(kind: str, rows: Sequence[Placed], ttl: int) -> Iterator[str]:
    """Keys in the order of the alphabet, which octoDNS asks for."""
    texts = [json.dumps(one.target.replace(";", "\\;") if kind == "TXT" else one.target) for one in rows]
    yield f"- ttl: {ttl}\n  type: {kind}\n"
    if kind == "CNAME":
        yield f"  value: {texts[0]}\n"
        return
    yield "  values:\n"
    for one, text in zip(rows, texts, strict=True):
        yield f"  - exchange: {text}\n    preference: {one.priority}\n" if kind == "MX" else f"  - {text}\n"


def _natural(name: str) -> list[tuple[int, str]]:
    """Sorts names as people do, numbers by their values."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]
