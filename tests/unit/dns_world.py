"""Zones, the name servers that have them, and a resolver, all on loopback: DNS as a check sees it, at its own port."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdatatype
import dns.rdtypes.ANY.TXT
import dns.rrset

from bench import dns_answers
from mailstack_auth.names import and_parents

RESOLVER = "127.0.0.1"
TTL = 300
_MAX_CHAIN = 8

# What a server does instead of answering.
Behaviour = Literal["silent", "refused", "not authoritative", "servfail", "silent by TCP", "wrong by UDP"]
_PARTLY = {"silent by TCP", "wrong by UDP"}
Value = str | Sequence[str]


class Internet:
    """Zones by name, each with its servers: {"example.com": {"ns1.example.net": "127.0.0.2"}}.

    publish() changes a name at all servers of its zone, or at one address. behaviours has what an address, or the
    resolver, does instead of answering; stale has what the resolver still knows, bogus the zones that do not validate. A
    patient resolver says nothing where no server answers, and of failing types it knows none. asked holds the questions.
    """

    def __init__(self, zones: Mapping[str, Mapping[str, str]]) -> None:
        self.zones = zones
        self.behaviours: dict[str, Behaviour] = {}
        self.serials: dict[str, int] = {}
        self.stale: dict[tuple[str, str], list[Value]] = {}
        self.bogus: set[str] = set()
        self.patient = False
        self.failing: set[str] = set()
        self.asked: list[tuple[str, str, str]] = []
        addresses = {one for servers in zones.values() for one in servers.values()}
        self._data: dict[str, dict[tuple[str, str], list[Value]]] = {one: {} for one in addresses}
        for servers in zones.values():
            for name, address in servers.items():
                if self.zone_of(name) is not None:
                    self.publish(name, "A", address)

    def zone_of(self, name: str) -> str | None:
        return next((one for one in [*and_parents(name.lower()), ""] if one in self.zones), None)

    def publish(self, name: str, kind: str, *values: Value, at: str | None = None) -> None:
        """Replace the records of a kind at a name; no values: there are none."""
        zone = self.zone_of(name)
        assert zone is not None, name
        for address in [at] if at else self.zones[zone].values():
            self._data[address][name.lower(), kind] = list(values)

    def published(self, name: str, kind: str) -> list[Value]:
        """The records at the first server of the zone."""
        zone = self.zone_of(name)
        assert zone is not None, name
        return self._data[next(iter(self.zones[zone].values()))].get((name.lower(), kind), [])

    def records(self, address: str) -> Mapping[tuple[str, str], list[Value]]:
        """All that a server has, by name and kind."""
        return self._data[address]

    @contextlib.contextmanager
    def served(self) -> Iterator[int]:
        """Serve in a thread of its own; the port."""
        ready: list[int] = []
        begun = threading.Event()
        loop = asyncio.new_event_loop()
        end = asyncio.Event()

        async def serve() -> None:
            async with contextlib.AsyncExitStack() as servers:
                port = await servers.enter_async_context(dns_answers.serve(self._resolve, RESOLVER))
                for one in self._data:
                    await servers.enter_async_context(
                        dns_answers.serve(self._of(one), one, port, self._of(one, tcp=True))
                    )
                ready.append(port)
                begun.set()
                await end.wait()

        thread = threading.Thread(target=loop.run_until_complete, args=[serve()], daemon=True)
        thread.start()
        assert begun.wait(5)
        try:
            yield ready[0]
        finally:
            loop.call_soon_threadsafe(end.set)
            thread.join()
            loop.close()

    def _of(self, address: str, *, tcp: bool = False) -> dns_answers.Answer:
        def answer(query: dns.message.Message) -> dns.message.Message | None:
            response = self._answer(address, query)
            behaviour = self.behaviours.get(address)
            if tcp and behaviour == "silent by TCP":
                return None
            if not tcp and behaviour == "wrong by UDP" and response and query.question[0].rdtype == dns.rdatatype.TXT:
                response.answer.clear()
            return response

        return answer

    def _answer(self, address: str, query: dns.message.Message) -> dns.message.Message | None:
        """What an authoritative server says."""
        response, name, kind = self._begin(address, query)
        behaviour = self.behaviours.get(address)
        if behaviour in _PARTLY:
            behaviour = None
        if behaviour == "silent":
            return None
        zone = self.zone_of(name)
        if behaviour or zone is None or address not in self.zones[zone].values():
            if behaviour != "not authoritative":
                response.set_rcode(dns.rcode.SERVFAIL if behaviour == "servfail" else dns.rcode.REFUSED)
            return response
        response.flags |= dns.flags.AA
        self._fill(response, address, zone, name, kind)
        return response

    def _resolve(self, query: dns.message.Message) -> dns.message.Message | None:
        """What the resolver says: it follows CNAMEs, from the first server of each zone that works."""
        response, name, kind = self._begin(RESOLVER, query)
        if self.behaviours.get(RESOLVER) == "silent":
            return None
        response.flags |= dns.flags.RA
        for _ in range(_MAX_CHAIN):
            zone = self.zone_of(name)
            if zone is None:
                response.set_rcode(dns.rcode.NXDOMAIN)
                return response
            address = next(
                (one for one in self.zones[zone].values() if self.behaviours.get(one) in {None, *_PARTLY}), None
            )
            bogus = zone in self.bogus and not query.flags & dns.flags.CD
            if address is None or bogus or kind in self.failing:
                response.set_rcode(dns.rcode.SERVFAIL)
                return None if address is None and self.patient else response
            if (name, kind) in self.stale:
                self._add(response, name, kind, self.stale[name, kind])
                return response
            target = self._fill(response, address, zone, name, kind)
            if target is None:
                return response
            name = target
        return response

    def _begin(self, address: str, query: dns.message.Message) -> tuple[dns.message.Message, str, str]:
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True).lower().removesuffix(".")
        self.asked.append((address, name, question.rdtype.name))
        return dns.message.make_response(query), name, question.rdtype.name

    def _fill(self, response: dns.message.Message, address: str, zone: str, name: str, kind: str) -> str | None:
        """Add what a server has; the target of a CNAME that has still to be followed."""
        values = list(self._data[address].get((name, kind), []))
        if name == zone and kind == "SOA":
            values = [f"ns. hostmaster. {self.serials.get(address, 1)} 3600 600 86400 300"]
        if name == zone and kind == "NS":
            values = [f"{one}." for one in self.zones[zone]]
        cname = self._data[address].get((name, "CNAME"), [])
        if cname and kind != "CNAME":
            self._add(response, name, "CNAME", cname)
        if values:
            self._add(response, name, kind, values)
        elif cname and kind != "CNAME":
            return str(cname[0]).lower().removesuffix(".")
        elif not self._exists(address, zone, name):
            response.set_rcode(dns.rcode.NXDOMAIN)
        return None

    def _exists(self, address: str, zone: str, name: str) -> bool:
        found = (one for (one, _), values in self._data[address].items() if values)
        return name == zone or any(one == name or one.endswith(f".{name}") for one in found)

    def _add(self, response: dns.message.Message, name: str, kind: str, values: Sequence[Value]) -> None:
        data = [rdata(kind, value) for value in values]
        response.answer.append(dns.rrset.from_rdata_list(dns.name.from_text(name), TTL, data))


def rdata(kind: str, value: Value) -> dns.rdata.Rdata:
    """A TXT value is cut into strings, unless it is some already; it is what is published, not its zone form."""
    if kind != "TXT":
        assert isinstance(value, str)
        return dns.rdata.from_text("IN", kind, value)
    if isinstance(value, str):
        octets = value.encode()
        strings = [octets[at : at + 255] for at in range(0, len(octets), 255)] or [b""]
    else:
        strings = [one.encode() for one in value]
    return dns.rdtypes.ANY.TXT.TXT(dns.rdataclass.IN, dns.rdatatype.TXT, strings)
