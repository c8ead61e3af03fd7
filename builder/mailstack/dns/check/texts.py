"""TXT records and the CNAMEs that lead to them: SPF, DKIM, DMARC."""

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import replace

from mailstack.dns.ask import Look
from mailstack.dns.check import servers
from mailstack.dns.check.evaluation import evaluated
from mailstack.dns.check.places import LABEL_MISSING, places
from mailstack.dns.check.wanted import Evidence, Purpose, Wanted, meant, mistakes
from mailstack.dns.findings import Finding, Level, Row
from mailstack.dns.mistakes import dkim
from mailstack.dns.mistakes.mistake import Mistake
from mailstack.dns.replies import Answer, Seen
from mailstack.keys.dkim import DkimKey

_KINDS = {"spf": "SPF", "dkim": "DKIM", "dmarc": "DMARC", "report": "DMARC report authorisation"}
_MAX_MISTAKES = 10
_ADD_BACK = "Add the include: terms of services that do send for you, as many as ten look-ups allow"


async def check(
    look: Look, wanted: Wanted, evidence: Evidence, ours: Mapping[Purpose, Collection[str]]
) -> list[Finding]:
    """All findings about one record; ours are the names of the site's own records by purpose."""
    seen = await look.see(wanted.row.name, "TXT")
    if seen.cname and seen.resolved.failure:
        # What does not validate is a finding of its own.
        seen = replace(seen, resolved=await look.resolve(wanted.row.name, "TXT", checked=False))
    unclear = servers.unanswered(seen, _level(wanted)) or await _beside(look, seen)
    if unclear:
        return [unclear]
    differing = await servers.by_stream(look, seen)
    if any(one.level == "fault" for one in differing):
        return differing
    groups = seen.groups().values()
    judged = await asyncio.gather(*(_of_answers(look, wanted, evidence, seen, answers) for answers in groups))
    by_group = list(zip(groups, judged, strict=True))
    if all(map(_missing, judged)):
        misplaced = await _misplaced(look, wanted, seen, ours[wanted.purpose])
        if misplaced:
            return misplaced
    return [*differing, *await servers.settled(look, seen, by_group)]


async def revoked(look: Look, key: DkimKey) -> list[Finding]:
    """Whether a revoked key is still published. That its record is gone is as well as that it says so."""
    seen = await look.see(key.name, "TXT")
    groups = [(values, answers) for answers in seen.groups().values() if (values := answers[0].values)]
    old = [(values, answers) for values, answers in groups if any(dkim.has_key(one) for one in values)]
    what = "the record still has a key, which is revoked and destroyed"
    return [
        Finding(
            "fault",
            "not-revoked",
            key.name,
            "TXT",
            what,
            values,
            seen.where(answers),
            tuple(Row(key.name, "TXT", one) for one in values),
            (Row(key.name, "TXT", key.record),),
        )
        for values, answers in old
    ]


def _missing(found: list[Finding]) -> bool:
    return any(one.code == "missing" for one in found)


async def _of_answers(
    look: Look, wanted: Wanted, evidence: Evidence, seen: Seen, answers: list[Answer]
) -> list[Finding]:
    """What is to be said of the record as some servers have it, who say the same."""
    row, where, cname = wanted.row, seen.where(answers), answers[0].cname
    published = seen.values if cname else answers[0].values
    if cname and not published:
        return [_unknown(wanted, cname, seen) if seen.resolved.failure else _dangling(wanted, cname, where)]
    values = meant(wanted, published)
    if not values:
        return [_none(wanted, published, where)]
    wrong, more = mistakes(wanted, values, evidence), ""
    # The resolver is asked for what the record includes.
    if wanted.purpose == "spf" and len(values) == 1 and not seen.resolved.failure:
        wrong, more = await evaluated(look, wanted, evidence, values[0], wrong)
    if not wrong:
        via = f" (CNAME {cname})" if cname else more
        return [Finding("fine", "fine", row.name, "TXT", f"{_KINDS[wanted.purpose]} is right{via}", where=where)]
    if cname and cname == row.value:
        # The record at its end is a row of its own.
        return [Finding("fine", "fine", row.name, "CNAME", f"{_KINDS[wanted.purpose]} points to {cname}", where=where)]
    # Of a hostile record each term may be a mistake.
    return [_wrong(wanted, one, values, cname, where) for one in wrong[:_MAX_MISTAKES]]


