"""One DKIM key: whether all name servers have it, under every name that leads to it."""

import asyncio
from collections import defaultdict

from mailstack.dns.ask import Look
from mailstack.dns.check import servers, texts
from mailstack.dns.check.wanted import Evidence, Purpose
from mailstack.dns.check.wanted import texts as wanted_texts
from mailstack.dns.findings import Report
from mailstack.dns.records import records
from mailstack.keys.dkim import DkimKey
from mailstack.stack.model import Stack


async def check(look: Look, stack: Stack, key: DkimKey) -> Report:
    """What is wrong with the published records of a key of a site. Nothing is, if each server gives this very key."""
    names = {one.name for one in stack.keys.published if one.key == key}
    wanted = wanted_texts([one for one in records(stack) if one.name in names])
    evidence = Evidence({one.key.public: one.key.name for one in stack.keys.published}, ())
    ours = defaultdict[Purpose, set[str]](set, {"dkim": {one.row.name for one in wanted}})
    found = await asyncio.gather(*(texts.check(look, one, evidence, ours) for one in wanted))
    seen = await asyncio.gather(*(look.see(one, "TXT") for one in sorted(names)))
    unknown = await servers.unknown(look, seen, sorted({one.domain for one in wanted}))
    return Report((*unknown, *servers.findings(seen), *(one for group in found for one in group)))
