"""Servers, ports, and networks: the containers' own and those of others."""

import ipaddress
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from mailstack.errors import Fault
from mailstack.settings.checks.refused import Refused, fault
from mailstack.settings.model import PREFIX, Settings, variable
from mailstack.values.dnssec import ROOT_ANCHORS, key_tag, trust_anchor
from mailstack.values.mail import MAX_LABEL
from mailstack.values.network import PRIVATE_IPV4, Network
from mailstack.values.servers import HostPort, host_port, neighbours, project

_PRIVATE: tuple[Network, ...] = (*PRIVATE_IPV4, ipaddress.IPv6Network("fc00::/7"))
# Where a network for the containers is looked for, the one of the examples first.
_FREE = (ipaddress.IPv4Network("10.99.0.0/16"), *PRIVATE_IPV4)
# Postfix's default_process_limit: sessions on a port at a time (postconf(5)).
_PROCESSES = 100
# Narrower than this is a large organisation's own; wider ones are many people's.
_OWN_PREFIX = {4: 16, 6: 32}


def contradictions(chosen: Settings, refused: Refused) -> Iterator[Fault]:
    for setting, token, at in _servers(chosen):
        if at.host == chosen.hostname:
            yield fault(setting, token, "points to the container itself; use another machine's address")
        if at.service and len(neighbours(project(chosen.hostname))) > MAX_LABEL:
            remedy = f"has no DNS name next to {chosen.hostname}, which is too long; use its address"
            yield fault(setting, token, remedy)
    taken: dict[int, str] = {}
    for name in _ports(chosen):
        port = getattr(chosen, name)
        if port and port in taken:
            remedy = f"is also {variable(taken[port])}; choose another port, or 0 to publish none"
            yield fault(name, str(port), remedy)
        taken.setdefault(port, name)
    if len(chosen.publish_addresses) > 1 and ipaddress.IPv4Address(0) in chosen.publish_addresses:
        yield fault(
            "publish_addresses",
            str(ipaddress.IPv4Address(0)),
            "already means every address; remove it or all others",
        )
    if chosen.outgoing_address and chosen.outgoing_address in chosen.subnet and "subnet" not in refused:
        remedy = f"is inside {PREFIX}SUBNET, which is only for these containers; write an address of this host"
        yield fault("outgoing_address", str(chosen.outgoing_address), remedy)
    if chosen.dnsbl and not chosen.postscreen and "postscreen" not in refused:
        yield fault("dnsbl", str(chosen.dnsbl[0]), f"has no effect without {PREFIX}POSTSCREEN=on; set that too")
    if "subnet" not in refused:
        yield from _in_subnet(chosen)


