"""Mailboxes, aliases, and who gets what nobody is named for."""

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from mailstack.errors import Fault
from mailstack.settings.checks.refused import Refused, fault, may_be_meant
from mailstack.settings.model import HOST_ROLES, PREFIX, Settings, implied_aliases
from mailstack.values.mail import junk_address


class _Names(NamedTuple):
    """What aliases are looked for in, one after the other: sets, since a site may have ten thousand domains."""

    domains: frozenset[str]
    mailboxes: frozenset[str]


def _listed(chosen: Settings, refused: Refused) -> bool:
    """Whether the mailboxes are all the addresses there are; not where the mailbox server behind us knows better."""
    return bool(chosen.mailboxes) or (chosen.delivery is None and "delivery" not in refused)


def _domain(address: str) -> str:
    return address.rpartition("@")[2]


def _known(address: str, among: Collection[str]) -> str | None:
    """As which of some addresses Postfix knows one: as it stands, else without its extension (recipient_delimiter)."""
    local, _, domain = address.rpartition("@")
    plain = f"{local.partition('+')[0]}@{domain}"
    return next((one for one in (address, plain) if one in among), None)


def contradictions(chosen: Settings, refused: Refused) -> list[Fault]:
    return [
        *_mailboxes(chosen, refused),
        *_aliases(chosen, refused),
        *_junk(chosen, refused),
        *_postmaster(chosen, refused),
    ]


def warnings(chosen: Settings) -> list[str]:
    addresses = {*chosen.mailboxes, *(alias.address for alias in (*chosen.aliases, *implied_aliases(chosen)))}
    domains = set(chosen.domains)
    return [
        f"{PREFIX}DMARC_REPORT_ADDRESSES: {one} is not a mailbox here, so reports will be rejected; add it to "
        + (f"{PREFIX}MAILBOXES or {PREFIX}ALIASES" if _domain(one) in domains else f"{PREFIX}ALIASES")
        for one in chosen.dmarc_report_addresses
        if (_listed(chosen, {}) if _domain(one) in domains else _domain(one) == chosen.hostname)
        and not _known(one, addresses)
    ]


def _mailboxes(chosen: Settings, refused: Refused) -> Iterator[Fault]:
    domains = set(chosen.domains)
    for one in chosen.mailboxes:
        if _domain(one) not in domains and not may_be_meant(_domain(one), refused.get("domains", ())):
            yield fault("mailboxes", one, f"is outside the domains; add {_domain(one)} to {PREFIX}DOMAINS or remove it")
    if chosen.delivery is None and not chosen.mailboxes and not {"delivery", "mailboxes"} & refused.keys():
        example = f"user@{chosen.domains[0]}" if "domains" not in refused else "user@example.com"
        yield fault("mailboxes", "", f"is empty, so no mail could be delivered; write at least one: {example}")


def _aliases(chosen: Settings, refused: Refused) -> Iterator[Fault]:
    targets = {one.address: one.target for one in (*chosen.aliases, *implied_aliases(chosen))}
    names = _Names(frozenset(chosen.domains), frozenset(chosen.mailboxes))
    ends = _ends(targets)
    refused_domains = [*refused.get("domains", ()), *refused.get("hostname", ())]
    reported: set[str] = set()
    for one in chosen.aliases:
        token = str(one)
        end = ends[one.address]
        circle = _known(end, targets) is not None
        domain = _domain(one.address)
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
    if _listed(chosen, refused) and _domain(end) in names.domains and not _known(end, names.mailboxes):
        if not may_be_meant(end, refused.get("mailboxes", ())):
            yield fault("aliases", token, f"leads to no mailbox; add {end} to {PREFIX}MAILBOXES")
    elif _domain(end) == chosen.hostname not in names.domains and end.partition("@")[0] not in HOST_ROLES:
        yield fault("aliases", token, f"leads to no mailbox; the host name has only {', '.join(HOST_ROLES)}")


def _junk(chosen: Settings, refused: Refused) -> Iterator[Fault]:
    """An address that is another one's Junk would have two rows in Postfix's tables."""
    if chosen.delivery is not None or "delivery" in refused:
        return
    aliases = (*chosen.aliases, *implied_aliases(chosen))
    junk = {junk_address(one): one for one in (*chosen.mailboxes, *(alias.address for alias in aliases))}
    listed = [("mailboxes", one, one) for one in chosen.mailboxes]
    listed += [("aliases", str(one), one.address) for one in chosen.aliases]
    for setting, token, address in listed:
        if address in junk:
            yield fault(setting, token, f"is the Junk address of {junk[address]}; choose another")


def _postmaster(chosen: Settings, refused: Refused) -> Iterator[Fault]:
    one = chosen.postmaster
    if one is None or _known(one, {*chosen.mailboxes, *(alias.address for alias in chosen.aliases)}):
        return
    tokens = [*refused.get("mailboxes", ()), *refused.get("aliases", ())]
    if _domain(one) in chosen.domains and _listed(chosen, refused):
        if not may_be_meant(one, tokens):
            yield fault("postmaster", one, f"is not a mailbox; add it to {PREFIX}MAILBOXES")
    elif _domain(one) == chosen.hostname not in chosen.domains:
        yield fault(
            "postmaster",
            one,
            "belongs to the host name, whose mail goes to this same address; write a mailbox of a domain, for example: "
            f"{next(iter(chosen.mailboxes), 'user@' + chosen.domains[0])}",
        )
