"""Any domain, of which no settings are known: what its records say for themselves."""

import asyncio
from collections.abc import Sequence

from mailstack.dns.ask import Look
from mailstack.dns.check import dnssec, hosts, policy, servers, texts, tls
from mailstack.dns.check.wanted import Evidence, Wanted
from mailstack.dns.findings import Finding, Report, Row
from mailstack.dns.mistakes import dmarc, spf
from mailstack.dns.mistakes.texts import unescaped
from mailstack.dns.replies import Seen
from mailstack.errors import DnsError

_NO_SPF, _NO_DMARC = "v=spf1 mx ~all", "v=DMARC1; p=none"
_NOBODY = Evidence({}, ())


async def check(look: Look, domain: str, selectors: Sequence[str] = ()) -> Report:
    """Name servers, MX, SPF and DMARC of a domain, and its DKIM keys at these selectors: DKIM has no list of them."""
    seen = await look.see(domain, "TXT")
    work = (
        hosts.others_mx(look, domain),
        _spf(look, seen),
        _dmarc(look, domain),
        *(_dkim(look, domain, one) for one in selectors),
        tls.policies(look, domain),
        dnssec.findings(look, [seen.zone] if seen.zone else []),
    )
    found = [one for group in await asyncio.gather(*work) for one in group]
    asked = tuple(sorted(map(str, seen.authorities)))
    return Report((*await servers.unknown(look, [seen], [domain]), *servers.findings([seen]), *found), asked)


async def _spf(look: Look, seen: Seen) -> list[Finding]:
    """The SPF record mended would be as good as it is meant; without one, a first one is proposed."""
    there = any(map(spf.is_meant, seen.values))
    text = "v=spf1" if there else _NO_SPF
    return await texts.check(look, Wanted(Row(seen.name, "TXT", text), "spf", text, seen.name), _NOBODY, {"spf": ()})


async def _dkim(look: Look, domain: str, selector: str) -> list[Finding]:
    """A key as verifiers read it; which one signs is not known."""
    name = f"{selector}._domainkey.{domain}"
    seen = await look.see(name, "TXT")
    if not seen.values:
        what = f"there is no DKIM record at the selector {selector}"
        return [servers.unanswered(seen) or Finding("fault", "missing", name, "TXT", what, where=seen.where())]
    text = unescaped(seen.values[0])
    return await texts.check(look, Wanted(Row(name, "TXT", text), "dkim", text, domain), _NOBODY, {"dkim": ()})


async def _dmarc(look: Look, domain: str) -> list[Finding]:
    """The record at the domain itself, or the policy that it has from above."""
    name = f"_dmarc.{domain}"
    meant = [one for one in (await look.see(name, "TXT")).values if dmarc.is_meant(one)]
    try:
        above = await policy.applied(look, domain)
    except DnsError as error:
        return [Finding("fault", "dmarc-unknown", name, "TXT", str(error), by_hand="Check the zone's servers")]
    if not meant and above is not None:
        what = f"the policy is p={above.applied}, by the record of {above.record.domain}"
        return [Finding("fine", "fine", name, "TXT", what)]
    text = (dmarc.usable(unescaped(meant[0])) if meant else "") or _NO_DMARC
    wanted = Wanted(Row(name, "TXT", text), "dmarc", text, domain)
    found = await texts.check(look, wanted, _NOBODY, {"dmarc": ()})
    return found + await policy.authorisations(look, domain, ())
