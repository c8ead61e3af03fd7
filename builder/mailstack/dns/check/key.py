"""Single DKIM keys: whether all name servers have them, under every name that leads to them."""

import asyncio
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

from mailstack.dns.ask import Look
from mailstack.dns.check import servers, texts
from mailstack.dns.check.wanted import Evidence, Purpose, Wanted
from mailstack.dns.check.wanted import texts as wanted_texts
from mailstack.dns.findings import Finding, Report
from mailstack.dns.records import records
from mailstack.dns.replies import Seen
from mailstack.keys.dkim import DkimKey
from mailstack.stack.model import Stack


async def check(look: Look, stack: Stack, keys: Collection[DkimKey]) -> dict[DkimKey, Report]:
    """What is wrong with the published records of some keys of a site; nothing, if each server has that very key."""
    names = defaultdict[DkimKey, set[str]](set)
    for one in stack.keys.published:
        names[one.key].add(one.name)
    wanted = {one.row.name: one for one in wanted_texts([one for one in records(stack) if "._domainkey." in one.name])}
    ours: Mapping[Purpose, Collection[str]] = {"dkim": wanted.keys()}
    evidence = Evidence({key.public: key.name for key in names}, ())
    of_keys = ([wanted[name] for name in sorted(names[key])] for key in keys)
    reports = await asyncio.gather(*(_of_one(look, rows, evidence, ours) for rows in of_keys))
    return dict(zip(keys, reports, strict=True))


async def _of_one(
    look: Look, wanted: Sequence[Wanted], evidence: Evidence, ours: Mapping[Purpose, Collection[str]]
) -> Report:
    found = await asyncio.gather(*(texts.check(look, one, evidence, ours) for one in wanted))
    seen = await asyncio.gather(*(look.see(one.row.name, "TXT") for one in wanted))
    return Report(
        (*map(_unasked, filter(_is_unasked, seen)), *servers.findings(seen), *(one for group in found for one in group))
    )


def _is_unasked(seen: Seen) -> bool:
    return all(one.failure for one in seen.answers)


def _unasked(seen: Seen) -> Finding:
    """The resolver's word alone does not count: it may be of another day."""
    what = "no name server of the zone could be asked"
    if seen.resolved.failure:
        what += f", and the resolver {seen.resolved.failure}"
    return Finding("fault", "unasked", seen.name, "TXT", what, by_hand="Check the zone's servers and the resolver")
