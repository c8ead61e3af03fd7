"""Domain names and addresses as they are compared and written."""

import ipaddress
import itertools
import re
from collections.abc import Iterator
from functools import lru_cache

import idna

# Letters, digits, hyphens, and underscores, which DNS names other than hosts' have (RFC 8553).
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
MAX_DOMAIN = 253

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def domain(text: str) -> str | None:
    """A domain in lower case and as A-labels (RFC 5891); None for what is no name that mail could come from."""
    return _domain(text) if len(text) <= MAX_DOMAIN else None


@lru_cache(1024)
def _domain(text: str) -> str | None:
    if not text.isascii():
        try:
            text = idna.encode(text, uts46=True).decode("ascii")
        except (idna.IDNAError, UnicodeError):
            return None
    name = text.lower()
    return name if len(name) <= MAX_DOMAIN and _DOMAIN.fullmatch(name) else None


def within(name: str, parent: str) -> bool:
    """Whether a name is a domain or lies below it."""
    return name == parent or name.endswith(f".{parent}")


def distance(one: str, other: str) -> tuple[bool, int]:
    """How far two names are apart: the same one first, then those with more labels in common at their ends."""
    pairs = zip(reversed(one.split(".")), reversed(other.split(".")), strict=False)
    return one != other, -sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def shown(domain: str) -> str:
    """A domain for a reply, where it is named only if it looks like one."""
    return domain.lower() if re.fullmatch(r"[A-Za-z0-9_.-]{1,253}", domain) else "the sender's domain"


def and_parents(name: str) -> Iterator[str]:
    """A domain and those above it, the nearest first."""
    while name:
        yield name
        name = name.partition(".")[2]


@lru_cache(1024)
def address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An address, without the zone of a link-local one (RFC 4007 section 11), which means nothing elsewhere.

    An IPv4 address as IPv6 writes it is the IPv4 address. Raises ValueError.
    """
    found = ipaddress.ip_address(text.partition("%")[0])
    return getattr(found, "ipv4_mapped", None) or found


def canonical(text: str) -> str:
    """An address as it is written (RFC 5952). Raises ValueError."""
    return str(address(text))
