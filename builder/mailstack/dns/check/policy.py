"""DMARC beyond one record: which policy applies to a domain, and who agrees to get its reports."""

import asyncio
import re
from collections.abc import Collection
from urllib.parse import unquote

from mailstack.dns.ask import Look
from mailstack.dns.findings import Finding, Row
from mailstack.errors import DnsError
from mailstack_auth.dmarc.discovery import Published, RecordError, Tree, is_record
from mailstack_auth.names import within

# RFC 9989 section 4.7: an address may have a size behind "!", which RFC 9990 took away again.
_NAME = re.compile(r"[a-z0-9._-]+")
_MAILTO = re.compile(r"mailto:[^@]+@([^!?\s]+)(?:![0-9]+[kmgt]?)?", re.IGNORECASE)


class _Lookups:
    """DNS as the tree walk of the containers asks for it."""

    def __init__(self, look: Look) -> None:
        self._look = look

    async def texts(self, name: str) -> list[bytes]:
        """The TXT values at a name. Raises DnsError."""
        answer = await self._look.resolve(name, "TXT")
        if answer.failure:
            raise DnsError(f"the resolver {answer.failure} for {name}")
        return [one.encode("utf-8", "surrogateescape") for one in answer.values]

    async def exists(self, name: str) -> bool:
        """Whether there is such a name. Raises DnsError."""
        answer = await self._look.resolve(name, "A")
        if answer.failure:
            raise DnsError(f"the resolver {answer.failure} for {name}")
        return answer.exists


async def applied(look: Look, domain: str) -> Published | None:
    """The policy that applies to a domain by the tree walk (RFC 9989 section 4.10). Raises DnsError."""
    try:
        return await Tree(_Lookups(look)).published(domain)
    except RecordError:
        return None


async def authorisations(look: Look, domain: str, ours: Collection[str]) -> list[Finding]:
    """Receivers of a domain's reports that do not say that they want them (RFC 9990 section 4).

    ours are names that are checked as the site's own records.
    """
    try:
        published = await applied(look, domain)
        if published is None or published.record.domain != domain:
            return []
        asked = {unquote(found[1]).lower() for one in published.record.rua.split(",") if (found := _mailto(one))}
        # What could not be a name gets no mail, and may hold anything.
        receivers = {one for one in asked if _NAME.fullmatch(one)}
        tree = Tree(_Lookups(look))
        own = await tree.organisational(domain)
        # As the printed records have it: names of which one lies below the other are one organisation.
        others = [one for one in sorted(receivers) if not within(one, domain) and not within(domain, one)]
        foreign = [one for one in others if await tree.organisational(one) != own]
    except DnsError:
        # The record itself, or its server, is a finding of its own.
        return []
    named = [(one, f"{domain}._report._dmarc.{one}") for one in foreign]
    unknown = [(one, name) for one, name in named if name not in ours]
    return list(await asyncio.gather(*(_authorisation(look, domain, *one) for one in unknown)))


async def _authorisation(look: Look, domain: str, receiver: str, name: str) -> Finding:
    answer = await look.resolve(name, "TXT")
    if any(is_record(one) for one in answer.values):
        return Finding("fine", "fine", name, "TXT", f"{receiver} takes the reports on {domain}")
    if answer.failure:
        what = f"the resolver {answer.failure} for what {receiver} says of reports on {domain}"
        return Finding("warning", "report-unknown", name, "TXT", what, by_hand="Check again later")
    what = f"{receiver} does not say that it takes reports on {domain}, so nobody sends it any"
    by_hand = f"{receiver} has to publish it, or another address is to be in rua= of _dmarc.{domain}"
    publish = (Row(name, "TXT", "v=DMARC1;"),)
    return Finding("warning", "report-missing", name, "TXT", what, answer.values, publish=publish, by_hand=by_hand)


def _mailto(uri: str) -> re.Match[str] | None:
    return _MAILTO.fullmatch(uri.strip())
