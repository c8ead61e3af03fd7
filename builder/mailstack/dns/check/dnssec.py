"""Whether zones are signed, and validate."""

import asyncio
from collections.abc import Collection, Iterator, Sequence

from mailstack.dns.ask import Look
from mailstack.dns.findings import Finding
from mailstack.dns.replies import Answer


async def findings(look: Look, zones: Collection[str]) -> list[Finding]:
    """Which zones are secure, as the resolver says; what is bogus is a finding of the records in it."""
    names = sorted(zones)
    root, *answers = await asyncio.gather(*(look.resolve(one, "SOA") for one in (".", *names)))
    if all(one.failure for one in (root, *answers)):
        return []
    # Of a zone alone it may validate, too, by an anchor of its own.
    if not any(one.secure for one in (root, *answers)):
        what = f"the resolver {look.resolver} does not validate, so DNSSEC is not checked; --resolver names another one"
        return [Finding("fine", "dnssec", ".", "SOA", what)]
    return list(_findings(names, answers))


def _findings(names: Sequence[str], answers: Sequence[Answer]) -> Iterator[Finding]:
    for name, answer in zip(names, answers, strict=True):
        if not answer.failure:
            what = "is signed, and validates (secure)" if answer.secure else "is not signed (insecure)"
            yield Finding("fine", "dnssec", name, "SOA", f"the zone {what}")
