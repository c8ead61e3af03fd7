"""In which zone a name lies, as DNS says it: by the SOA record of an answer (RFC 2308 section 3)."""

import asyncio
import contextlib
from collections.abc import Collection, Sequence

import dns.asyncquery
import dns.exception
import dns.message
import dns.rcode
import dns.rdatatype
import dns.resolver

# In all, whatever is silent: the records are printed without it, too.
SECONDS = 1.5
_AT_ONCE = 100
_PORT = 53


def find(names: Collection[str], servers: Sequence[str] | None = None, port: int = _PORT) -> dict[str, str]:
    """The zones of names, as far as the resolvers of this host (or those that are given) tell them within SECONDS."""
    try:
        asked = servers or [str(one) for one in dns.resolver.get_default_resolver().nameservers]
    except dns.resolver.NoResolverConfiguration:
        return {}
    answers = asyncio.run(_ask_all(names, asked, port))
    found = {name: zone for name, answer in answers.items() if (zone := _zone(name, answer))}
    # The zone above a name that does not exist yet may be a registry's: it counts if it is known to be the site's.
    exist = {name for name in found if answers[name].rcode() == dns.rcode.NOERROR}
    ours = {*names, *(found[name] for name in exist)}
    return {name: zone for name, zone in found.items() if name in exist or zone in ours}


async def _ask_all(names: Collection[str], servers: Sequence[str], port: int) -> dict[str, dns.message.Message]:
    answers: dict[str, dns.message.Message] = {}
    turn = asyncio.Semaphore(_AT_ONCE)

    async def ask(name: str) -> None:
        query = dns.message.make_query(name, dns.rdatatype.SOA)
        for server in servers:
            async with turn:
                with contextlib.suppress(dns.exception.DNSException, OSError):
                    answers[name] = await dns.asyncquery.udp(query, server, SECONDS / len(servers), port)
                    return

    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(SECONDS):
            await asyncio.gather(*map(ask, names))
    return answers


def _zone(name: str, answer: dns.message.Message) -> str | None:
    """The zone that answers for a name; None if it says nothing, or is the root."""
    for rrset in (*answer.answer, *answer.authority):
        zone = rrset.name.to_text(omit_final_dot=True).lower()
        # Behind a CNAME it is another name's.
        if rrset.rdtype == dns.rdatatype.SOA and zone and f".{name}".endswith(f".{zone}"):
            return zone
    return None
