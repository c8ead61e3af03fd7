"""The mail server's own names and addresses: MX, A, AAAA, PTR."""

import asyncio
import ipaddress
from collections.abc import Iterator, Sequence

from mailstack.dns.ask import Look
from mailstack.dns.check import servers
from mailstack.dns.check.places import ZONE_TWICE, Place
from mailstack.dns.findings import Finding, Level, Row
from mailstack.dns.replies import Seen
from mailstack.settings.model import PREFIX
from mailstack.values.network import Address

_NULL_MX = "."


async def mx(look: Look, domain: str, hostname: str, preference: int) -> list[Finding]:
    """The MX records of a domain, one of which has the host name (RFC 5321 section 5.1)."""
    seen = await look.see(domain, "MX")
    wanted = Row(domain, "MX", f"{preference} {hostname}")
    if seen.cname:
        return [_cname(seen, domain, "is an alias, which hides the domain's MX, SPF and all other records")]
    unclear = servers.unanswered(seen)
    if unclear:
        return [unclear]
    groups = seen.groups().items()
    judged = [(answers, await _mx(look, seen, values, wanted, hostname)) for (values, _), answers in groups]
    return await servers.settled(look, seen, judged)


async def others_mx(look: Look, domain: str) -> list[Finding]:
    """The MX records of a domain that any servers may have."""
    seen = await look.see(domain, "MX")
    where, unclear = seen.where(), servers.unanswered(seen)
    if unclear:
        return [unclear]
    if not seen.values:
        what = "there is no MX record; mail goes to the address of the domain, if it has one (RFC 5321 section 5.1)"
        return [Finding("warning", "missing", domain, "MX", what, where=where)]
    if seen.values == (f"0 {_NULL_MX}",):
        return [Finding("fine", "fine", domain, "MX", "the domain takes no mail (RFC 7505)", where=where)]
    targets = [(value, value.split()[1]) for value in seen.values]
    said = await asyncio.gather(*(_target(look, target, "", seen.zone or domain) for _, target in targets))
    wrong = [_bad(seen, value, *one, ()) for (value, _), one in zip(targets, said, strict=True) if one]
    return wrong or [Finding("fine", "fine", domain, "MX", f"mail goes to {', '.join(seen.values)}", where=where)]


async def _mx(look: Look, seen: Seen, values: Sequence[str], wanted: Row, hostname: str) -> list[Finding]:
    pairs = [(int(preference), target) for preference, target in (value.split() for value in values)]
    own = [preference for preference, target in pairs if target == hostname]
    rest = [(preference, target) for preference, target in pairs if target != hostname]
    publish = () if own else (wanted,)
    zone = seen.zone or seen.name
    described = [(one, await _target(look, one[1], hostname, zone)) for one in rest]
    wrong = [_bad(seen, f"{one[0]} {one[1]}", *said, publish) for one, said in described if said]
    if not own:
        return wrong or await _zone_twice(look, seen, wanted) or [_missing(seen, wanted, rest)]
    others = [(one, said) for one, said in described if not said]
    found = wrong + [_other(seen, one, min(own)) for one, _ in others]
    target = await look.see(hostname, "A")
    if target.cname:
        found.append(_cname(target, hostname, "is the target of MX records, and must not be an alias (RFC 5321)"))
    if not found:
        where = seen.where()
        found.append(Finding("fine", "fine", seen.name, "MX", f"mail goes to {hostname}", where=where))
    return found


async def _target(look: Look, target: str, hostname: str, zone: str) -> tuple[str, str] | None:
    """What is wrong with the target of an MX record that is not this server."""
    named = _named_target(target, hostname, zone)
    if named:
        return named
    seen = await look.resolve(target, "A")
    if seen.cname:
        return "mx-cname", f"{target} is an alias (CNAME) of {seen.cname}; an MX names a host itself (RFC 5321)"
    if not seen.values and not seen.failure and not (await look.resolve(target, "AAAA")).values:
        return "mx-dangling", f"{target} has no address"
    return None


def _named_target(target: str, hostname: str, zone: str) -> tuple[str, str] | None:
    """What is wrong with a target by its text alone."""
    if target == _NULL_MX:
        return "null-mx", "a null MX says that the domain takes no mail at all (RFC 7505)"
    if _is_address(target):
        return "mx-address", f"{target} is an address; an MX names a host"
    if hostname and target == f"{hostname}.{zone}":
        return "mx-zone-twice", f"{target} has the zone's name twice: write {hostname}. with its final dot"
    if hostname and target in {hostname.removesuffix(f".{zone}"), hostname.partition(".")[0]}:
        return "mx-short", f"{target} is not a whole name: write {hostname}"
    return None


def _bad(seen: Seen, value: str, code: str, what: str, publish: tuple[Row, ...]) -> Finding:
    remove = (Row(seen.name, "MX", value),)
    return Finding("fault", code, seen.name, "MX", what, (value,), seen.where(), remove, publish)


def _other(seen: Seen, one: tuple[int, str], own: int) -> Finding:
    """Another server is no mistake by itself, but mail goes there first if it is preferred."""
    preference, target = one
    first = "first" if preference < own else "as often as here" if preference == own else "while this server is away"
    what = f"mail also goes to {target}, {first}; remove that MX if it is no server of yours"
    value = f"{preference} {target}"
    return Finding("warning", "mx-other", seen.name, "MX", what, (value,), remove=(Row(seen.name, "MX", value),))


