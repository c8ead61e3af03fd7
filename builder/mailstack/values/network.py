"""Addresses and networks."""

import ipaddress
from collections.abc import Callable

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
# Wider than this is no network of one's own.
MIN_PREFIX = {4: 8, 6: 7}
PRIVATE_IPV4 = tuple(ipaddress.IPv4Network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"))
# RFC 4291 section 2.5.5.2.
_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")


def network(token: str) -> Network:
    """An address or a network in CIDR notation, host bits zero; without a zone id, as in address()."""
    if "%" in token:
        raise ValueError("has a zone id, which tables cannot contain; write it without one, for example: fe80::/64")
    try:
        meant = ipaddress.ip_network(token, strict=False)
    except ValueError:
        raise ValueError("is not a network; write CIDR notation, as in 192.0.2.0/24 or 2001:db8::/32") from None
    if isinstance(meant, ipaddress.IPv6Network) and meant.subnet_of(_MAPPED):
        plain = ipaddress.IPv4Network((int(meant[0]) & 0xFFFFFFFF, meant.prefixlen - _MAPPED.prefixlen))
        raise ValueError(f"is an IPv4-mapped IPv6 network, which matches no client; write {plain}")
    try:
        return ipaddress.ip_network(token)
    except ValueError:
        raise ValueError(f"has host bits set; write {meant}") from None


def narrow_network(effect: str) -> Callable[[str], Network]:
    """A parser of networks that refuses large parts of the Internet; effect says what such a one would do."""

    def parse(token: str) -> Network:
        found = network(token)
        if found.prefixlen < MIN_PREFIX[found.version]:
            raise ValueError(f"is a large part of the Internet and {effect}; list the senders' own networks")
        return found

    return parse


def narrow_ipv4_network(effect: str) -> Callable[[str], ipaddress.IPv4Network]:
    """The same for the containers' networks, where every client has an IPv4 address."""
    narrow = narrow_network(effect)

    def parse(token: str) -> ipaddress.IPv4Network:
        found = narrow(token)
        if not isinstance(found, ipaddress.IPv4Network):
            raise ValueError(  # noqa: TRY004
                "is an IPv6 network, and the containers' networks are IPv4 only; write an IPv4 one, as in 192.0.2.10"
            )
        return found

    return parse


def subnet(token: object, largest_prefix: int = 27) -> object:
    """A private IPv4 network with room for the containers' networks."""
    found = ipv4_network(token)
    if not isinstance(found, ipaddress.IPv4Network):
        return found
    if found.prefixlen > largest_prefix:
        raise ValueError(f"is too small; write a network of /{largest_prefix} or larger, for example: 10.99.0.0/27")
    if not any(found.subnet_of(wide) for wide in PRIVATE_IPV4):
        raise ValueError(
            "is not private; take it from 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16, for example: 10.99.0.0/27"
        )
    return found


def ipv4_network(token: object) -> object:
    """The same, IPv4 only."""
    if not isinstance(token, str):
        return token
    if ":" in token:
        raise ValueError("is not an IPv4 network; write, for example: 10.99.0.0/27")
    return network(token)


def address(token: str) -> Address:
    """An IPv4 or IPv6 address; without a zone id, which may hold any character (RFC 4007 section 11.2)."""
    try:
        if "%" not in token:
            return ipaddress.ip_address(token)
    except ValueError:
        pass
    raise ValueError("is not an IP address; write, for example: 192.0.2.25")


def public_address(token: str) -> ipaddress.IPv4Address:
    """An IPv4 address from which mail can come."""
    found = address(token)
    if not isinstance(found, ipaddress.IPv4Address):
        remedy = f"write {found.ipv4_mapped}" if found.ipv4_mapped else "remove it"
        raise ValueError(  # noqa: TRY004
            f"is an IPv6 address, and this host sends and listens by IPv4 only; {remedy}. List other hosts of yours "
            "that send by IPv6 in MAILSTACK_SPF_RECORD"
        )
    # is_reserved holds the broadcast address.
    if found.is_unspecified or found.is_loopback or found.is_link_local or found.is_multicast or found.is_reserved:
        raise ValueError(
            "is not the address of a host on the Internet; write the one that other servers see, as in 192.0.2.25"
        )
    return found


def outgoing_address(token: object) -> object:
    """An IPv4 address of this host, by which it reaches others."""
    if not isinstance(token, str):
        return token
    found = ipv4_address(token)
    if found.is_unspecified or found.is_loopback or found.is_multicast or found.is_reserved:
        raise ValueError("is not an address that mail can come from; write one of this host's, as in 192.0.2.25")
    return found


def ipv4_address(token: str) -> ipaddress.IPv4Address:
    """An IPv4 address."""
    try:
        return ipaddress.IPv4Address(token)
    except ValueError:
        raise ValueError("is not an IPv4 address; write, for example: 192.0.2.25") from None
