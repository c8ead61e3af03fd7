"""The field's own kinds of value: domain names, mailboxes, networks, next hops.

Each parser takes one token as a person typed it and returns its one canonical form, or raises ValueError with the
remedy. The token itself and the variable are added by whoever knows them (settings.py).
"""

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, TypeVar

import dns.exception
import dns.rdata
import idna
from pydantic import AfterValidator

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# RFC 1035 section 2.3.4: 255 octets on the wire are 253 characters of text without the final dot.
MAX_NAME = 253
# RFC 5321 section 4.5.3.1.1.
MAX_LOCAL_PART = 64
MAX_PORT = 65535
# RFC 8301 section 3.2: signers use at least 1024 bits, and should use 2048; verifiers refuse less than 1024.
MIN_KEY_BITS = 1024
GOOD_KEY_BITS = 2048

_T = TypeVar("_T")

_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_SELECTOR = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?")
# RFC 5321 Dot-string, without the characters that are ours in lists and tables (comma, equals sign, slash) and
# without "!" and "%", which Postfix reads as source routes. A leading "#" would be a comment in a table, and Postfix
# takes no recipient with a leading "-" (postconf(5), allow_min_user).
_ATEXT = r"[a-z0-9#$&'*?^_`{|}~+-]+"
_LOCAL_PART = re.compile(rf"(?![#-]){_ATEXT}(?:\.{_ATEXT})*", re.IGNORECASE | re.ASCII)
_SEPARATORS = re.compile(r"[\s,]+")

_IPV4 = re.compile(r"[0-9.]+")
_OWNER = re.compile(r"\.|(?:[a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}\.?", re.IGNORECASE | re.ASCII)
# RFC 7208 section 12: name "=" macro-string; a mechanism has no "=" before its colon or slash.
_MECHANISM = re.compile(r"all|(?:a|mx|ptr)(?:[:/][^,]+)?|(?:include|exists|ip4|ip6):[^,]+")
_MODIFIER = re.compile(r"[a-z][a-z0-9_.-]*=", re.IGNORECASE)


def split_list(value: object) -> object:
    """Split a list as people write it: tokens between commas, white space or both; empty ones do not count."""
    if isinstance(value, str):
        return [token for token in _SEPARATORS.split(value) if token]
    return value


def split_commas(value: object) -> object:
    """Split a list whose tokens hold blanks: tokens between commas."""
    if isinstance(value, str):
        return [token.strip() for token in value.split(",") if token.strip()]
    return value


def domain_name(token: str) -> str:
    """A fully qualified host or mail domain: lower case, A-labels (RFC 5890), no final dot."""
    text = token.removesuffix(".")
    if not text or text.startswith("."):
        raise ValueError("is not a domain name; write it without a leading dot, such as example.com")
    if "*" in text:
        raise ValueError("is a wildcard; list each domain by its own name, sub-domains have their own setting")
    if not text.isascii():
        try:
            text = idna.encode(text, uts46=True).decode()
        except idna.IDNAError as error:
            raise ValueError(f"is not an internationalised domain name ({error})") from None
    text = text.lower()
    labels = text.split(".")
    if not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError("is not a domain name; only letters, digits, hyphens and dots, without quotes")
    if len(labels) < 2 or labels[-1].isdigit():  # noqa: PLR2004
        raise ValueError("is not fully qualified; write a name with at least two labels, such as example.com")
    if len(text) > MAX_NAME:
        raise ValueError(f"is longer than {MAX_NAME} characters (RFC 1035)")
    return text


def selector(token: str) -> str:
    """A DKIM selector (RFC 6376 section 3.1) of one label."""
    text = token.lower()
    if not _SELECTOR.fullmatch(text):
        raise ValueError("is not a selector; use letters, digits and hyphens, such as default or s2026")
    return text


def mailbox(token: str) -> str:
    """An address user@domain; the local part in lower case, because mailboxes here do not depend on case."""
    local, at, domain = token.rpartition("@")
    if not at:
        raise ValueError("is not an address; write user@example.com")
    if not _LOCAL_PART.fullmatch(local) or len(local) > MAX_LOCAL_PART:
        raise ValueError(f"has a local part that cannot be used: {local!r}; letters, digits and . _ + - are safe")
    return f"{local.lower()}@{_nested(domain_name, domain)}"


def network(token: str) -> Network:
    """An address or a network in CIDR notation, host bits zero."""
    try:
        return ipaddress.ip_network(token)
    except ValueError:
        pass
    try:
        meant = ipaddress.ip_network(token, strict=False)
    except ValueError:
        raise ValueError("is not a network; write CIDR notation, such as 192.0.2.0/24 or 2001:db8::/32") from None
    raise ValueError(f"has host bits set; write {meant}")


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


def ipv4_address(token: str) -> ipaddress.IPv4Address:
    """An IPv4 address."""
    try:
        return ipaddress.IPv4Address(token)
    except ValueError:
        raise ValueError("is not an IPv4 address, such as 192.0.2.25") from None


@dataclass(frozen=True)
class HostPort:
    """A host, by domain name or address, and a TCP or UDP port; None stands for the protocol's own."""

    host: str
    port: int | None = None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"


