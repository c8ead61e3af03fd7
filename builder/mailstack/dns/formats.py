"""Records as people need them: a zone fragment, values for web forms, JSON for programs."""

import json
from collections.abc import Iterable
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
    if record.type == "TXT":
        value = record.value.encode("ascii")
        strings = [value[at : at + MAX_STRING] for at in range(0, len(value), MAX_STRING)]
        return dns.rdtypes.ANY.TXT.TXT(dns.rdataclass.IN, dns.rdatatype.TXT, strings)
    return dns.rdata.from_text("IN", record.type, record.value)


def zone_fragment(records: Iterable[Record]) -> str:
    """Lines for a zone file (RFC 1035 section 5); every name is absolute, so they fit below any $ORIGIN."""
    lines = []
    for why, group in groupby(records, key=lambda record: record.why):
        lines.append(f"; {why}")
        lines += [f"{record.name}. {TTL} IN {record.type} {rdata(record).to_text()}" for record in group]
    return "\n".join(lines) + "\n"


def one_line_values(records: Iterable[Record]) -> str:
    """For web forms: the name relative to the zone and the value, without quotes, brackets, backslashes or breaks."""
    blocks = [
        f"{record.why}\n"
        f"  full   {record.name}\n"
        f"  zone   {record.zone}\n  name   {record.label}\n  type   {record.type}\n  value  {record.value}\n"
        for record in records
    ]
    return "\n".join(blocks)


def as_json(records: Iterable[Record]) -> str:
    """A list of objects; "strings" is there for TXT only."""
    rows = []
    for record in records:
        row: dict[str, object] = {
            "name": f"{record.name}.",
            "type": record.type,
            "value": record.value,
            "zone": f"{record.zone}.",
            "label": record.label,
            "why": record.why,
        }
        data = rdata(record)
        if isinstance(data, dns.rdtypes.ANY.TXT.TXT):
            row["strings"] = [string.decode("ascii") for string in data.strings]
        rows.append(row)
    return json.dumps(rows, indent=2) + "\n"