def warnings(chosen: Settings) -> list[str]:
    found = [
        f"{PREFIX}TRUSTED_NETWORKS: {one} is a whole private range; containers, and clients that appear under the "
        "gateway's address, could relay through this host"
        for one in chosen.trusted_networks
        if any(one.overlaps(wide) and one.prefixlen <= wide.prefixlen for wide in _PRIVATE)
    ]
    found += [
        f"{PREFIX}TRUSTED_NETWORKS: {one} is wider than any single network, and all its hosts could relay through this "
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
    leaves_by = chosen.outgoing_address
    # A private address has another one outside, which PUBLIC_ADDRESSES has.
    private = leaves_by and any(leaves_by in wide for wide in PRIVATE_IPV4)
    if leaves_by and not private and chosen.public_addresses and leaves_by not in chosen.public_addresses:
        found.append(
            f"{PREFIX}OUTGOING_ADDRESS: {leaves_by} is not in {PREFIX}PUBLIC_ADDRESSES, so the printed SPF records do "
            "not list it, and SPF fails for our mail at other servers; add it there"
        )
    if not 0 < chosen.limit_sessions < _PROCESSES // 2:
        held = "one client" if not 0 < chosen.limit_sessions < _PROCESSES else "two clients"
        found.append(
            f"{PREFIX}LIMIT_SESSIONS: {chosen.limit_sessions}: {held} could take all {_PROCESSES} sessions of a port; "
            f"write a number from 1 to {_PROCESSES // 2 - 1}"
        )
    return [*found, *_root_keys(chosen), *_dnsbl(chosen)]


def _ports(chosen: Settings) -> Iterator[str]:
    """The settings of ports that may be published."""
    for name in ("port_smtp", "port_submission", "port_submissions"):
        yield name
        if chosen.proxy_networks:
            yield f"{name}_proxy"


class _Server(NamedTuple):
    """A server that a container is to reach: its setting, its token there, and where it is."""

    setting: str
    token: str
    at: HostPort


def _servers(chosen: Settings) -> Iterator[_Server]:
    """The servers that Postfix is to reach."""
    for route in chosen.delivery:
        if route.hop:
            yield _Server("delivery", str(route), route.hop.server)
    if chosen.relay_host:
        yield _Server("relay_host", str(chosen.relay_host), chosen.relay_host)
    for sender in chosen.relay_hosts:
        yield _Server("relay_hosts", str(sender), sender.server)
    sockets = [("extra_milters", one) for one in chosen.extra_milters] + [("sasl", chosen.sasl or "")]
    for setting, one in sockets:
        if one.startswith("inet:"):
            yield _Server(setting, one, host_port(one.removeprefix("inet:")))


def _resolvers(chosen: Settings) -> Iterator[_Server]:
    """The servers that the resolver asks."""
    for one in chosen.resolver_forwarders:
        yield _Server("resolver_forwarders", str(one), one)


def _in_subnet(chosen: Settings) -> Iterator[Fault]:
    """The containers' own networks: no server is there, and the engine shows clients under an address of its own."""
    servers = [*_servers(chosen), *_resolvers(chosen)]
    effects = {
        "trusted_networks": "could relay",
        "spf_skip_networks": "would skip the checks",
        "dmarc_skip_networks": "would skip the checks",
        "proxy_networks": "could name any other",
    }
    lists = {name: getattr(chosen, name) for name in effects}
    addresses = [found for one in servers if (found := _ipv4_address(one.at.host))]
    another = _another(
        chosen.subnet.prefixlen,
        [*map(ipaddress.IPv4Network, addresses), *(one for networks in lists.values() for one in networks)],
    )
    for setting, token, at in servers:
        if (found := _ipv4_address(at.host)) and found in chosen.subnet:
            yield fault(setting, token, f"is inside {PREFIX}SUBNET, which is only for these containers; use {another}")
    for name, networks in lists.items():
        shown = f"clients can appear under the gateway's address in this network, so any client {effects[name]}"
        for one in networks:
            if one.version == chosen.subnet.version and one.subnet_of(chosen.subnet):
                yield fault(
                    name,
                    str(one),
                    f"is inside {PREFIX}SUBNET; {shown}. Write the sender's, or this host's, own address",
                )
            elif one.overlaps(chosen.subnet):
                yield fault(
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


def _dnsbl(chosen: Settings) -> Iterator[str]:
    most = sum(max(one.weight, 0) for one in chosen.dnsbl)
    if chosen.dnsbl and most < chosen.dnsbl_threshold:
        yield (
            f"{PREFIX}DNSBL_THRESHOLD: {chosen.dnsbl_threshold} is more than all weights of {PREFIX}DNSBL together, so "
            f"no client is rejected; write {most or 1} or less, or larger weights"
        )
    if chosen.dnsbl and chosen.resolver_forwarders:
        yield (
            f"{PREFIX}RESOLVER_FORWARDERS: {chosen.resolver_forwarders[0]} asks the lists of {PREFIX}DNSBL, and many "
            "do not serve public resolvers; leave this setting empty, or use a resolver of your own"
        )


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
