"""The networks of a stack, what is published, and how services beside it are reached."""

import ipaddress
from dataclasses import dataclass, replace

from mailstack.settings.model import Settings
from mailstack.values.network import Address, Network
from mailstack.values.servers import HostPort, host_port

NETWORKS = ("edge", "lookup", "inner")

# Always trusted: the postfix container itself. Everything else is the site's choice.
LOOPBACK: tuple[Network, ...] = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))


@dataclass(frozen=True)
class Subnet:
    """A network of the stack.

    On those without a way out the addresses of those that Postfix names are fixed; the others have a range.
    """

    cidr: ipaddress.IPv4Network
    gateway: ipaddress.IPv4Address
    resolver: ipaddress.IPv4Address
    postsrsd: ipaddress.IPv4Address
    others: ipaddress.IPv4Network


def reached(server: HostPort, beside: str) -> HostPort:
    """A service beside us by its name on the network that postfix and the resolver share; others as they are."""
    return replace(server, host=f"{server.service}.{beside}") if server.service else server


def reached_socket(socket: str, beside: str) -> str:
    """The same for inet:HOST:PORT; unix:PATH as it is."""
    kind, _, where = socket.partition(":")
    return socket if kind == "unix" else f"inet:{reached(host_port(where), beside)}"


def subnets(whole: ipaddress.IPv4Network) -> tuple[Subnet, ...]:
    """Edge, lookup, inner: a quarter each, so that no milter or policy service shares one with postfix."""
    parts = list(whole.subnets(prefixlen_diff=2))[:3]
    return tuple(Subnet(part, part[1], part[2], part[3], list(part.subnets())[1]) for part in parts)


def rooms(whole: ipaddress.IPv4Network) -> dict[str, int]:
    """How many containers without a fixed address each network takes."""
    parts = dict(zip(NETWORKS, subnets(whole), strict=True))
    # On the edge all but the network, its gateway, and broadcast; on the others the upper half, which has the latter.
    return {
        name: part.cidr.num_addresses - 3 if name == "edge" else part.others.num_addresses - 1
        for name, part in parts.items()
    }


def publish(settings: Settings) -> tuple[str, ...]:
    """Compose's "ports". Submission has its ports with the first who may use them."""
    ports = [(settings.port_smtp, 25)]
    submitters = settings.trusted_networks or settings.sasl
    if submitters:
        ports += [(settings.port_submissions, 465), (settings.port_submission, 587)]
    if settings.proxy_networks:
        ports += [(settings.port_smtp_proxy, 12525)]
    if settings.proxy_networks and submitters:
        ports += [(settings.port_submissions_proxy, 10465), (settings.port_submission_proxy, 10587)]
    return tuple(
        f"{address}:{outside}:{inside}"
        for address in settings.publish_addresses
        for outside, inside in ports
        if outside
    )


def leaves_by(settings: Settings) -> Address | None:
    """The address that is set, or the only published one if other servers see it; a private one may lead nowhere."""
    if settings.outgoing_address:
        return settings.outgoing_address
    published = settings.publish_addresses
    return published[0] if len(published) == 1 and published[0] in settings.public_addresses else None
