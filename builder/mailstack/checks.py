"""Whether the values of a site go together: what contradicts, and what is allowed and probably not meant.

A value that was refused by itself is known here by its token, so that nothing is called missing which that token
may have been meant to name; everything else is judged at once.
"""

import difflib
import ipaddress
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from mailstack import spf
from mailstack.errors import Fault
from mailstack.fields import MAX_LABEL, ROOT_ANCHORS, junk_address, key_tag, trust_anchor
from mailstack.hosts import PRIVATE_IPV4, SUBMISSION, HostPort, Network, host_port, neighbours, project
from mailstack.settings import HOST_ROLES, PREFIX, Settings, implied_aliases, variable

# Tokens that were refused, by the name of their setting; an empty token stands for a setting that is not set.
Refused = Mapping[str, Sequence[str]]

_PRIVATE: tuple[Network, ...] = (*PRIVATE_IPV4, ipaddress.IPv6Network("fc00::/7"))
# Where a network for the containers is looked for, the one of the examples first.
_FREE = (ipaddress.IPv4Network("10.99.0.0/16"), *PRIVATE_IPV4)
# To compare each name with each of more tokens takes minutes.
_MANY = 100
# Narrower than this is a large organisation's own; wider ones are many people's.
_OWN_PREFIX = {4: 16, 6: 32}


class _Names(NamedTuple):
    """What aliases are looked for in, one after the other: sets, since a site may have ten thousand domains."""

    domains: frozenset[str]
    mailboxes: frozenset[str]


def contradictions(chosen: Settings, refused: Refused) -> list[Fault]:
    """Every fault that lies in values which are right one by one."""
    return [
        *_mailboxes(chosen, refused),
        *_aliases(chosen, refused),
        *_junk(chosen, refused),
        *_postmaster(chosen, refused),
        *_networks(chosen, refused),
        *_packages(chosen, refused),
        *_spf(chosen),
    ]


def _fault(setting: str, token: str | None, remedy: str) -> Fault:
    return Fault(variable(setting), token, remedy)


def _may_be_meant(name: str, tokens: Sequence[str]) -> bool:
    """Whether one of the refused tokens may have been meant to be this name; of many refused ones, one may always."""
    return len(tokens) > _MANY or "" in tokens or _is_near(name, tuple(tokens))


@lru_cache
def _is_near(name: str, tokens: tuple[str, ...]) -> bool:
    """Whether a token is all but a name, remembered since many addresses have one domain."""
    return bool(difflib.get_close_matches(name, tokens, n=1))


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


def _mailboxes(chosen: Settings, refused: Refused) -> Iterator[Fault]:
    domains = set(chosen.domains)
    for one in chosen.mailboxes:
        if _domain(one) not in domains and not _may_be_meant(_domain(one), refused.get("domains", ())):
            yield _fault(
                "mailboxes", one, f"is outside the domains; add {_domain(one)} to {PREFIX}DOMAINS or remove it"
            )
    if chosen.delivery is None and not chosen.mailboxes and not {"delivery", "mailboxes"} & refused.keys():
        example = f"user@{chosen.domains[0]}" if "domains" not in refused else "user@example.com"
        yield _fault("mailboxes", "", f"is empty, so no mail could be delivered; list at least one, such as {example}")


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
            if not _may_be_meant(domain, refused_domains):
                yield _fault("aliases", token, f"is outside the domains; add {domain} to {PREFIX}DOMAINS or remove it")
        elif one.address in names.mailboxes:
            yield _fault("aliases", token, f"is a mailbox as well; remove it here or from {PREFIX}MAILBOXES")
        elif targets[one.address] != one.target:
            yield _fault(
                "aliases", token, f"is listed with the target {targets[one.address]} as well; keep one of the two"
            )
        elif circle and end not in reported:
            reported.add(end)
            way = " → ".join(_way(one.address, targets))
            yield _fault("aliases", token, f"leads to no mailbox, only in a circle: {way}; give one another target")
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
        if not _may_be_meant(end, refused.get("mailboxes", ())):
            yield _fault("aliases", token, f"leads to no mailbox; add {end} to {PREFIX}MAILBOXES")
    elif _domain(end) == chosen.hostname not in names.domains and end.partition("@")[0] not in HOST_ROLES:
        yield _fault("aliases", token, f"leads to no mailbox; the host name has {', '.join(HOST_ROLES)} only")


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
            yield _fault(setting, token, f"is the Junk address of {junk[address]}; choose another")


