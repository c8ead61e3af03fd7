"""Where things are: networks, addresses, servers, milters, images. Parsers as in fields.py."""

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from mailstack.fields import domain_name, nested

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
MAX_PORT = 65535
IMPLICIT_TLS, SUBMISSION = 465, 587
# Wider than this is no network of one's own.
MIN_PREFIX = {4: 8, 6: 7}
PRIVATE_IPV4 = tuple(ipaddress.IPv4Network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"))
# RFC 4291 section 2.5.5.2.
_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
_IPV4 = re.compile(r"[0-9.]+")
# One label with a letter in it, as compose takes the name of a service and DNS one of a host.
_SERVICE = re.compile(r"(?=[0-9_-]*[a-z])[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?", re.ASCII)
OWN_SERVICES = ("postfix", "opendkim", "policyd-spf", "dmarc", "resolver")
# Words with which other programs say that there is none.
_NO_HOST = {"null", "none", "nil", "true", "false", "yes", "no", "on", "off"}


def network(token: str) -> Network:
    """An address or a network in CIDR notation, host bits zero; without a zone id, as in address()."""
    if "%" in token:
        raise ValueError("has a zone id, which tables cannot hold; write it without, such as fe80::/64")
    try:
        meant = ipaddress.ip_network(token, strict=False)
    except ValueError:
        raise ValueError("is not a network; write CIDR notation, such as 192.0.2.0/24 or 2001:db8::/32") from None
    if isinstance(meant, ipaddress.IPv6Network) and meant.subnet_of(_MAPPED):
        plain = ipaddress.IPv4Network((int(meant[0]) & 0xFFFFFFFF, meant.prefixlen - _MAPPED.prefixlen))
        raise ValueError(f"is IPv4 in the form of IPv6, which no client has; write {plain}")
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


def subnet(token: object, largest_prefix: int = 27) -> object:
    """A private IPv4 network with room for the containers' networks."""
    found = ipv4_network(token)
    if not isinstance(found, ipaddress.IPv4Network):
        return found
    if found.prefixlen > largest_prefix:
        raise ValueError(f"is too small; write a network of /{largest_prefix} or larger, such as 10.99.0.0/27")
    if not any(found.subnet_of(wide) for wide in PRIVATE_IPV4):
        raise ValueError(
            "is not private; take it from 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16, such as 10.99.0.0/27"
        )
    return found


def ipv4_network(token: object) -> object:
    """The same, IPv4 only."""
    if not isinstance(token, str):
        return token
    if ":" in token:
        raise ValueError("is not an IPv4 network, such as 10.99.0.0/27")
    return network(token)


def address(token: str) -> Address:
    """An IPv4 or IPv6 address; without a zone id, which may hold any character (RFC 4007 section 11.2)."""
    try:
        if "%" not in token:
            return ipaddress.ip_address(token)
    except ValueError:
        pass
    raise ValueError("is not an IP address, such as 192.0.2.25 or 2001:db8::25")


def public_address(token: str) -> ipaddress.IPv4Address:
    """An IPv4 address from which mail can come."""
    found = address(token)
    if not isinstance(found, ipaddress.IPv4Address):
        remedy = f"write {found.ipv4_mapped}" if found.ipv4_mapped else "remove it"
        raise ValueError(  # noqa: TRY004
            f"is an IPv6 address, and this host sends and listens by IPv4 only; {remedy}. Other hosts of yours that "
            "send by IPv6 belong in MAILSTACK_SPF_RECORD"
        )
    # is_reserved holds the broadcast address.
    if found.is_unspecified or found.is_loopback or found.is_link_local or found.is_multicast or found.is_reserved:
        raise ValueError(
            "is not the address of a host in the Internet; write the one that other servers see, such as 192.0.2.25"
        )
    return found


def ipv4_address(token: str) -> ipaddress.IPv4Address:
    """An IPv4 address."""
    try:
        return ipaddress.IPv4Address(token)
    except ValueError:
        raise ValueError("is not an IPv4 address, such as 192.0.2.25") from None


@dataclass(frozen=True)
class HostPort:
    """A host, by name or address, and a TCP or UDP port; None stands for the protocol's own."""

    host: str
    port: int | None = None

    @property
    def service(self) -> str | None:
        """The service of the same compose project that this is: a name of one label, which DNS does not have."""
        return None if {".", ":"} & set(self.host) else self.host

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"


class Forwarder(HostPort):
    """A resolver to ask, written as unbound does."""

    def __str__(self) -> str:
        return self.host if self.port is None else f"{self.host}@{self.port}"


def project(hostname: str) -> str:
    """The compose project of a site. Different for different names: a hyphen of the name is doubled."""
    return hostname.replace("-", "--").replace(".", "-")


def neighbours(project: str) -> str:
    """The domain in which the engine's DNS has services beside a site: the name of the network for look-ups.

    No top-level domain has an underscore (RFC 3696 section 2), so nothing else is asked of that DNS.
    """
    return f"{project}_lookup"


def _without_credentials(token: str) -> str:
    """A server's name without user and password; no message may repeat these, so this comes before all else."""
    if "@" in token:
        raise ValueError(
            "has a name or a password in it, and logging in to another server is not supported; write HOST:PORT alone"
        )
    return token


def _host(token: str) -> str:
    """An address, a domain name, or a service of the same compose project."""
    if ":" in token or _IPV4.fullmatch(token):
        return str(address(token))
    name = token.lower()
    if name in _NO_HOST:
        raise ValueError("is no host; to have none, leave the value empty")
    if name == "localhost" or name in OWN_SERVICES:
        raise ValueError("is one of these containers itself; use another machine's address or another service's name")
    return name if _SERVICE.fullmatch(name) else domain_name(token)


def host_port(token: str) -> HostPort:
    """HOST or HOST:PORT; a host in square brackets is taken too, as Postfix users write it."""
    match = re.fullmatch(
        r"(?:\[(?P<bracketed>[^\]]+)\]|(?P<plain>[^:\[\]]+))(?::(?P<port>[0-9]{1,9}))?", token, re.ASCII
    )
    if not match:
        raise ValueError("is not HOST:PORT, such as smtp.example.net:25; an IPv6 address goes into brackets")
    host = nested(_host, match["bracketed"] or match["plain"])
    port = None if match["port"] is None else int(match["port"])
    if port is not None and not 0 < port <= MAX_PORT:
        raise ValueError(f"has a port outside 1 to {MAX_PORT}")
    return HostPort(host, port)


def server(token: str | None) -> HostPort | None:
    """The same for an SMTP server that the containers are to reach, or nothing."""
    return None if token is None else _plain_start(_reachable(host_port(_without_credentials(token))))


def forwarder(token: str) -> Forwarder:
    """ADDRESS or ADDRESS@PORT, as unbound.conf(5) writes forward-addr."""
    if match := re.fullmatch(r"([0-9.]{7,15}):([0-9]{1,5})", token):
        raise ValueError(f"has its port after a colon; write {match[1]}@{match[2]}, as unbound does")
    host, at, port = token.partition("@")
    where = _reachable(HostPort(str(address(host)))).host
    if at and not (re.fullmatch("[0-9]{1,5}", port) and 0 < int(port) <= MAX_PORT):
        raise ValueError(f"has no port from 1 to {MAX_PORT}; write ADDRESS@PORT, such as 192.0.2.53@5353")
    return Forwarder(where, int(port) if at else None)


def _reachable(server: HostPort) -> HostPort:
    """A server that a container can reach: the networks are IPv4 only, and loopback is the container itself."""
    if ":" in server.host:
        raise ValueError("is an IPv6 address, and the containers' networks are IPv4 only; write an IPv4 address")
    if server.host.startswith(("127.", "0.")):
        raise ValueError("points to the container itself; use another machine's address")
    return server


def _plain_start(server: HostPort) -> HostPort:
    """A server that greets in plain text; Postfix would wait for that on a port where TLS begins at once."""
    if server.port == IMPLICIT_TLS:
        raise ValueError(
            f"has port {IMPLICIT_TLS}, where TLS begins at once (RFC 8314) and a log-in is asked for; neither is "
            "supported yet. Write a server that takes mail from this host's address, such as smtp.example.net:25"
        )
    return server


_MILTER_PATH = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9._-]*/)+[A-Za-z0-9_][A-Za-z0-9._-]*")
QUEUE_DIRECTORY = "/var/spool/postfix"


