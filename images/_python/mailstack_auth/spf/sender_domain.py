"""Whether the domain of an envelope sender can be answered: a reply, a notice or a bounce has to find its way.

Postfix's reject_unknown_sender_domain has mail wait for as long as DNS gives no answer, although its signature may
pass, and takes a domain with IPv6 addresses alone for none. So it looks only where nothing is found here.
"""

import asyncio
from typing import cast

import spf as pyspf

from mailstack_auth.dns.lookup import Lookups

# For all three questions; Postfix and "stop" wait.
MAX_SECONDS = 4.0


async def answerable(lookups: Lookups, domain: str) -> bool:
    """Whether a domain has an MX record that is no null MX (RFC 7505), or an address (RFC 5321 section 5.1).

    True as well if DNS gives no answer: whether that matters, dmarc knows when it has seen the signatures.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + MAX_SECONDS
    try:
        answers = await lookups.look_up(domain, "MX", MAX_SECONDS)
        if answers:
            return any(host for _, (_, host) in cast("list[tuple[object, tuple[int, str]]]", answers))
        for kind in ("A", "AAAA"):
            if await lookups.look_up(domain, kind, deadline - loop.time()):
                return True
    except (pyspf.TempError, pyspf.PermError):
        return True
    return False
