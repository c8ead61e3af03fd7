"""Mailboxes, aliases, and who gets what nobody is named for."""

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from mailstack.errors import Fault
from mailstack.settings.checks.refused import Refused, fault, may_be_meant
from mailstack.settings.model import HOST_ROLES, PREFIX, Settings, asked_domains, implied_aliases, next_hops
from mailstack.values.mail import domain_of, junk_address


class _Names(NamedTuple):
    """What aliases are looked for in, one after the other: sets, since a site may have ten thousand domains."""

    domains: frozenset[str]
    # Those whose mailboxes are all the addresses there are.
    listed: frozenset[str]
    mailboxes: frozenset[str]


def _names(chosen: Settings, refused: Refused) -> _Names:
    domains = frozenset(chosen.domains)
    mailboxes = frozenset(chosen.mailboxes)
    # A delivery that was refused may have been meant for any of them.
    others = domains - set(map(domain_of, mailboxes)) if "delivery" in refused else asked_domains(chosen)
    return _Names(domains, domains - others, mailboxes)


def _known(address: str, among: Collection[str]) -> str | None:
    """As which of some addresses Postfix knows one: as it stands, else without its extension (recipient_delimiter)."""
    local, _, domain = address.rpartition("@")
    plain = f"{local.partition('+')[0]}@{domain}"
    return next((one for one in (address, plain) if one in among), None)


def contradictions(chosen: Settings, refused: Refused) -> list[Fault]:
    names = _names(chosen, refused)
    return [
        *_delivery(chosen, refused, names),
        *_mailboxes(chosen, refused, names),
        *_aliases(chosen, refused, names),
        *_junk(chosen, refused),
        *_postmaster(chosen, refused, names),
    ]


def warnings(chosen: Settings) -> list[str]:
    addresses = {*chosen.mailboxes, *(alias.address for alias in (*chosen.aliases, *implied_aliases(chosen)))}
    names = _names(chosen, {})
    return [
        f"{PREFIX}DMARC_REPORT_ADDRESSES: {one} is not a mailbox here, so reports will be rejected; add it to "
        + (f"{PREFIX}MAILBOXES or {PREFIX}ALIASES" if domain_of(one) in names.domains else f"{PREFIX}ALIASES")
        for one in chosen.dmarc_report_addresses
        if domain_of(one) in (names.listed if domain_of(one) in names.domains else {chosen.hostname})
        and not _known(one, addresses)
    ]


def _delivery(chosen: Settings, refused: Refused, names: _Names) -> Iterator[Fault]:
    first: dict[str | None, str] = {}
    meant = refused.get("domains", ())
    for one in chosen.delivery:
        if one.domain in first:
            what = one.domain or "all domains without their own"
            yield fault("delivery", str(one), f"is for {what}, and so is {first[one.domain]}; keep one of the two")
        elif one.domain and one.domain not in names.domains and not may_be_meant(one.domain, meant):
            remedy = f"is outside the domains; add {one.domain} to {PREFIX}DOMAINS or remove it"
            yield fault("delivery", str(one), remedy)
        first.setdefault(one.domain, str(one))


def _mailboxes(chosen: Settings, refused: Refused, names: _Names) -> Iterator[Fault]:
    for one in chosen.mailboxes:
        domain = domain_of(one)
        if domain not in names.domains and not may_be_meant(domain, refused.get("domains", ())):
            yield fault("mailboxes", one, f"is outside the domains; add {domain} to {PREFIX}DOMAINS or remove it")
    reached = {domain_of(one.address) for one in chosen.aliases}
    bare = next((one for one, hop in next_hops(chosen).items() if not hop and one not in reached), None)
    if bare and not chosen.mailboxes and not {"delivery", "mailboxes"} & refused.keys():
        example = f"user@{bare}" if "domains" not in refused else "user@example.com"
        yield fault("mailboxes", "", f"is empty, so no mail could be delivered; write at least one: {example}")


