"""A whole site: every record that it needs, and every server that has one."""

import asyncio
import ipaddress
from collections import defaultdict
from collections.abc import Awaitable, Sequence
from dataclasses import replace

from cryptography import x509

from mailstack.dns.ask import Look
from mailstack.dns.check import dnssec, hosts, policy, servers, smtp, texts, tls
from mailstack.dns.check.blocklists import blocklist
from mailstack.dns.check.wanted import Evidence
from mailstack.dns.check.wanted import texts as wanted_texts
from mailstack.dns.findings import Finding, Report
from mailstack.dns.records import MX_PREFERENCE, records
from mailstack.dns.replies import Seen
from mailstack.stack.model import Stack
from mailstack.values.network import Address


async def check(
    look: Look,
    stack: Stack,
    certificates: Sequence[x509.Certificate] = (),
    blocklists: Sequence[str] = (),
    *,
    smtp_too: bool = False,
) -> Report:
    """What is wrong with the published records of a site, and with the servers that have them.

    certificates are those in its directory (keys.certificates.of_host), blocklists the zones of lists to ask.
    smtp_too: whoever answers at port 25 of its addresses is looked at.
    """
    gone = {one.name for one in stack.keys.revoked}
    rows = [one for one in records(stack) if one.name not in gone]
    wanted = wanted_texts(rows)
    ours = defaultdict(set)
    for one in wanted:
        ours[one.purpose].add(one.row.name)
    addresses = stack.public_addresses or await _addresses(look, stack.hostname)
    evidence = Evidence(
        {one.key.public: one.key.name for one in stack.keys.published}, tuple(addresses), _relayed(stack)
    )
    work: list[Awaitable[list[Finding]]] = [hosts.host(look, stack.hostname, stack.public_addresses)]
    work += [hosts.ptr(look, stack.hostname, one) for one in addresses]
    work += [hosts.mx(look, one, stack.hostname, MX_PREFERENCE) for one in stack.domains]
    work += [texts.check(look, one, evidence, ours) for one in wanted]
    work += [texts.revoked(look, one.key) for one in stack.keys.revoked if one.name == one.key.name]
    names = {one.name for one in rows}
    work += [texts.revoked(look, one) for one in stack.keys.former if one.name not in names]
    work += [policy.authorisations(look, one, ours["report"]) for one in stack.signing_domains]
    work += [tls.tlsa(look, stack.hostname, certificates), tls.caa(look, stack.hostname)]
    work += [blocklist(look, zone, one) for zone in blocklists for one in addresses]
    work += [tls.policies(look, one) for one in stack.domains]
    if smtp_too:
        work += [smtp.answers(one, stack.hostname, certificates, look.left) for one in addresses]
    found = [one for group in await asyncio.gather(*work) for one in group]
    # Nothing is signed with a spare key yet, so what is wrong with its records is no fault yet.
    spare = {one.name for one in stack.keys.spare}
    found = [replace(one, level="warning") if one.name in spare and one.level == "fault" else one for one in found]
    seen = await _zones(look, [stack.hostname, *(one.name for one in rows)])
    found += await dnssec.findings(look, {one.zone for one in seen if one.zone})
    domains = stack.signing_domains
    asked = {str(one) for zone in seen for one in zone.authorities}
    return Report((*await servers.unknown(look, seen, domains), *servers.findings(seen), *found), tuple(sorted(asked)))


async def _addresses(look: Look, hostname: str) -> tuple[Address, ...]:
    """The host name's addresses in DNS, where the settings name none."""
    seen = await look.see(hostname, "A")
    return tuple(ipaddress.ip_address(one) for one in seen.values)


def _relayed(stack: Stack) -> frozenset[str]:
    """The domains whose mail a relay host sends."""
    relays = {one.domain for one in stack.relays}
    return frozenset(stack.signing_domains if None in relays else (one for one in relays if one))


async def _zones(look: Look, names: Sequence[str]) -> list[Seen]:
    """An answer for each name; those that were asked before cost nothing."""
    return list(await asyncio.gather(*(look.see(one, "TXT") for one in dict.fromkeys(names))))
