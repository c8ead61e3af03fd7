"""Block lists, which many servers ask about the address of a client (RFC 5782)."""

import ipaddress

from mailstack.dns.ask import Look
from mailstack.dns.findings import Finding
from mailstack.values.network import Address

_LISTED = ipaddress.ip_network("127.0.0.0/8")
# By such an address large lists say that they do not answer: the resolver is a public one, or asks too much.
_REFUSED = ipaddress.ip_network("127.255.255.0/24")


async def blocklist(look: Look, zone: str, address: Address) -> list[Finding]:
    """What a list says of an address."""
    name = f"{address.reverse_pointer.removesuffix('.in-addr.arpa')}.{zone}"
    answer = await look.resolve(name, "A")
    codes = [ipaddress.ip_address(one) for one in answer.values]
    if answer.failure:
        what = f"the resolver {answer.failure} for {zone}, so nothing is known of {address} there"
        return [Finding("warning", "blocklist-unknown", name, "A", what, by_hand="Check again later")]
    if any(one in _REFUSED or one not in _LISTED for one in codes):
        what = f"{zone} does not answer this resolver ({', '.join(answer.values)}), so nothing is known of {address}"
        by_hand = "Ask by a resolver of your own: --resolver ADDRESS"
        return [Finding("warning", "blocklist-unknown", name, "A", what, answer.values, by_hand=by_hand)]
    if not codes:
        return [Finding("fine", "fine", name, "A", f"{address} is not on the list {zone}")]
    reasons = (await look.resolve(name, "TXT")).values
    what = f"{address} is on the list {zone} ({', '.join(answer.values)}), and servers that ask it refuse its mail"
    by_hand = f"Read why, mend the cause, and ask {zone} to remove the address"
    return [Finding("fault", "blocklisted", name, "A", what, reasons, by_hand=by_hand)]