def _postmaster(chosen: Settings, refused: Refused) -> Iterator[Fault]:
    one = chosen.postmaster
    if one is None or _known(one, {*chosen.mailboxes, *(alias.address for alias in chosen.aliases)}):
        return
    tokens = [*refused.get("mailboxes", ()), *refused.get("aliases", ())]
    if _domain(one) in chosen.domains and _listed(chosen, refused):
        if not _may_be_meant(one, tokens):
            yield _fault("postmaster", one, f"is no mailbox; add it to {PREFIX}MAILBOXES")
    elif _domain(one) == chosen.hostname not in chosen.domains:
        yield _fault(
            "postmaster",
            one,
            "is at the host name, whose mail goes to this very address; write a mailbox of a domain, such as "
            f"{next(iter(chosen.mailboxes), 'user@' + chosen.domains[0])}",
        )


class _Server(NamedTuple):
    """A server that a container is to reach: its setting, its token there, and where it is."""

    setting: str
    token: str
    at: HostPort


def _servers(chosen: Settings) -> Iterator[_Server]:
    """The servers that Postfix is to reach."""
    if chosen.delivery:
        yield _Server("delivery", str(chosen.delivery), chosen.delivery.server)
    if chosen.relay_host:
        yield _Server("relay_host", str(chosen.relay_host), chosen.relay_host)
    for one in chosen.extra_milters:
        if one.startswith("inet:"):
            yield _Server("extra_milters", one, host_port(one.removeprefix("inet:")))


def _resolvers(chosen: Settings) -> Iterator[_Server]:
    """The servers that the resolver asks."""
    for one in chosen.resolver_forwarders:
        yield _Server("resolver_forwarders", str(one), one)


def _networks(chosen: Settings, refused: Refused) -> Iterator[Fault]:
    for setting, token, at in _servers(chosen):
        if at.host == chosen.hostname:
            yield _fault(setting, token, "points to the container itself; use another machine's address")
        if at.service and len(neighbours(project(chosen.hostname))) > MAX_LABEL:
            remedy = f"has no name in DNS beside {chosen.hostname}, which is too long; use its address"
            yield _fault(setting, token, remedy)
    if chosen.port_submission and chosen.port_submission == chosen.port_smtp:
        yield _fault(
            "port_submission",
            str(chosen.port_submission),
            f"is {PREFIX}PORT_SMTP as well; choose another port, or 0 to publish none",
        )
    if len(chosen.publish_addresses) > 1 and ipaddress.IPv4Address(0) in chosen.publish_addresses:
        yield _fault(
            "publish_addresses",
            str(ipaddress.IPv4Address(0)),
            "is every address already; remove it or all others",
        )
    if "subnet" not in refused:
        yield from _in_subnet(chosen)


