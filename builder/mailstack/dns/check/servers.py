"""What is wrong with name servers themselves."""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from mailstack.dns.ask import OUT_OF_TIME, Look
from mailstack.dns.findings import Finding, Level
from mailstack.dns.replies import Answer, Authority, Seen
from mailstack_auth.names import and_parents

_SILENT = "does not answer"


def findings(seen: Iterable[Seen]) -> Iterator[Finding]:
    """A finding for each zone whose servers all work, and for each server that does not."""
    zones = {one.zone: one.authorities for one in seen if one.zone is not None and one.authorities}
    for zone, servers in sorted(zones.items()):
        broken = [one for one in servers if one.failure]
        good = [str(one) for one in servers if not one.failure]
        yield from (_broken(zone, one, good) for one in broken)
        if not broken:
            yield Finding("fine", "servers", zone or ".", "NS", f"{len(good)} servers answer: {'; '.join(good)}")


def _broken(zone: str, one: Authority, good: Sequence[str]) -> Finding:
    """A lame server is a mistake of the delegation; a silent one may be a moment's."""
    silent = one.failure in {_SILENT, OUT_OF_TIME}
    level: Level = "warning" if silent and good else "fault"
    by_hand = f"Repair {one.server}, or remove it from the NS records of {zone} and of the zone above it"
    what = f"the name server {one.server} {one.failure}"
    if good:
        what += f"; others do: {'; '.join(good)}"
    return Finding(level, "silent-server" if silent else "lame-server", zone or ".", "NS", what, by_hand=by_hand)


async def unknown(look: Look, seen: Iterable[Seen], domains: Sequence[str]) -> list[Finding]:
    """Domains of which no authoritative server could be asked, with the reason; of names below one it alone."""
    found = list(_unknown(seen, domains))
    above = {one.name for one in found}
    found = [one for one in found if above.isdisjoint([*and_parents(one.name)][1:])]
    # Some networks have a resolver that knows their own names only.
    tops = await asyncio.gather(*(look.resolve(_top(one.name), "NS") for one in found))
    return [
        one if one.code != "no-domain" or top.exists else replace(one, by_hand=_other_resolver(look, one.name))
        for one, top in zip(found, tops, strict=True)
    ]


def _top(name: str) -> str:
    return name.rpartition(".")[2]


def _other_resolver(look: Look, name: str) -> str:
    return (
        f"Name a resolver that knows the Internet's names (--resolver ADDRESS): {look.resolver} has no .{_top(name)} "
        "at all; or correct the name"
    )


def _unknown(seen: Iterable[Seen], domains: Sequence[str]) -> Iterator[Finding]:
    for one in {found.name: found for found in seen if found.name in domains and not found.authorities}.values():
        if one.resolved.failure == OUT_OF_TIME:
            continue
        if one.resolved.failure:
            what = f"the resolver {one.resolved.failure} for {one.name}, and names no servers of it"
            yield Finding("fault", "no-zone", one.name, "NS", what, by_hand="Check the delegation of the zone")
        elif not one.resolved.exists:
            what = f"{one.name} does not exist in DNS: no servers are delegated for it"
            yield Finding("fault", "no-domain", one.name, "NS", what, by_hand="Register the domain, or delegate it")
        else:
            what = "the resolver names no name server that could be asked, so only its own answers are known"
            by_hand = "Name another resolver (--resolver ADDRESS), and check the delegation of the zone"
            yield Finding("warning", "unasked", one.name, "NS", what, by_hand=by_hand)


def unanswered(seen: Seen, level: Level = "fault") -> Finding | None:
    """Nobody answers a question, so nothing is known of the record; None where somebody does."""
    if seen.good:
        return None
    said = [f"the resolver {seen.resolved.failure}", *(f"{one.server} {one.failure}" for one in seen.answers)]
    what = f"nobody says what is there: {'; '.join(said)}"
    if seen.resolved.failure == OUT_OF_TIME:
        level = "warning"
    return Finding(level, "unanswered", seen.name, seen.kind, what, by_hand="Check the zone's servers, then again")