def milter(token: str) -> str:
    """A milter as Postfix writes it: unix:PATH from the queue directory, where the chroot is, or inet:HOST:PORT."""
    kind, _, rest = _without_credentials(token).partition(":")
    if kind == "unix":
        if rest.startswith("/"):
            inside = rest.removeprefix(QUEUE_DIRECTORY).lstrip("/")
            raise ValueError(
                f"has an absolute path, which smtpd cannot see from its chroot; mount the socket's directory below "
                f"{QUEUE_DIRECTORY} and write the path from there, such as unix:{inside}"
            )
        if not _MILTER_PATH.fullmatch(rest):
            raise ValueError("has no path in a directory of its own; write it such as unix:rspamd/milter.sock")
        if rest.partition("/")[0] in OWN_SERVICES:
            raise ValueError(
                "is in a directory of our own services; choose another one, such as unix:rspamd/milter.sock"
            )
        return token
    if kind == "inet" and rest:
        where = nested(host_port, rest)
        if where.port is not None:
            return f"inet:{_reachable(where)}"
    raise ValueError("is not a milter; write unix:DIRECTORY/SOCKET or inet:HOST:PORT, such as inet:rspamd:11332")


def url(token: str | None) -> str | None:
    """An http: or https: URL without credentials, query or fragment; no final slash."""
    if token is None:
        return None
    if "@" in token:
        raise ValueError("has a password in it, which would stay in the images; use one that needs none")
    try:
        parts = urlsplit(token if token.isprintable() and " " not in token else "")
        port_is_right = parts.port is None or parts.port > 0
    except ValueError:
        parts, port_is_right = urlsplit(""), False
    if (
        parts.scheme not in {"http", "https"}
        or not parts.hostname
        or not port_is_right
        or parts.query
        or parts.fragment
    ):
        raise ValueError("is not a URL; write it such as http://mirror.example.com/debian")
    if not re.fullmatch(r"[A-Za-z0-9:/._~\[\]-]+", token):
        raise ValueError(
            "holds characters other than letters, digits and . _ ~ -; write it such as http://192.0.2.80:3142"
        )
    return token.rstrip("/")