def _in_subnet(chosen: Settings) -> Iterator[Fault]:
    """The containers' own networks: no server is there, and the engine shows clients under an address of its own."""
    servers = [*_servers(chosen), *_resolvers(chosen)]
    lists = {name: getattr(chosen, name) for name in ("trusted_networks", "spf_skip_networks", "dmarc_skip_networks")}
    addresses = [found for one in servers if (found := _ipv4_address(one.at.host))]
    another = _another(
        chosen.subnet.prefixlen,
        [*map(ipaddress.IPv4Network, addresses), *(one for networks in lists.values() for one in networks)],
    )
    for setting, token, at in servers:
        if (found := _ipv4_address(at.host)) and found in chosen.subnet:
            yield _fault(
                setting, token, f"is inside {PREFIX}SUBNET, which is for these containers alone; use {another}"
            )
    for name, networks in lists.items():
        effect = "everybody could relay" if name == "trusted_networks" else "nobody there would be judged"
        shown = f"the engine shows clients under an address of its own there, the gateway, so {effect}"
        for one in networks:
            if one.version == chosen.subnet.version and one.subnet_of(chosen.subnet):
                yield _fault(
                    name,
                    str(one),
                    f"is inside {PREFIX}SUBNET; {shown}. Write the sender's, or this host's, own address",
                )
            elif one.overlaps(chosen.subnet):
                yield _fault(
                    "subnet",
                    str(chosen.subnet),
                    f"overlaps {one} of {variable(name)}; {shown}. Use {another}, or list the senders' own networks "
                    "there",
                )


def _ipv4_address(host: str) -> ipaddress.IPv4Address | None:
    try:
        return ipaddress.IPv4Address(host)
    except ValueError:
        return None


def _another(prefix: int, networks: Iterable[Network]) -> str:
    """Another network for the containers, in words, which overlaps none of these."""
    free = _free(prefix, [one for one in networks if isinstance(one, ipaddress.IPv4Network)])
    return f"another {PREFIX}SUBNET" + (
        f", such as {free}" if free else " and smaller networks: no private one is free"
    )


