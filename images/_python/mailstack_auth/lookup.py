"""DNS for pyspf, by dnspython and without waiting threads. A failure of DNS is an error here, never an empty answer.

pyspf's own driver for py3dns takes SERVFAIL for "no such record", which turns temperror into none or permerror; the one
for dnspython searches the host's own domain and lets exceptions through that are no results.

Answers are kept as long as their TTL says. dnspython's own cache is not used: it keeps whole messages, several
kilobytes for each, counts them without regard to their size, and up to version 2.7 at least keeps a negative answer
without SOA for ever.
"""

import time
from collections.abc import Callable
from typing import Any

import dns.asyncresolver
import dns.exception
import dns.message
import dns.name
import dns.rdatatype
import dns.resolver
import spf

from mailstack_auth.remember import Remembered

Answer = tuple[tuple[str, str], object]

# All answers together, in octets as they came from the wire.
CACHE_OCTETS = 4 * 1024 * 1024
# What an entry weighs in memory beside that.
_ENTRY_OCTETS = 400
# Longer than this nobody's record is believed: resolvers do the same (unbound.conf(5), cache-max-ttl).
MAX_TTL = 86400
# A record should fit into 512 octets (RFC 7208 section 3.4); pyspf's time grows with the square of its terms.
MAX_RECORD = 8192


class Lookups:
    """A stub resolver with a cache."""

    def __init__(
        self, resolver: dns.asyncresolver.Resolver | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        # The default is what /etc/resolv.conf says.
        self._resolver = resolver or dns.asyncresolver.Resolver()
        self._cache: Remembered[tuple[str, str], tuple[object, ...]] = Remembered(CACHE_OCTETS, clock)

    def known(self, name: str, kind: str) -> list[Answer] | None:
        """What look_up() would say without asking anybody; None if it would have to ask."""
        values = self._cache.get((name.lower(), kind))
        return None if values is None else [((name, kind), value) for value in values]

    async def look_up(self, name: str, kind: str, seconds: float) -> list[Answer]:
        """The records at a name in pyspf's form, CNAMEs followed; empty for NXDOMAIN, for NODATA and for no DNS name.

        Raises spf.TempError when DNS gives no answer within so many seconds, spf.PermError for an SPF record of absurd
        length.
        """
        known = self.known(name, kind)
        if known is not None:
            return known
        owner = _owner(name)
        values = () if owner is None else await self._ask(owner, (name.lower(), kind), seconds)
        return [((name, kind), value) for value in values]

    async def _ask(self, owner: dns.name.Name, key: tuple[str, str], seconds: float) -> tuple[object, ...]:
        try:
            answer = await self._resolver.resolve(
                owner, key[1], lifetime=max(seconds, 0.0), search=False, raise_on_no_answer=False
            )
            message, records = answer.response, tuple(answer.rrset or ())
        except dns.resolver.NXDOMAIN as error:
            message, records = error.response(owner), ()  # type: ignore[no-untyped-call]
        except dns.resolver.YXDOMAIN:
            return ()
        except dns.exception.DNSException as error:
            raise spf.TempError(f"DNS {error}") from None
        values = tuple(_value(record) for record in records)
        weight = _ENTRY_OCTETS + sum(len(record.to_wire()) for record in records)
        self._cache.put(key, values, min(_ttl(message), MAX_TTL), weight)
        return values


def _owner(name: str) -> dns.name.Name | None:
    """The name as DNS has it, dots between labels and every other character literal; None if it cannot be one.

    Macros bring in what a client sent (RFC 7208 section 7), where a backslash is no escape. A name that is not ASCII
    comes from a local part and matches nothing (RFC 8616 section 4).
    """
    try:
        return dns.name.Name([*(label.encode("ascii") for label in name.removesuffix(".").split(".")), b""])
    except (dns.exception.DNSException, UnicodeError):
        return None


def _ttl(message: dns.message.Message) -> int:
    """How long an answer may be kept, CNAMEs on the way to it included.

    A negative one by its SOA, and not at all without (RFC 2308 section 5).
    """
    assert isinstance(message, dns.message.QueryMessage)  # noqa: S101
    found = message.resolve_chaining()
    if found.answer is None and not any(one.rdtype == dns.rdatatype.SOA for one in message.authority):
        return 0
    return found.minimum_ttl


def _value(record: Any) -> object:  # noqa: ANN401
    match record.rdtype:
        case dns.rdatatype.TXT:
            if record.strings[0][:6].lower() == b"v=spf1" and sum(map(len, record.strings)) > MAX_RECORD:
                raise spf.PermError(f"the record has more than {MAX_RECORD} octets")
            return record.strings
        case dns.rdatatype.MX:
            return record.preference, _text(record.exchange)
        case dns.rdatatype.PTR:
            return _text(record.target)
        case _:
            return record.to_text()


def _text(name: dns.name.Name) -> str:
    """A name for pyspf, which hands it back as it is: without escapes, since none are taken on the way in."""
    return b".".join(name.labels[:-1]).decode("latin-1")