def image(token: str) -> str:
    """An image's name as the engine takes it, with a tag or a digest if need be."""
    if not re.fullmatch(
        r"[a-z0-9][a-zA-Z0-9._/-]*(?::[0-9]+/[a-zA-Z0-9._/-]+)?(?::[\w.-]+)?(?:@sha256:[0-9a-f]{64})?", token, re.ASCII
    ):
        raise ValueError("is not the name of an image; write it such as debian:trixie-slim")
    return token


@dataclass(frozen=True)
class NextHop:
    """Where mail for our domains goes: protocol 'lmtp' or 'smtp', and the server."""

    protocol: str
    server: HostPort

    def __str__(self) -> str:
        return f"{self.protocol}:{self.server}"


def delivery(token: str | None) -> NextHop | None:
    """'maildir' (None), or lmtp:HOST:PORT or smtp:HOST:PORT for a mailbox server that is there already."""
    if token is None or token == "maildir":  # noqa: S105
        return None
    protocol, _, rest = _without_credentials(token).partition(":")
    if protocol not in {"lmtp", "smtp"} or not rest:
        raise ValueError("is not a delivery; write maildir, lmtp:HOST:PORT or smtp:HOST:PORT")
    server = _plain_start(_reachable(nested(host_port, rest)))
    default = {"lmtp": 24, "smtp": 25}[protocol]
    return NextHop(protocol, HostPort(server.host, server.port or default))
