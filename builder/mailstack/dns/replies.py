"""What name servers said, as plain values."""

from collections.abc import Iterable
from dataclasses import dataclass

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdatatype
import dns.rdtypes.ANY.TXT

RESOLVER = "resolver"
# No name of a mail domain has more records of a kind; a hostile one has thousands, each to be compared with all others.
MAX_VALUES = 500


@dataclass(frozen=True)
class Server:
    """A name server at one of its addresses; a resolver has the name RESOLVER."""

    name: str
    address: str

    def __str__(self) -> str:
        return f"{self.name} ({self.address})" if self.address else self.name


@dataclass(frozen=True)
class Answer:
    """What one server says of one question.

    values are in presentation form, sorted, names in lower case without the final dot; a TXT value is its strings
    joined. They are those at the end of the CNAMEs that the server knows. cname is the target of a CNAME at the name
    itself, exists false for NXDOMAIN, failure why there is no answer (a predicate: "does not answer"). ttl is in
    seconds.
    """

    server: Server
    values: tuple[str, ...] = ()
    cname: str | None = None
    exists: bool = True
    failure: str = ""
    ttl: int = 0
    # A CNAME and other records share the name.
    beside: bool = False
    # The resolver has validated it (RFC 4035 section 3.2.3, AD).
    secure: bool = False


@dataclass(frozen=True)
class Authority:
    """A server to which a zone is delegated: the serial of its SOA, or what is wrong (a predicate)."""

    server: Server
    zone: str
    serial: int | None
    failure: str

    def __str__(self) -> str:
        return f"{self.server}, serial {self.serial}" if self.serial is not None else str(self.server)


@dataclass(frozen=True)
class Seen:
    """The records of a kind at a name, as everybody has them; answers are of the authoritative servers that work."""

    name: str
    kind: str
    zone: str | None
    authorities: tuple[Authority, ...]
    answers: tuple[Answer, ...]
    resolved: Answer

    @property
    def good(self) -> tuple[Answer, ...]:
        """The answers of authoritative servers; the resolver's where there is none."""
        return tuple(one for one in self.answers if not one.failure) or tuple(
            one for one in (self.resolved,) if not one.failure
        )

    def groups(self) -> dict[tuple[tuple[str, ...], str | None], list[Answer]]:
        """The good answers by what they say."""
        found: dict[tuple[tuple[str, ...], str | None], list[Answer]] = {}
        for one in self.good:
            found.setdefault((() if one.cname else one.values, one.cname), []).append(one)
        return found

    @property
    def values(self) -> tuple[str, ...]:
        """All values that anybody has; behind a CNAME those that the resolver finds."""
        sources = [self.resolved, *self.good] if self.cname else self.good
        return tuple(dict.fromkeys(value for one in sources for value in one.values))

    @property
    def cname(self) -> str | None:
        """The target of a CNAME at the name, if anybody has one."""
        return next((one.cname for one in self.good if one.cname), None)

    def where(self, answers: Iterable[Answer] | None = None) -> tuple[str, ...]:
        """Who gave some answers, or the good ones, with serials."""
        serials = {one.server: str(one) for one in self.authorities}
        return tuple(serials.get(one.server, str(one.server)) for one in (self.good if answers is None else answers))


def failed(server: Server, failure: str) -> Answer:
    """An answer that is none."""
    return Answer(server, failure=failure, exists=True)


def owner(name: str) -> dns.name.Name:
    """A name for a question; "" and "." are the root."""
    return dns.name.from_text(name or ".")


def read(server: Server, name: str, kind: str, message: dns.message.Message, *, authoritative: bool) -> Answer:
    """The answer that a message holds.

    An authoritative server that refuses, or does not set AA, is lame: it does not have the zone (RFC 1912 section 2.8).
    """
    code = message.rcode()
    if code not in {dns.rcode.NOERROR, dns.rcode.NXDOMAIN}:
        return failed(server, f"answers {dns.rcode.to_text(code)}")
    if authoritative and not message.flags & dns.flags.AA:
        return failed(server, "is not authoritative (no AA)")
    assert isinstance(message, dns.message.QueryMessage)  # noqa: S101
    try:
        found = message.resolve_chaining()
    except dns.exception.DNSException:
        return failed(server, "answers with a chain of CNAMEs that does not end")
    cnames = [one for one in message.answer if one.rdtype == dns.rdatatype.CNAME and one.name == owner(name)]
    cname = None if not cnames or kind == "CNAME" else _name(next(iter(cnames[0])).target)
    values = sorted(map(_value, found.answer or ()))[:MAX_VALUES]
    # Of a CNAME that leads nowhere, the code says whether the target exists (RFC 6604 section 3).
    exists = code == dns.rcode.NOERROR or bool(cname)
    beside = bool(cname and found.answer is not None and found.answer.name == owner(name))
    secure = not authoritative and bool(message.flags & dns.flags.AD)
    return Answer(server, tuple(values), cname, exists, ttl=found.minimum_ttl, beside=beside, secure=secure)


def _value(data: dns.rdata.Rdata) -> str:
    if isinstance(data, dns.rdtypes.ANY.TXT.TXT):
        return b"".join(data.strings).decode("utf-8", "surrogateescape")
    words = data.to_text().lower().split(" ")
    return " ".join(word.removesuffix(".") or "." for word in words)


def _name(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True).lower()
