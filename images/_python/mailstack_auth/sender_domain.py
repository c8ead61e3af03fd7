"""Whether the domain of an envelope sender can be answered: a reply, a notice or a bounce has to find its way.

In place of Postfix's reject_unknown_sender_domain, which has mail wait for as long as DNS gives no answer, and does not
look for IPv6 addresses where it has none itself.
"""

import asyncio
from typing import cast

import spf as pyspf

from mailstack_auth import names
from mailstack_auth.lookup import Lookups

# For all three questions; Postfix and "stop" wait.
MAX_SECONDS = 4.0


async def refusal(lookups: Lookups, domain: str, code: int) -> str | None:
    """Why nobody at a domain can be answered, as an action for Postfix (access(5)); None if somebody can.

    The code is for a domain without records: one that does not exist may be half-moved, and exist again tomorrow.

    None as well if DNS gives no answer: whether that matters, dmarc knows when it has seen the signatures.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + MAX_SECONDS
    try:
        answers = await lookups.look_up(domain, "MX", MAX_SECONDS)
        exchanges = [host for _, (_, host) in cast("list[tuple[object, tuple[int, str]]]", answers)]
        if exchanges:
            # RFC 7505 section 4.2.
            null = f"550 5.7.27 MAIL FROM {names.shown(domain)} takes no mail itself: its MX record says so (null MX)"
            return None if any(exchanges) else null
        # RFC 5321 section 5.1: without MX its address is the mail server's.
        for kind in ("A", "AAAA"):
            if await lookups.look_up(domain, kind, deadline - loop.time()):
                return None
    except (pyspf.TempError, pyspf.PermError):
        return None
    return f"{code} {code // 100}.1.8 MAIL FROM {names.shown(domain)} has neither an MX record nor an address in DNS"