def _free(prefix: int, taken: Iterable[ipaddress.IPv4Network]) -> ipaddress.IPv4Network | None:
    """The first private network with a prefix of this length that overlaps none of these."""
    size = 2 ** (32 - prefix)
    # In order, and without overlaps among themselves.
    bounds = [(int(one[0]), int(one[-1])) for one in ipaddress.collapse_addresses(taken)]
    for wide in _FREE:
        at = -(-int(wide[0]) // size) * size
        for first, last in bounds:
            if first < at + size and last >= at:
                at = (last // size + 1) * size
        if at + size - 1 <= int(wide[-1]):
            return ipaddress.IPv4Network((at, prefix))
    return None


def _spf(chosen: Settings) -> Iterator[Fault]:
    record, domains = chosen.spf_record or "", set(chosen.domains)
    for domain, term in spf.continued(record).items():
        if domain in domains:
            yield _fault(
                "spf_record",
                record,
                f"has {term!r}, and is the record of {domain} itself: an error to every receiver; remove that term",
            )


def _packages(chosen: Settings, refused: Refused) -> Iterator[Fault]:
    if chosen.apt_snapshot and not chosen.apt_mirror and "apt_mirror" not in refused:
        yield _fault(
            "apt_snapshot",
            chosen.apt_snapshot,
            f"needs an archive of snapshots; write its URL in {PREFIX}APT_MIRROR, such as "
            "http://snapshots.example.com/debian",
        )


def _spf_remarks(chosen: Settings, record: str) -> Iterator[str]:
    yield from spf.remarks(record)
    # With a relay it is that one which sends.
    if (
        not chosen.relay_host
        and spf.covers(record, chosen.hostname, set(chosen.domains), chosen.public_addresses) is False
    ):
        missing = " ".join(f"ip4:{one}" for one in chosen.public_addresses) or f"a:{chosen.hostname}"
        yield f"it does not name this host, so other servers refuse its mail; add {missing}"


def _root_keys(chosen: Settings) -> Iterator[str]:
    """A root zone of one's own has keys of its own; the Internet's has these, and is signed by one after the other."""
    listed = {key_tag(one) for one in chosen.resolver_trust_anchors if one.startswith(". ")}
    known = {key_tag(trust_anchor(one)): one for one in ROOT_ANCHORS}
    if listed & known.keys():
        for tag in sorted(known.keys() - listed):
            yield (
                f"{PREFIX}RESOLVER_TRUST_ANCHORS: the root key {tag} is missing; when the root is signed with it "
                f"alone, no name can be looked up. Add {known[tag]!r}, or leave the setting empty"
            )


def _outside(networks: Iterable[Network], others: Collection[Network]) -> Iterator[Network]:
    """Those of some networks that lie in none of the others."""
    known, lengths = set(others), {one.prefixlen for one in others}
    for one in networks:
        if not any(length <= one.prefixlen and one.supernet(new_prefix=length) in known for length in lengths):
            yield one


def warnings(chosen: Settings) -> list[str]:
    """What is allowed and probably not meant, as sentences."""
    found = [
        f"{PREFIX}TRUSTED_NETWORKS: {one} is a whole private range; every container and every client that the "
        "engine shows under its gateway's address could relay through this host"
        for one in chosen.trusted_networks
        if any(one.overlaps(wide) and one.prefixlen <= wide.prefixlen for wide in _PRIVATE)
    ]
    found += [
        f"{PREFIX}TRUSTED_NETWORKS: {one} is wider than any one network, and all its hosts could relay through this "
        "one; list the senders' own networks"
        for one in chosen.trusted_networks
        if one.prefixlen < _OWN_PREFIX[one.version] and not any(one.overlaps(wide) for wide in _PRIVATE)
    ]
    found += [
        f"{PREFIX}PUBLIC_ADDRESSES: {one} is an address that other servers never see; write the public one, or the "
        "printed records will be wrong"
        for one in chosen.public_addresses
        if not one.is_global
    ]
    found += _root_keys(chosen)
    if chosen.relay_host and not chosen.spf_record:
        found.append(
            f"{PREFIX}RELAY_HOST: mail leaves from {chosen.relay_host.host}, which the printed SPF records do not "
            f"name; write the domains' record in {PREFIX}SPF_RECORD, with that server in it"
        )
    if chosen.spf_record:
        found += [f"{PREFIX}SPF_RECORD: {one}" for one in _spf_remarks(chosen, chosen.spf_record)]
    if chosen.relay_host and chosen.relay_host.port == SUBMISSION:
        found.append(
            f"{PREFIX}RELAY_HOST: {chosen.relay_host} is a port where most servers ask for a log-in, which is not "
            "supported yet; mail stays in the queue unless this one takes it from this host's address"
        )
    if chosen.local_sender == "off" and chosen.local_sender_action != "discard":
        found.append(
            f"{PREFIX}LOCAL_SENDER_ACTION: {chosen.local_sender_action!r} is done to nothing while "
            f"{PREFIX}LOCAL_SENDER is 'off'; write 'aligned' or 'envelope' there"
        )
    if chosen.milter_default_action == "accept":
        found.append(f"{PREFIX}MILTER_DEFAULT_ACTION: mail leaves unsigned while OpenDKIM is down")
    if chosen.dmarc_action == "follow":
        found += [
            f"{PREFIX}SPF_SKIP_NETWORKS: nobody looks at the SPF of what {one} hands on, so DMARC would refuse mail "
            f"that SPF alone shows to be genuine; list it in {PREFIX}DMARC_SKIP_NETWORKS as well"
            for one in _outside(chosen.spf_skip_networks, chosen.dmarc_skip_networks)
        ]
    addresses = {*chosen.mailboxes, *(alias.address for alias in (*chosen.aliases, *implied_aliases(chosen)))}
    domains = set(chosen.domains)
    found += [
        f"{PREFIX}DMARC_REPORT_ADDRESSES: {one} is no mailbox here, so reports will be refused; add it to "
        + (f"{PREFIX}MAILBOXES or {PREFIX}ALIASES" if _domain(one) in domains else f"{PREFIX}ALIASES")
        for one in chosen.dmarc_report_addresses
        if (_listed(chosen, {}) if _domain(one) in domains else _domain(one) == chosen.hostname)
        and not _known(one, addresses)
    ]
    return found
