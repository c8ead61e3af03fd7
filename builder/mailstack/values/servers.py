"""Servers: hosts with a port, milters, where mail goes next; and the names of those beside us."""

import re
from dataclasses import dataclass

from pydantic import SecretStr

from mailstack.services import ALL_NAMES
from mailstack.services.model import QUEUE_DIRECTORY
from mailstack.values.mail import domain_name
from mailstack.values.network import address
from mailstack.values.tokens import nested

MAX_PORT = 65535
IMPLICIT_TLS, SUBMISSION = 465, 587
_MAX_PASSWORD = 512
_IPV4 = re.compile(r"[0-9.]+")
# One label with a letter in it, as compose takes the name of a service and DNS one of a host.
_SERVICE = re.compile(r"(?=[0-9_-]*[a-z])[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?", re.ASCII)
# Words with which other programs say that there is none.
_NO_HOST = {"null", "none", "nil", "true", "false", "yes", "no", "on", "off"}


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
            "has a user name or a password; write HOST:PORT only. A login at a relay host is MAILSTACK_RELAY_USER and "
            "MAILSTACK_RELAY_PASSWORD, or MAILSTACK_RELAY_LOGINS"
        )
    return token


def is_address(host: str) -> bool:
    """Whether a host that was read is an address, and no name."""
    return ":" in host or bool(_IPV4.fullmatch(host))


def _host(token: str) -> str:
    """An address, a domain name, or a service of the same compose project."""
    if is_address(token):
        return str(address(token))
    name = token.lower()
    if name in _NO_HOST:
        raise ValueError("is not a host; for no host, leave the value empty")
    if name == "localhost" or name in ALL_NAMES:
        raise ValueError("is one of these containers itself; use another machine's address or another service's name")
    return name if _SERVICE.fullmatch(name) else domain_name(token)


def host_port(token: str) -> HostPort:
    """HOST or HOST:PORT; a host in square brackets is taken too, as Postfix users write it."""
    match = re.fullmatch(
        r"(?:\[(?P<bracketed>[^\]]+)\]|(?P<plain>[^:\[\]]+))(?::(?P<port>[0-9]{1,9}))?", token, re.ASCII
    )
    if not match:
        raise ValueError("is not HOST:PORT, as in smtp.example.net:25; write an IPv6 address in brackets")
    host = nested(_host, match["bracketed"] or match["plain"])
    port = None if match["port"] is None else int(match["port"])
    if port is not None and not 0 < port <= MAX_PORT:
        raise ValueError(f"has a port outside 1 to {MAX_PORT}")
    return HostPort(host, port)


def server(token: str | None) -> HostPort | None:
    """The same for an SMTP server that the containers are to reach, or nothing."""
    return None if token is None else _reachable(host_port(_without_credentials(token)))


def user(token: str | None) -> str | None:
    """A user name for SMTP AUTH, as Postfix's table of passwords holds it: before a colon."""
    if token is not None and (not token.isprintable() or ":" in token or " " in token):
        raise ValueError(
            "has a colon, a blank or an unprintable character; write the user name alone, for example: user@example.com"
        )
    return token


def password(token: object) -> object:
    """A password for SMTP AUTH, on one line."""
    if isinstance(token, str) and (not token.isprintable() or len(token) > _MAX_PASSWORD):
        raise ValueError(f"has more than one line, an unprintable character, or more than {_MAX_PASSWORD} characters")
    return token


@dataclass(frozen=True)
class SenderRelay:
    """The server by which mail of a domain leaves."""

    domain: str
    server: HostPort

    def __str__(self) -> str:
        return f"{self.domain}={self.server}"


def sender_relay(token: str) -> SenderRelay:
    """DOMAIN=HOST:PORT."""
    domain, equals, rest = _without_credentials(token).partition("=")
    if not equals:
        raise ValueError("has no =; write DOMAIN=HOST:PORT, for example: example.com=smtp.example.net:587")
    return SenderRelay(nested(domain_name, domain), _reachable(nested(host_port, rest)))