def host_port(token: str) -> HostPort:
    """HOST or HOST:PORT; a host in square brackets is taken too, as Postfix users write it."""
    match = re.fullmatch(r"(?:\[(?P<bracketed>[^\]]+)\]|(?P<plain>[^:\[\]]+))(?::(?P<port>[0-9]+))?", token)
    if not match:
        raise ValueError("is not HOST:PORT; an IPv6 address goes into brackets, such as [2001:db8::25]:25")
    host = match["bracketed"] or match["plain"]
    host = str(_nested(address, host)) if ":" in host or _IPV4.fullmatch(host) else _nested(domain_name, host)
    port = None if match["port"] is None else int(match["port"])
    if port is not None and not 0 < port <= MAX_PORT:
        raise ValueError(f"has a port outside 1 to {MAX_PORT}")
    return HostPort(host, port)


def optional_host_port(token: str | None) -> HostPort | None:
    """The same, or nothing."""
    return None if token is None else host_port(token)


def forwarder(token: str) -> HostPort:
    """ADDRESS or ADDRESS@PORT, as unbound.conf(5) writes forward-addr."""
    host, at, port = token.partition("@")
    where = str(address(host))
    if at and not (re.fullmatch("[0-9]{1,5}", port) and 0 < int(port) <= MAX_PORT):
        raise ValueError(f"has no port from 1 to {MAX_PORT}; write ADDRESS@PORT, such as 192.0.2.53@5353")
    return HostPort(where, int(port) if at else None)


@dataclass(frozen=True)
class Alias:
    """Mail for one address goes to another."""

    address: str
    target: str


def alias(token: str) -> Alias:
    """ADDRESS=TARGET, both full addresses."""
    left, equals, right = token.partition("=")
    if not equals:
        raise ValueError("is not an alias; write info@example.com=user@example.com")
    return Alias(_nested(mailbox, left), _nested(mailbox, right))


def trust_anchor(token: str) -> str:
    """A DS or DNSKEY record in presentation form (RFC 4034), owner name first."""
    parts = token.split()
    if parts and not _OWNER.fullmatch(parts[0]):
        raise ValueError(f"is not a trust anchor; {parts[0]!r} is not a domain name")
    for ignored in ("IN", "in"):
        if ignored in parts[1:3]:
            parts.remove(ignored)
    kind = parts[1].upper() if len(parts) > 1 else ""
    if kind not in {"DS", "DNSKEY"}:
        raise ValueError("is not a trust anchor; write a DS or DNSKEY record, such as '. DS 12345 13 2 0123…'")
    try:
        data = dns.rdata.from_text("IN", kind, " ".join(parts[2:]))
    except dns.exception.DNSException as error:
        raise ValueError(f"is not a {kind} record ({error})") from None
    return f"{parts[0]} IN {kind} {data.to_text()}"


def spf_record(token: str) -> str:
    """A whole SPF record (RFC 7208 section 4.5)."""
    terms = token.split()
    if not terms or terms[0].lower() != "v=spf1":
        raise ValueError("is not an SPF record; it starts with v=spf1, such as 'v=spf1 mx -all'")
    if not token.isascii() or not token.isprintable() or '"' in token or "\\" in token:
        raise ValueError("holds characters that an SPF record cannot have; write it without quotes and backslashes")
    mechanisms = [term.lower().lstrip("+-~?") for term in terms[1:] if not _MODIFIER.match(term)]
    unknown = [one for one in mechanisms if not _MECHANISM.fullmatch(one)]
    if unknown:
        raise ValueError(f"has a term that is no SPF mechanism: {unknown[0]!r}; that is an error to every receiver")
    if "all" in mechanisms[:-1]:
        raise ValueError("has 'all' more than once or not at its end; what follows 'all' is never read (RFC 7208 5.1)")
    return " ".join(terms)


@dataclass(frozen=True)
class NextHop:
    """Where mail for our domains goes: protocol 'lmtp' or 'smtp', and the server."""

    protocol: str
    server: HostPort


def delivery(token: str | None) -> NextHop | None:
    """'maildir' (None), or lmtp:HOST:PORT or smtp:HOST:PORT for a mailbox server that is there already."""
    if token is None or token == "maildir":  # noqa: S105
        return None
    protocol, _, rest = token.partition(":")
    if protocol not in {"lmtp", "smtp"} or not rest:
        raise ValueError("is not a delivery; write maildir, lmtp:HOST:PORT or smtp:HOST:PORT")
    server = _nested(host_port, rest)
    default = {"lmtp": 24, "smtp": 25}[protocol]
    return NextHop(protocol, HostPort(server.host, server.port or default))


def _nested(parser: Callable[[str], _T], part: str) -> _T:
    """Parse a part of a token; the part is named in the message, since the caller only names the whole."""
    try:
        return parser(part)
    except ValueError as error:
        raise ValueError(f"{part!r} {error}") from None


DomainName = Annotated[str, AfterValidator(domain_name)]
Selector = Annotated[str, AfterValidator(selector)]
Mailbox = Annotated[str, AfterValidator(mailbox)]
SpfRecord = Annotated[str, AfterValidator(spf_record)]
TrustAnchor = Annotated[str, AfterValidator(trust_anchor)]
