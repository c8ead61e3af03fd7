"""Records as people need them: a zone fragment, values for web forms, JSON for programs."""

import json
from collections.abc import Iterable, Mapping
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


def _place(record: Record, zones: Mapping[str, str]) -> tuple[str, str, bool]:
    """The zone of a record, its name there as web forms want it, and whether that is a guess.

    '@' is the zone itself. No guess says that: in the zone above it would be another name.
    """
    zone = zones.get(record.domain, record.widest)
    guess = record.domain not in zones
    if record.name == zone:
        return zone, record.name if guess else "@", guess
    return zone, record.name.removesuffix(f".{zone}"), guess


def zone_fragment(records: Iterable[Record]) -> str:
    """Lines for a zone file (RFC 1035 section 5); every name is absolute, so they fit below any $ORIGIN."""
    lines = []
    for why, group in groupby(records, key=lambda record: record.why):
        lines.append(f"; {why}")
        lines += [
            f"{record.name}. {TTL} IN {record.type} {_presentation(record.type, record.value)}" for record in group
        ]
    return "\n".join(lines) + "\n"


def one_line_values(records: Iterable[Record], zones: Mapping[str, str]) -> str:
    """For web forms: the name relative to the zone and the value, without quotes, brackets, backslashes or breaks."""
    blocks = []
    for record in records:
        zone, label, guess = _place(record, zones)
        blocks.append(
            f"{record.why}\n"
            f"  full   {record.name}\n"
            f"  zone   {zone}{' (a guess: DNS did not name the zone)' if guess else ''}\n"
            f"  name   {label}\n  type   {record.type}\n  value  {record.value}\n"
        )
    return "\n".join(blocks)


def as_json(records: Iterable[Record], zones: Mapping[str, str]) -> str:
    """A list of objects; TXT records have "strings" as well."""
    rows = []
    for record in records:
        zone, label, guess = _place(record, zones)
        row: dict[str, object] = {
            "name": f"{record.name}.",
            "type": record.type,
            "value": record.value,
            "zone": f"{zone}.",
            "zone_is_a_guess": guess,
            "label": label,
            "why": record.why,
        }
        data = rdata(record)
        if isinstance(data, dns.rdtypes.ANY.TXT.TXT):
            row["strings"] = [string.decode("ascii") for string in data.strings]
        rows.append(row)
    return json.dumps(rows, indent=2) + "\n"