def _wrong(wanted: Wanted, one: Mistake, values: tuple[str, ...], cname: str | None, where: tuple[str, ...]) -> Finding:
    row = wanted.row
    if one.value is None:
        by_hand = "Check again; if it stays, check the servers of what the record names"
        return Finding(one.level, one.code, row.name, "TXT", one.what, values, where, by_hand=by_hand)
    remove = (Row(row.name, "CNAME", cname),) if cname else tuple(Row(row.name, "TXT", value) for value in values)
    instead = row if one.value == wanted.text or cname else Row(row.name, "TXT", one.value)
    by_hand = _ADD_BACK if one.code in {"look-ups", "look-ups-included", "void-look-ups", "permerror"} else ""
    return Finding(one.level, one.code, row.name, "TXT", one.what, values, where, remove, (instead,), by_hand)


def _unknown(wanted: Wanted, cname: str, seen: Seen) -> Finding:
    what = f"the CNAME points to {cname}, of which the resolver {seen.resolved.failure}"
    by_hand = f"Check the zone of {cname}"
    return Finding("fault", "cname-unknown", wanted.row.name, "CNAME", what, where=seen.where(), by_hand=by_hand)


def _dangling(wanted: Wanted, cname: str, where: tuple[str, ...]) -> Finding:
    row = wanted.row
    what = f"the CNAME points to {cname}, where there is no TXT record"
    if row.type == "CNAME" and cname == row.value:
        by_hand = f"Publish the TXT record of {cname}, which is missing"
        return Finding("fault", "dangling-cname", row.name, "CNAME", what, where=where, by_hand=by_hand)
    remove = (Row(row.name, "CNAME", cname),)
    return Finding("fault", "dangling-cname", row.name, "CNAME", what, where=where, remove=remove, publish=(row,))


def _none(wanted: Wanted, published: tuple[str, ...], where: tuple[str, ...]) -> Finding:
    what = f"there is no {_KINDS[wanted.purpose]} record"
    if published:
        what += f", only {'another TXT record' if len(published) == 1 else 'other TXT records'}"
    row = wanted.row
    return Finding(_level(wanted), "missing", row.name, row.type, what, where=where, publish=(row,))


def _level(wanted: Wanted) -> Level:
    """Without a receiver's consent only reports are missing, and its zone may be another's."""
    return "warning" if wanted.purpose == "report" else "fault"


async def _beside(look: Look, seen: Seen) -> Finding | None:
    """A CNAME beside other records: resolvers take either (RFC 1034 section 3.6.2)."""
    if not any(one.values for one in seen.good):
        return None
    cname = (await look.see(seen.name, "CNAME")).values
    values = tuple(dict.fromkeys(value for one in seen.good for value in one.values))
    if not cname or (seen.cname and not any(one.beside for one in seen.good)):
        return None
    return Finding(
        "fault",
        "cname-beside",
        seen.name,
        "CNAME",
        f"a CNAME to {cname[0]} and TXT records share one name; resolvers take either",
        found=values,
        where=seen.where(),
        remove=tuple(Row(seen.name, "CNAME", one) for one in cname),
    )


async def _misplaced(look: Look, wanted: Wanted, seen: Seen, ours: Collection[str]) -> list[Finding]:
    """The wrong names at which the record lies."""
    row = wanted.row
    for place in places(row.name, seen.zone or wanted.domain, ours):
        there = await look.see(place.name, "TXT")
        held = tuple(one for one in there.values if _is_it(wanted, one, exactly=place.code == LABEL_MISSING))
        if there.cname and (held or there.cname == row.value):
            held = (there.cname,)
        if held:
            what = f"the record lies at {place.name}: {place.what}"
            kind = "CNAME" if there.cname else "TXT"
            # The zone above may have a record of its own, which only looks like this one.
            remove = () if place.code == LABEL_MISSING else tuple(Row(place.name, kind, one) for one in held)
            where = there.where()
            return [Finding("fault", place.code, row.name, row.type, what, held, where, remove, (row,))]
    return []


def _is_it(wanted: Wanted, value: str, *, exactly: bool) -> bool:
    """Whether a value elsewhere is the record that is missed, or was to be."""
    if exactly or wanted.purpose == "dkim":
        return wanted.has(value)
    return bool(meant(wanted, [value]))