@dataclass(frozen=True)
class SenderLogin:
    """User and password for the server by which mail of a domain leaves."""

    domain: str
    user: str
    password: SecretStr

    def __str__(self) -> str:
        return f"{self.domain}={self.user}:{self.password}"


def sender_login(token: str) -> SenderLogin:
    """DOMAIN=USER:PASSWORD. No message has a part of it, which may be a part of a password."""
    domain, _, rest = token.partition("=")
    name, _, secret = rest.partition(":")
    try:
        if name and secret:
            return SenderLogin(domain_name(domain), str(user(name)), SecretStr(str(password(secret))))
    except ValueError:
        pass
    raise ValueError(
        "is not DOMAIN=USER:PASSWORD, each on a line of its own, with a user name without blanks and a password of at "
        f"most {_MAX_PASSWORD} printable characters; write, for example: example.net=user@example.net:correct horse"
    )


def forwarder(token: str) -> Forwarder:
    """ADDRESS or ADDRESS@PORT, as unbound.conf(5) writes forward-addr."""
    if match := re.fullmatch(r"([0-9.]{7,15}):([0-9]{1,5})", token):
        raise ValueError(f"has its port after a colon; write {match[1]}@{match[2]}, as unbound does")
    host, at, port = token.partition("@")
    where = _reachable(HostPort(str(address(host)))).host
    if at and not (re.fullmatch("[0-9]{1,5}", port) and 0 < int(port) <= MAX_PORT):
        raise ValueError(f"has no port from 1 to {MAX_PORT}; write ADDRESS@PORT, for example: 192.0.2.53@5353")
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
            f"has port {IMPLICIT_TLS}, which needs TLS from the start (RFC 8314); mail is not delivered that way. "
            "Write the server's port for mail from other servers, for example: smtp.example.net:25"
        )
    return server


_SOCKET_PATH = re.compile(r"(?:[A-Za-z0-9_][A-Za-z0-9._-]*/)+[A-Za-z0-9_][A-Za-z0-9._-]*")


def milter(token: str) -> str:
    """A milter as Postfix writes it."""
    return _socket(token, "a milter", "unix:rspamd/milter.sock", "inet:rspamd:11332")


def sasl(token: str | None) -> str | None:
    """The auth service of a Dovecot, written as a milter is; or nothing."""
    return None if token is None else _socket(token, "an auth service", "unix:dovecot/auth", "inet:dovecot:12345")


def _socket(token: str, what: str, by_path: str, by_name: str) -> str:
    """unix:PATH from the queue directory, where the chroot is, or inet:HOST:PORT; with examples for messages."""
    kind, _, rest = _without_credentials(token).partition(":")
    if kind == "unix":
        if rest.startswith("/"):
            inside = rest.removeprefix(QUEUE_DIRECTORY).lstrip("/")
            raise ValueError(
                f"has an absolute path, which smtpd cannot see from its chroot; mount the socket's directory below "
                f"{QUEUE_DIRECTORY} and write the path from there, for example: unix:{inside}"
            )
        if not _SOCKET_PATH.fullmatch(rest):
            raise ValueError(f"has no path in a directory of its own; write, for example: {by_path}")
        if rest.partition("/")[0] in ALL_NAMES:
            raise ValueError(f"is in a directory of our own services; use another directory, for example: {by_path}")
        return token
    if kind == "inet" and rest:
        where = nested(host_port, rest)
        if where.port is not None:
            return f"inet:{_reachable(where)}"
    raise ValueError(f"is not {what}; write unix:DIRECTORY/SOCKET or inet:HOST:PORT, for example: {by_name}")


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


@dataclass(frozen=True)
class Route:
    """Where mail for a domain goes, without one for all others; without a next hop to Maildirs."""

    domain: str | None
    hop: NextHop | None

    def __str__(self) -> str:
        hop = str(self.hop or "maildir")
        return f"{self.domain}={hop}" if self.domain else hop


def route(token: str) -> Route:
    """A delivery, or DOMAIN=DELIVERY."""
    domain, equals, rest = _without_credentials(token).partition("=")
    return Route(nested(domain_name, domain), nested(delivery, rest)) if equals else Route(None, delivery(token))