async def by_stream(look: Look, seen: Seen) -> list[Finding]:
    """Servers that say something else by TCP than by UDP, or nothing, which every server must (RFC 7766 section 5)."""
    found = []
    for one, other in zip(seen.answers, await look.by_stream(seen), strict=True):
        if other.failure == OUT_OF_TIME or one.failure:
            continue
        if other.failure:
            # Of each server once, whatever was asked.
            what = f"the name server {one.server} {other.failure} by TCP, which long answers need"
            by_hand = "Let it listen on port 53 of TCP, and firewalls let it through"
            found.append(Finding("warning", "no-tcp", seen.zone or ".", "NS", what, by_hand=by_hand))
        elif (other.values, other.cname) != (one.values, one.cname):
            what = f"the name server {one.server} says something else by TCP than by UDP"
            values = (
                f"by UDP: {', '.join(one.values) or 'nothing'}",
                f"by TCP: {', '.join(other.values) or 'nothing'}",
            )
            by_hand = "Repair the server, or leave the provider"
            found.append(Finding("fault", "udp-differs", seen.name, seen.kind, what, values, by_hand=by_hand))
    return found


async def settled(look: Look, seen: Seen, judged: Sequence[tuple[Sequence[Answer], list[Finding]]]) -> list[Finding]:
    """The findings of a question, of which some servers have the right answer, or none.

    judged has the findings on each answer, with those who give it. Where one is right, the others are only late.
    """
    right = next((answers for answers, found in judged if _is_right(found)), None)
    if right is None:
        return [one for _, found in judged for one in found]
    found = [one for _, group in judged if _is_right(group) for one in group]
    found += [_disagreement(seen, answers, right) for answers, group in judged if not _is_right(group)]
    late = await _resolver(look, await look.see(seen.name, seen.kind))
    return [*found, late] if late else found


def _is_right(found: Sequence[Finding]) -> bool:
    return all(one.level == "fine" for one in found)


def _disagreement(seen: Seen, wrong: Sequence[Answer], right: Sequence[Answer]) -> Finding:
    serials = {one.serial for one in seen.authorities if one.serial is not None}
    why = "the zone was not transferred" if len(serials) > 1 else "the serial is the same: raise it"
    lacking, having = seen.where(wrong), seen.where(right)
    what = (
        f"servers disagree: {'; '.join(lacking)} {'has' if len(lacking) == 1 else 'have'} not what "
        f"{'; '.join(having)} {'has' if len(having) == 1 else 'have'} ({why})"
    )
    by_hand = "Wait for the zone transfer, or repair it; nothing else is to be published"
    values = wrong[0].values or ("nothing",)
    return Finding("fault", "servers-disagree", seen.name, seen.kind, what, values, lacking, by_hand=by_hand)


async def _resolver(look: Look, seen: Seen) -> Finding | None:
    """Whether the resolver says what all the servers do: it may know an old answer, or refuse a bogus one."""
    if not seen.answers or len(seen.groups()) != 1:
        return None
    if seen.resolved.failure:
        unchecked = await look.resolve(seen.name, seen.kind, checked=False)
        bogus = not unchecked.failure
        what = f"the resolver {seen.resolved.failure}, although the servers answer"
        code = "bogus" if bogus else "resolver-fails"
        if bogus:
            what += "; without DNSSEC validation it answers too, so the zone's signatures or its DS record are wrong"
        remedy = "Renew the signatures, or correct the DS record at the registrar" if bogus else "Check the resolver"
        return Finding("fault", code, seen.name, seen.kind, what, by_hand=remedy)
    one = seen.good[0]
    same = seen.resolved.cname == one.cname if one.cname else set(seen.resolved.values) == set(one.values)
    if same:
        return None
    what = f"the resolver has an older answer than the servers, for {seen.resolved.ttl} s at most"
    found = seen.resolved.values or ("nothing",)
    return Finding("warning", "resolver-old", seen.name, seen.kind, what, found=found, by_hand="Wait that long")
