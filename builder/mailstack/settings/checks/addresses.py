"""Mailboxes, aliases, and who gets what nobody is named for."""

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

from mailstack.errors import Fault
from mailstack.settings.checks.refused import Refused, fault, may_be_meant
from mailstack.settings.model import (
    HOST_ROLES,
    PREFIX,
    Settings,
    variable,
)
from mailstack.values.mail import Alias, domain_of, is_catch_all, junk_address, known_as


class _Names(NamedTuple):
    """What aliases are looked for in, one after the other: sets, since a site may have ten thousand domains."""

    domains: frozenset[str]
    # Those whose mailboxes are all the addresses there are.
    listed: frozenset[str]
    mailboxes: frozenset[str]
    # With those that mailstack adds.
    mailboxes_and_aliases: frozenset[str]

    def leads_to(self, one: Alias) -> str | None:
        """The address here that an alias leads to, as it is listed; a catch-all does not lead to itself."""
        known = known_as(one.target, self.mailboxes_and_aliases)
        return None if known == one.address and is_catch_all(known) else known


def _names(chosen: Settings, refused: Refused) -> _Names:
    domains = frozenset(chosen.domains)
    mailboxes = frozenset(chosen.mailboxes)
    # A delivery that was refused may have been meant for any of them.
    others = domains - set(map(domain_of, mailboxes)) if "delivery" in refused else chosen.asked_domains
    aliases = (one.address for one in chosen.all_aliases)
    return _Names(domains, domains - others, mailboxes, mailboxes.union(aliases))


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
    names = _names(chosen, {})
    setting = variable("dmarc_record" if chosen.dmarc_record else "dmarc_report_addresses")
    return [
        f"{setting}: {one} is not a mailbox here, so reports will be rejected; add it to "
        + (f"{PREFIX}MAILBOXES or {PREFIX}ALIASES" if domain_of(one) in names.domains else f"{PREFIX}ALIASES")
        for one in chosen.reported_to
        if domain_of(one) in (names.listed if domain_of(one) in names.domains else {chosen.hostname})
        and not known_as(one, names.mailboxes_and_aliases)
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
    bare = next((one for one, hop in chosen.next_hops.items() if not hop and one not in reached), None)
    if bare and not chosen.mailboxes and not {"delivery", "mailboxes"} & refused.keys():
        example = f"user@{bare}" if "domains" not in refused else "user@example.com"
        yield fault("mailboxes", "", f"is empty, so no mail could be delivered; write at least one: {example}")


def _aliases(chosen: Settings, refused: Refused, names: _Names) -> Iterator[Fault]:
    refused_domains = [*refused.get("domains", ()), *refused.get("hostname", ())]
    asked = chosen.asked_domains
    kept = {one.address for one in chosen.aliases if _keeps(one, names)}
    emptied = {*names.mailboxes} - kept
    for one in chosen.aliases:
        token, domain = str(one), domain_of(one.address)
        if domain not in names.domains and domain != chosen.hostname:
            if not may_be_meant(domain, refused_domains):
                yield fault("aliases", token, f"is outside the domains; add {domain} to {PREFIX}DOMAINS or remove it")
        elif one.address in emptied:
            emptied.remove(one.address)
            yield fault(
                "aliases",
                token,
                f"is also a mailbox, which would get no mail; add {one.address}={one.address} to keep a copy there, or "
                f"remove it here or from {PREFIX}MAILBOXES",
            )
        elif is_catch_all(one.address) and domain in asked:
            yield fault(
                "aliases",
                token,
                f"would take the mail for every address that the mailbox server has; list the addresses of {domain} in "
                f"{PREFIX}MAILBOXES, or let that server have the catch-all",
            )
        elif is_catch_all(one.address) and domain == chosen.hostname and chosen.forwards_by_srs:
            yield fault(
                "aliases",
                token,
                f"would take mail to forged SRS addresses, which have the host name as their domain; set "
                f"{PREFIX}HOSTNAME to a name without a catch-all, or {PREFIX}SRS=false",
            )
        else:
            yield from _target(one, chosen, refused, names)
    yield from _loops(chosen, kept, names)


def _keeps(one: Alias, names: _Names) -> bool:
    """Whether an alias leaves a copy in the mailbox of its own address."""
    domain = domain_of(one.address)
    there = one.address in names.mailboxes or domain not in names.listed
    return one.address == one.target and there and domain in names.domains


def _target(one: Alias, chosen: Settings, refused: Refused, names: _Names) -> Iterator[Fault]:
    """What an alias leads to must be there; outside it is other servers' business."""
    domain = domain_of(one.target)
    if names.leads_to(one):
        return
    if domain in names.listed:
        if not may_be_meant(one.target, refused.get("mailboxes", ())):
            yield fault("aliases", str(one), f"leads to no mailbox; add {one.target} to {PREFIX}MAILBOXES")
    elif domain == chosen.hostname not in names.domains:
        yield fault("aliases", str(one), f"leads to no mailbox; the host name has only {', '.join(HOST_ROLES)}")


def _loops(chosen: Settings, kept: Collection[str], names: _Names) -> Iterator[Fault]:
    """Each circle of aliases, once.

    It ends where a copy is kept, since Postfix expands an address into itself once; but not if a target on the way
    has an extension, which makes another address of it in each round (postconf(5), propagate_unmatched_extensions).
    """
    here = {*names.domains, chosen.hostname}
    following: dict[str, dict[str, Alias]] = {}
    for one in chosen.all_aliases:
        known = names.leads_to(one)
        if known and not one.address == known == one.target in kept and domain_of(one.address) in here:
            following.setdefault(one.address, {}).setdefault(known, one)
    if not any("+" in one.target != to in following for steps in following.values() for to, one in steps.items()):
        following = {address: steps for address, steps in following.items() if address not in kept}
    mine = set(chosen.aliases)
    for circle in _circles(following):
        written = (following[one][other] for one, other in itertools.pairwise(circle))
        token = next(str(one) for one in written if one in mine)
        remedy = f"is in an alias loop: {' → '.join(circle)}; change one of the targets"
        if len({*circle}) == 1:
            remedy = f"keeps no copy: {circle[0]} is not a mailbox; add it to {PREFIX}MAILBOXES, or remove this alias"
        yield fault("aliases", token, remedy)


def _circles(following: Mapping[str, Iterable[str]]) -> Iterator[list[str]]:
    """The circles in which addresses lead to each other, whose first one stands there twice.

    Each address is left once, so that many aliases take no more time for each than few.
    """
    left: set[str] = set()
    for start in following:
        way = {} if start in left else {start: iter(following[start])}
        while way:
            at = next(reversed(way))
            one = next(way[at], None)
            if one is None:
                left.add(at)
                del way[at]
            elif one in way:
                before = list(way)
                yield [*before[before.index(one) :], one]
            elif one in following and one not in left:
                way[one] = iter(following[one])


def _junk(chosen: Settings, refused: Refused) -> Iterator[Fault]:
    """An address that is another one's Junk would have two rows in Postfix's tables."""
    maildirs = {domain for domain, hop in chosen.next_hops.items() if hop is None}
    if not maildirs or "delivery" in refused:
        return
    filed = [one for one in chosen.mailboxes if domain_of(one) in maildirs]
    filed += [one.address for one in chosen.all_aliases if not is_catch_all(one.address)]
    junk = {junk_address(one): one for one in filed}
    listed = [("mailboxes", one, one) for one in chosen.mailboxes]
    listed += [("aliases", str(one), one.address) for one in chosen.aliases]
    for setting, token, address in listed:
        if address in junk:
            yield fault(setting, token, f"is the Junk address of {junk[address]}; choose another")


def _postmaster(chosen: Settings, refused: Refused, names: _Names) -> Iterator[Fault]:
    one = chosen.postmaster
    if one is None or known_as(one, {*chosen.mailboxes, *(alias.address for alias in chosen.aliases)}):
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
