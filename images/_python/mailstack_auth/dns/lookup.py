"""DNS for SPF and DMARC, by dnspython and without waiting threads.

A failure of DNS is an error here, never an empty answer.
What comes from DNS is anybody's, and one event loop works on it: an answer is cut, and a record refused, before it
costs dnspython or pyspf more than 20 ms of CPU.

pyspf's own driver for py3dns takes SERVFAIL for "no such record", which turns temperror into none or permerror; the one
for dnspython searches the host's own domain and lets exceptions through that are no results.

Answers are kept as long as their TTL says. dnspython's own cache is not used: it keeps whole messages, several
kilobytes for each, counts them without regard to their size, and up to version 2.7 at least keeps a negative answer
without SOA for ever.
"""

import sys
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

from mailstack_auth.dns import wire
from mailstack_auth.runtime.cache import Cache

Answer = tuple[tuple[str, str], object]

# All answers together, in octets of memory.
CACHE_OCTETS = 4 * 1024 * 1024
# What an entry weighs beside its name and its values: the key's and the entry's tuples, a float, an int, places in a
# table and a linked list (measured in test_lookup.py).
_ENTRY_OCTETS = 400
# Longer than this nobody's record is believed: resolvers do the same (unbound.conf(5), cache-max-ttl).
MAX_TTL = 86400

# A record should fit into 512 octets (RFC 7208 section 3.4). pyspf's time grows with the square of a term's length,
# with the number of terms, each of which it parses before it evaluates one, and with that of macros.
MAX_RECORD = 4096
MAX_TERM = 280
MAX_TERMS = 400
MAX_MACROS = 24
# Beside an SPF record, of which two are as wrong as more.
_MAX_SPF = 2
# In place of TXT records that are no SPF records: pyspf sees that there are some, which is no void look-up.
_OTHER_TXT = (b"",)
# Kinds of answers beside DNS types, and the type that is asked for. A CNAME is not followed then: a name exists
# whatever it points to (RFC 8020), and however many addresses it has.
_TEXTS, _EXISTENCE = "texts", "existence"
_ASKED = {_TEXTS: "TXT", _EXISTENCE: "CNAME"}


class Lookups:
    """A stub resolver with a cache."""

    def __init__(
        self,
        resolver: dns.asyncresolver.Resolver | None = None,
        clock: Callable[[], float] = time.monotonic,
        capacity: int = CACHE_OCTETS,
    ) -> None:
        # The default is what /etc/resolv.conf says.
        self._resolver = resolver or dns.asyncresolver.Resolver()
        self._backend = wire.Backend()
        self._cache: Cache[tuple[str, str], tuple[object, ...]] = Cache(capacity, clock)

    def known(self, name: str, kind: str) -> list[Answer] | None:
        """What look_up() would say without asking anybody; None if it would have to ask."""
        values = self._cache.get((name.lower(), kind))
        return None if values is None else [((name, kind), value) for value in values]

    def seconds_left(self, name: str, kind: str) -> float:
        """How long an answer is valid; nothing where it is not known."""
        return self._cache.seconds_left((name.lower(), kind))

    async def look_up(self, name: str, kind: str, seconds: float) -> list[Answer]:
        """The records at a name in pyspf's form, CNAMEs followed; empty for NXDOMAIN, for NODATA and for no DNS name.

        Of TXT records SPF records alone, since nobody here asks for others. Raises spf.TempError when DNS gives no
        answer within so many seconds, spf.PermError for an answer or an SPF record of absurd length.
        """
        return [((name, kind), value) for value in await self._values(name, kind, seconds)]

    async def texts(self, name: str, seconds: float) -> list[bytes]:
        """All TXT records at a name, the strings of each one joined. Raises as look_up() does."""
        return [value for value in await self._values(name, _TEXTS, seconds) if isinstance(value, bytes)]

    async def exists(self, name: str, seconds: float) -> bool:
        """Whether there is such a name: whatever is there, it is not NXDOMAIN (RFC 8020). Raises as look_up() does."""
        return bool(await self._values(name, _EXISTENCE, seconds))

    async def _values(self, name: str, kind: str, seconds: float) -> tuple[object, ...]:
        values = self._cache.get((name.lower(), kind))
        if values is not None:
            return values
        owner = _owner(name)
        return () if owner is None else await self._ask(owner, (name.lower(), kind), seconds)

    async def _ask(self, owner: dns.name.Name, key: tuple[str, str], seconds: float) -> tuple[object, ...]:
        try:
            answer = await self._resolver.resolve(
                owner,
                _ASKED.get(key[1], key[1]),
                lifetime=max(seconds, 0.0),
                search=False,
                raise_on_no_answer=False,
                backend=self._backend,
            )
            message, values = answer.response, _values(key[1], tuple(answer.rrset or ()))
        except dns.resolver.NXDOMAIN as error:
            message, values = error.response(owner), ()  # type: ignore[no-untyped-call]
        except dns.resolver.YXDOMAIN:
            return ()
        except dns.exception.DNSException as error:
            raise spf.TempError(f"DNS {error}") from None
        if sum(map(len, message.answer)) >= wire.MAX_RECORDS:
            raise spf.PermError(f"a name has {wire.MAX_RECORDS} records or more")
        weight = _ENTRY_OCTETS + _size(key[0]) + _size(values)
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


def _values(kind: str, records: tuple[Any, ...]) -> tuple[object, ...]:
    match kind:
        case "TXT":
            texts = [b"".join(record.strings) for record in records]
            found = tuple((text,) for text in texts if spf.RE_SPF.match(text))
            for (text,) in found:
                check_length(text)
            return found[:_MAX_SPF] or (_OTHER_TXT,) * bool(texts)
        case "MX":
            return tuple((record.preference, _text(record.exchange)) for record in records)
        case "PTR":
            return tuple(_text(record.target) for record in records)
        case _ if kind == _TEXTS:
            return tuple(b"".join(record.strings) for record in records)
        case _ if kind == _EXISTENCE:
            return (True,)
        case _:
            return tuple(record.to_text() for record in records)


def check_length(record: bytes) -> None:
    """Refuse an SPF record that costs too much. Raises spf.PermError."""
    terms = record.split(b" ")
    if len(record) > MAX_RECORD:
        raise spf.PermError(f"the record has more than {MAX_RECORD} octets")
    if len(terms) > MAX_TERMS or max(map(len, terms)) > MAX_TERM:
        raise spf.PermError(f"the record has more than {MAX_TERMS} terms, or one of more than {MAX_TERM} octets")
    if record.count(b"%") > MAX_MACROS:
        raise spf.PermError(f"the record has more than {MAX_MACROS} macros")


def _size(value: object) -> int:
    """What a value keeps of memory, in octets."""
    return sys.getsizeof(value) + (sum(map(_size, value)) if isinstance(value, tuple) else 0)


def _text(name: dns.name.Name) -> str:
    """A name for pyspf, which hands it back as it is: without escapes, since none are taken on the way in."""
    return b".".join(name.labels[:-1]).decode("latin-1")
