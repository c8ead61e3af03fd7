"""DNS as the world sees it: every authoritative server of a zone by itself, and a resolver.

All questions run side by side. Each try has its own time limit and all of them one deadline, so that silent servers
cost seconds and never minutes; what is not known at the deadline counts as silence.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

import dns.asyncquery
import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.resolver

from mailstack.dns import replies
from mailstack.dns.replies import Answer, Authority, Seen, Server
from mailstack.errors import DnsError
from mailstack_auth.names import and_parents

# For a whole check, for a try and the number of tries of one question.
SECONDS = 10.0
TRY_SECONDS = 2.0
_TRIES = 2
# Of one that was not asked for want of time.
OUT_OF_TIME = "was not asked in time"
_PORT = 53
_AT_ONCE = 100
# What passes every path without fragments (RFC 9715 section 3.1).
_UDP_OCTETS = 1232
# Addresses of a zone's servers; no zone of a mail domain has more.
_MAX_SERVERS = 32

_T = TypeVar("_T")


def look(
    work: Callable[["Look"], Awaitable[_T]], resolvers: Sequence[str] = (), port: int = _PORT, seconds: float = SECONDS
) -> _T:
    """What work() finds with a Look, within so many seconds.

    resolvers are addresses; none: those of /etc/resolv.conf. All servers are asked at one port. Raises DnsError if no
    resolver answers.
    """

    async def looked() -> _T:
        found = Look(list(resolvers) or _configured(), port, seconds)
        await found.choose_resolver()
        return await work(found)

    return asyncio.run(looked())


def _configured() -> list[str]:
    try:
        return [str(one) for one in dns.resolver.get_default_resolver().nameservers]
    except dns.resolver.NoResolverConfiguration:
        raise DnsError("/etc/resolv.conf names no resolver; name one with --resolver ADDRESS") from None


class Look:
    """Asks each question once."""

    def __init__(self, resolvers: Sequence[str], port: int, seconds: float) -> None:
        self._resolvers = resolvers
        self._resolver = Server("resolver", resolvers[0])
        self.port = port
        self._deadline = asyncio.get_running_loop().time() + seconds
        self._turn = asyncio.Semaphore(_AT_ONCE)
        self._tasks: dict[tuple[object, ...], asyncio.Task[Any]] = {}

    @property
    def resolver(self) -> str:
        """The address of the resolver that answers."""
        return self._resolver.address

    @property
    def left(self) -> float:
        """Seconds until the deadline."""
        return max(0.0, self._deadline - asyncio.get_running_loop().time())

    async def choose_resolver(self) -> None:
        """Take the first resolver that answers. Raises DnsError if none does."""
        tries = [self._ask(Server("resolver", one), ".", "SOA", recursion=True) for one in self._resolvers]
        for done in asyncio.as_completed(tries):
            answer = await done
            if not answer.failure:
                self._resolver = answer.server
                return
        raise DnsError(
            f"no resolver answers ({', '.join(self._resolvers)}); allow DNS from this host, or name another resolver "
            "with --resolver ADDRESS"
        )

    async def see(self, name: str, kind: str) -> Seen:
        """The records of a kind at a name, as the resolver and each authoritative server have them."""
        return await self._once(("see", name, kind), lambda: self._see(name, kind))

    async def resolve(self, name: str, kind: str, *, checked: bool = True) -> Answer:
        """What the resolver says; not checked: with data that does not validate (RFC 4035 section 3.2.2, CD)."""
        return await self._once(
            ("resolve", name, kind, checked),
            lambda: self._ask(self._resolver, name, kind, recursion=True, checked=checked),
        )

    async def by_stream(self, seen: Seen) -> list[Answer]:
        """What the authoritative servers say of a question by TCP, in the order of seen.answers."""
        asked = (self._ask(one.server, seen.name, seen.kind, stream=True) for one in seen.answers)
        return list(await asyncio.gather(*asked))

    async def zone_of(self, name: str) -> str | None:
        """The zone in which a name lies, "" for the root; None where the resolver cannot tell.

        The nearest name, itself included, that has a SOA record of its own: behind a CNAME it is another name's.
        """
        above = [*and_parents(name), ""]
        for zone, answer in zip(above, await asyncio.gather(*map(self._soa, above)), strict=True):
            if answer.failure:
                return None
            if answer.values and (answer.cname is None or answer.beside):
                return zone
        return None

    async def authorities(self, zone: str) -> tuple[Authority, ...]:
        """The servers of a zone, at each address, with the serial that each has or what is wrong with it."""
        return await self._once(("authorities", zone), lambda: self._authorities(zone))

    async def _see(self, name: str, kind: str) -> Seen:
        zone, resolved = await asyncio.gather(self.zone_of(name), self.resolve(name, kind))
        # A registry's servers have nothing to say of a domain that nobody has registered.
        if zone is None or ("." not in zone and not resolved.exists):
            return Seen(name, kind, zone, (), (), resolved)
        servers = await self.authorities(zone)
        good = [one.server for one in servers if not one.failure]
        answers = await asyncio.gather(*(self._ask(one, name, kind) for one in good))
        return Seen(name, kind, zone, servers, tuple(answers), resolved)

    async def _soa(self, name: str) -> Answer:
        return await self.resolve(name, "SOA", checked=False)

    async def _authorities(self, zone: str) -> tuple[Authority, ...]:
        names = (await self.resolve(zone, "NS", checked=False)).values
        servers = [one for found in await asyncio.gather(*map(self._addresses, names)) for one in found]
        probes = (self._authority(zone, one) for one in servers[:_MAX_SERVERS])
        return tuple(await asyncio.gather(*probes))

    async def _addresses(self, name: str) -> list[Server]:
        """A server at its addresses that can be reached from here; without one, at no address."""
        families = await asyncio.gather(*(self.resolve(name, kind, checked=False) for kind in ("A", "AAAA")))
        known = [one for family in families for one in family.values]
        return [Server(name, one) for one in known if _has_route(one)] or [Server(name, "")] * (not known)

    async def _authority(self, zone: str, server: Server) -> Authority:
        if not server.address:
            return Authority(server, zone, None, "has no address")
        answer = await self._ask(server, zone, "SOA")
        if answer.failure or not answer.values or (answer.cname and not answer.beside):
            return Authority(server, zone, None, answer.failure or "does not have the zone")
        return Authority(server, zone, int(answer.values[0].split()[2]), "")

    async def _once(self, key: tuple[object, ...], work: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        if key not in self._tasks:
            self._tasks[key] = asyncio.create_task(work())
        found: _T = await self._tasks[key]
        return found

    async def _ask(
        self,
        server: Server,
        name: str,
        kind: str,
        *,
        recursion: bool = False,
        checked: bool = True,
        stream: bool = False,
    ) -> Answer:
        """One question to one server: by UDP, and by TCP where the answer is truncated (RFC 7766 section 5).

        stream is by TCP alone.
        """
        try:
            query = dns.message.make_query(replies.owner(name), kind, use_edns=0, payload=_UDP_OCTETS)
        except (dns.exception.DNSException, UnicodeError):
            # Names come from records, too, and some are too long.
            return Answer(server, exists=False)
        query.flags = dns.flags.Flag(0)
        if recursion:
            # AD asks whether the answer was validated (RFC 6840 section 5.7).
            query.flags |= dns.flags.RD | dns.flags.AD
        if not checked:
            query.flags |= dns.flags.CD
        for _ in range(_TRIES):
            async with self._turn:
                if not self.left:
                    return replies.failed(server, OUT_OF_TIME)
                try:
                    async with asyncio.timeout(min(TRY_SECONDS, self.left)):
                        message = await self._exchange(query, server.address, stream=stream)
                except (TimeoutError, dns.exception.Timeout):
                    continue
                except (dns.exception.DNSException, OSError, EOFError):
                    return replies.failed(server, "answers with what is no DNS message")
                return replies.read(server, name, kind, message, authoritative=not recursion)
        return replies.failed(server, "does not answer")

    async def _exchange(self, query: dns.message.Message, address: str, *, stream: bool) -> dns.message.Message:
        if stream:
            return await dns.asyncquery.tcp(query, address, port=self.port)
        message, _ = await dns.asyncquery.udp_with_fallback(query, address, port=self.port)
        return message


def _has_route(address: str) -> bool:
    """Whether this host has a route to an address: many have none for IPv6."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as one:
            one.connect((address, _PORT))
    except OSError:
        return False
    return True