async def host(look: Look, hostname: str, addresses: Sequence[Address]) -> list[Finding]:
    """The address records of the host name: those of the settings, and no AAAA while nothing listens on IPv6."""
    first = Row(hostname, "A", str(addresses[0]) if addresses else "")
    four, six = await asyncio.gather(look.see(hostname, "A"), look.see(hostname, "AAAA"))
    if four.cname:
        return [_cname(four, hostname, "is an alias; a mail server's name has addresses of its own")]
    unclear = servers.unanswered(four)
    if unclear:
        return [unclear]
    wanted = {str(one) for one in addresses}
    judged = [(answers, list(_four(four, set(values), wanted))) for (values, _), answers in four.groups().items()]
    twice = [] if four.values else await _zone_twice(look, four, first)
    return [*_six(six), *(twice or await servers.settled(look, four, judged))]


def _four(seen: Seen, values: set[str], wanted: set[str]) -> Iterator[Finding]:
    name, where = seen.name, seen.where()
    if not values and not wanted:
        by_hand = f"Publish an A record of {name} with this host's public address"
        yield Finding("fault", "missing", name, "A", "the host name has no address", where=where, by_hand=by_hand)
    missing = sorted(wanted - values)
    if missing:
        rows = tuple(Row(name, "A", one) for one in missing)
        what = f"the host name does not have the address {', '.join(missing)} ({PREFIX}PUBLIC_ADDRESSES)"
        yield Finding("fault", "a-missing", name, "A", what, tuple(sorted(values)), where, publish=rows)
    more = sorted(values - wanted) if wanted else []
    if more:
        rows = tuple(Row(name, "A", one) for one in more)
        what = f"the host name also has {', '.join(more)}, which the settings do not name ({PREFIX}PUBLIC_ADDRESSES)"
        yield Finding("warning", "a-other", name, "A", what, tuple(sorted(values)), where, remove=rows)
    if values and not missing and not more:
        yield Finding("fine", "fine", name, "A", f"the host name has {', '.join(sorted(values))}", where=where)


def _six(seen: Seen) -> Iterator[Finding]:
    values = tuple(dict.fromkeys(value for one in seen.good for value in one.values))
    if values:
        rows = tuple(Row(seen.name, "AAAA", one) for one in values)
        what = "nothing listens on IPv6, and other servers try that address first"
        yield Finding("fault", "aaaa", seen.name, "AAAA", what, values, seen.where(), remove=rows)


async def ptr(look: Look, hostname: str, address: Address) -> list[Finding]:
    """The names of an address, which lead back to it (forward-confirmed reverse DNS)."""
    name = address.reverse_pointer
    seen = await look.see(name, "PTR")
    values = tuple(dict.fromkeys(value for one in seen.good for value in one.values))
    row, where = Row(name, "PTR", hostname), seen.where()
    by_hand = f"The provider of {address} sets it, mostly in its customers' menu"
    unclear = servers.unanswered(seen)
    if unclear:
        return [unclear]
    if not values:
        what = f"{address} has no name, and large receivers refuse its mail"
        return [Finding("fault", "ptr-missing", name, "PTR", what, where=where, publish=(row,), by_hand=by_hand)]
    if hostname in values and len(values) == 1:
        return [Finding("fine", "fine", name, "PTR", f"{address} has the name {hostname}", where=where)]
    remove = tuple(Row(name, "PTR", one) for one in values if one != hostname)
    publish = () if hostname in values else (row,)
    back = await asyncio.gather(*(look.resolve(one, "A") for one in values))
    lost = [one for one, answer in zip(values, back, strict=True) if str(address) not in answer.values]
    if hostname in values:
        what, code = f"{address} has several names; receivers look at one of them", "ptr-several"
    elif lost:
        what, code = f"{address} has the name {lost[0]}, which does not lead back to it", "ptr-not-back"
    else:
        what, code = f"{address} has the name {values[0]}, and the server says HELO {hostname}", "ptr-other"
    level: Level = "fault" if code == "ptr-not-back" else "warning"
    return [Finding(level, code, name, "PTR", what, values, where, remove, publish, by_hand)]


async def _zone_twice(look: Look, seen: Seen, wanted: Row) -> list[Finding]:
    """Whether a record that is missed lies at its name with the zone's name once more."""
    place = Place(f"{wanted.name}.{seen.zone}", *ZONE_TWICE)
    there = await look.see(place.name, wanted.type) if seen.zone else None
    if there is None or not there.values:
        return []
    what = f"the record lies at {place.name}: {place.what}"
    remove = tuple(Row(place.name, wanted.type, one) for one in there.values)
    publish = (wanted if wanted.value else Row(wanted.name, wanted.type, there.values[0]),)
    where = there.where()
    return [Finding("fault", place.code, wanted.name, wanted.type, what, there.values, where, remove, publish)]


def _cname(seen: Seen, name: str, what: str) -> Finding:
    target = seen.cname or ""
    return Finding(
        "fault",
        "cname",
        name,
        "CNAME",
        f"{name} {what}",
        found=(target,),
        where=seen.where(),
        remove=(Row(name, "CNAME", target),),
        by_hand="Publish the records of the target itself at this name",
    )


def _missing(seen: Seen, wanted: Row, rest: Sequence[tuple[int, str]]) -> Finding:
    """No MX is this server's; the rest are of other servers."""
    instead = tuple(f"{preference} {target}" for preference, target in rest)
    goes = f"; mail goes to {', '.join(target for _, target in rest)}" if rest else ""
    what, remove = f"no MX record names this server{goes}", tuple(Row(wanted.name, "MX", one) for one in instead)
    return Finding("fault", "missing", wanted.name, "MX", what, instead, seen.where(), remove, (wanted,))


def _is_address(target: str) -> bool:
    try:
        ipaddress.ip_address(target)
    except ValueError:
        return False
    return True