def _aliases(chosen: Settings, refused: Refused, names: _Names) -> Iterator[Fault]:
    targets = {one.address: one.target for one in (*chosen.aliases, *implied_aliases(chosen))}
    ends = _ends(targets)
    refused_domains = [*refused.get("domains", ()), *refused.get("hostname", ())]
    reported: set[str] = set()
    for one in chosen.aliases:
        token = str(one)
        end = ends[one.address]
        circle = _known(end, targets) is not None
        domain = domain_of(one.address)
        if domain not in names.domains and domain != chosen.hostname:
            if not may_be_meant(domain, refused_domains):
                yield fault("aliases", token, f"is outside the domains; add {domain} to {PREFIX}DOMAINS or remove it")
        elif one.address in names.mailboxes:
            yield fault("aliases", token, f"is also a mailbox; remove it here or from {PREFIX}MAILBOXES")
        elif targets[one.address] != one.target:
            yield fault("aliases", token, f"also has the target {targets[one.address]}; keep one of the two")
        elif circle and end not in reported:
            reported.add(end)
            way = " → ".join(_way(one.address, targets))
            yield fault("aliases", token, f"ends in an alias loop: {way}; change one of the targets")
        elif not circle:
            yield from _end(token, end, chosen, refused, names)


def _ends(targets: Mapping[str, str]) -> dict[str, str]:
    """Where each alias leads in the end: to an address that is none, or to one of a circle, the same for all ways."""
    ends: dict[str, str] = {}
    for address in targets:
        way: set[str] = set()
        at = address
        while at not in ends and at not in way and (known := _known(at, targets)):
            way.add(at)
            at = targets[known]
        ends |= dict.fromkeys(way, ends.get(at, at))
    return ends


def _way(address: str, targets: Mapping[str, str]) -> list[str]:
    """An alias and what it leads to, step by step; in a circle the last one stands there twice."""
    way, seen = [address], set[str]()
    while (known := _known(way[-1], targets)) and way[-1] not in seen:
        seen.add(way[-1])
        way.append(targets[known])
    return way


def _end(token: str, end: str, chosen: Settings, refused: Refused, names: _Names) -> Iterator[Fault]:
    if domain_of(end) in names.listed and not _known(end, names.mailboxes):
        if not may_be_meant(end, refused.get("mailboxes", ())):
            yield fault("aliases", token, f"leads to no mailbox; add {end} to {PREFIX}MAILBOXES")
    elif domain_of(end) == chosen.hostname not in names.domains and end.partition("@")[0] not in HOST_ROLES:
        yield fault("aliases", token, f"leads to no mailbox; the host name has only {', '.join(HOST_ROLES)}")


def _junk(chosen: Settings, refused: Refused) -> Iterator[Fault]:
    """An address that is another one's Junk would have two rows in Postfix's tables."""
    maildirs = {domain for domain, hop in next_hops(chosen).items() if hop is None}
    if not maildirs or "delivery" in refused:
        return
    filed = [one for one in chosen.mailboxes if domain_of(one) in maildirs]
    filed += [one.address for one in (*chosen.aliases, *implied_aliases(chosen))]
    junk = {junk_address(one): one for one in filed}
    listed = [("mailboxes", one, one) for one in chosen.mailboxes]
    listed += [("aliases", str(one), one.address) for one in chosen.aliases]
    for setting, token, address in listed:
        if address in junk:
            yield fault(setting, token, f"is the Junk address of {junk[address]}; choose another")


def _postmaster(chosen: Settings, refused: Refused, names: _Names) -> Iterator[Fault]:
    one = chosen.postmaster
    if one is None or _known(one, {*chosen.mailboxes, *(alias.address for alias in chosen.aliases)}):
        return
    tokens = [*refused.get("mailboxes", ()), *refused.get("aliases", ())]
    if domain_of(one) in names.listed:
        if not may_be_meant(one, tokens):
            yield fault("postmaster", one, f"is not a mailbox; add it to {PREFIX}MAILBOXES")
    elif domain_of(one) == chosen.hostname not in chosen.domains:
        yield fault(
            "postmaster",
            one,
            "belongs to the host name, whose mail goes to this same address; write a mailbox of a domain, for example: "
            f"{next(iter(chosen.mailboxes), 'user@' + chosen.domains[0])}",
        )
