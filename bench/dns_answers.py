"""A name server whose answers are data, for what a real one will not say: silence, failure, loops, any octets.

It stands where a stack's resolver would: it follows CNAMEs itself. Run as a program, it needs dnspython alone, serves
on port 53 and reads its zone file anew when that has changed.
"""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import cast

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset

TTL = 300
_UDP_OCTETS = 1232
_MAX_CHAIN = 8
_TRIES = 20

# The answer to a query; None is silence.
Answer = Callable[[dns.message.Message], dns.message.Message | None]

# Of a name: what it has, in the form of the RFC 7208 suite. [{"A": "192.0.2.1"}, {"TXT": ["a", "b"]}, "TIMEOUT"]
Records = Sequence[Mapping[str, object] | str]


class Zone:
    """Zone data in the form of the RFC 7208 suite. "TIMEOUT" is silence, or SERVFAIL where silent is false."""

    def __init__(self, data: Mapping[str, Records], *, silent: bool, ttl: int = TTL) -> None:
        self._names = {_octets(name): _with_txt(records) for name, records in data.items()}
        self._silent = silent
        self._ttl = ttl

    def __call__(self, query: dns.message.Message) -> dns.message.Message | None:
        response = dns.message.make_response(query, recursion_available=True)
        question = query.question[0]
        name = question.name
        seen: set[bytes] = set()
        while True:
            key = b".".join(name.labels[:-1]).lower()
            if key in seen or len(seen) > _MAX_CHAIN:
                response.set_rcode(dns.rcode.SERVFAIL)
                return response
            seen.add(key)
            found = self._find(key, question.rdtype)
            if found is None:
                return None if self._silent else _failed(response)
            values, exists = found
            cname = [value for kind, value in values if kind == dns.rdatatype.CNAME]
            if not cname or question.rdtype == dns.rdatatype.CNAME:
                break
            response.answer.append(self._rrset(name, dns.rdatatype.CNAME, cname))
            name = dns.name.Name([*_octets(str(cname[0])).split(b"."), b""])
        if values:
            response.answer.append(self._rrset(name, question.rdtype, [value for _, value in values]))
        else:
            soa = f". . 1 3600 600 86400 {self._ttl}"
            response.authority.append(dns.rrset.from_text(dns.name.root, self._ttl, "IN", "SOA", soa))
            if not exists:
                response.set_rcode(dns.rcode.NXDOMAIN)
        return response

    def _find(self, key: bytes, kind: dns.rdatatype.RdataType) -> tuple[list[tuple[int, object]], bool] | None:
        """The values of a kind or a CNAME, and whether the name exists; None: no answer."""
        records = self._names.get(key)
        if records is None:
            if key.startswith(b"error."):
                return None
            return [], any(one.endswith(b"." + key) for one in self._names)
        values: list[tuple[int, object]] = []
        for record in records:
            if record == "TIMEOUT":
                if not values:
                    return None
                break
            assert isinstance(record, dict)  # noqa: S101
            for text, value in record.items():
                rdtype = dns.rdatatype.from_text(text)
                if rdtype == kind and value == "TIMEOUT":
                    return None
                if rdtype in {kind, dns.rdatatype.CNAME} and value != "TIMEOUT":
                    values.append((rdtype, value))
        return values, True

    def _rrset(self, name: dns.name.Name, kind: dns.rdatatype.RdataType, values: list[object]) -> dns.rrset.RRset:
        wires = (_wire(kind, value) for value in values)
        records = [dns.rdata.from_wire(dns.rdataclass.IN, kind, wire, 0, len(wire)) for wire in wires]
        return dns.rrset.from_rdata_list(name, self._ttl, records)


def _failed(response: dns.message.Message) -> dns.message.Message:
    response.set_rcode(dns.rcode.SERVFAIL)
    return response


def _octets(name: str) -> bytes:
    return name.lower().rstrip(".").encode()


def _with_txt(records: Records) -> Records:
    """The suite's rule: a type SPF record stands for a TXT record too, unless there is one. TXT "NONE" is none."""
    has_txt = any("TXT" in one for one in records if isinstance(one, dict))
    copies: Records = [{"TXT": one["SPF"]} for one in records if isinstance(one, dict) and "SPF" in one and not has_txt]
    return [one for one in (*copies, *records) if one != {"TXT": "NONE"}]


def _wire(kind: dns.rdatatype.RdataType, value: object) -> bytes:
    if kind in {dns.rdatatype.TXT, dns.rdatatype.SPF}:
        strings = [value] if isinstance(value, str) else list(value)  # type: ignore[call-overload]
        return b"".join(bytes([len(one.encode())]) + one.encode() for one in strings or [""])
    if kind in {dns.rdatatype.PTR, dns.rdatatype.CNAME}:
        return _name(str(value))
    if kind == dns.rdatatype.MX:
        preference, exchange = cast(tuple[int | str, str], value)
        return int(preference).to_bytes(2, "big") + _name(exchange)
    return dns.rdata.from_text(dns.rdataclass.IN, kind, str(value)).to_wire() or b""


def _name(text: str) -> bytes:
    labels = [one for one in _octets_as_is(text).split(b".") if one]
    return b"".join(bytes([len(one)]) + one for one in (*labels, b""))


def _octets_as_is(name: str) -> bytes:
    return name.rstrip(".").encode()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, peer: tuple[str, int]) -> None:
        response = self._answer(dns.message.from_wire(data))
        if response is None:
            return
        wire = response.to_wire(max_size=65535)
        if len(wire) > _UDP_OCTETS:
            response.answer.clear()
            response.flags |= dns.flags.TC
            wire = response.to_wire()
        self._transport.sendto(wire, peer)  # type: ignore[attr-defined]


@contextlib.asynccontextmanager
async def serve(answer: Answer, address: str, port: int = 0, by_tcp: Answer | None = None) -> AsyncIterator[int]:
    """Answer on UDP and TCP, in the running loop, if need be otherwise on TCP; the port."""

    async def stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        query = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
        response = (by_tcp or answer)(dns.message.from_wire(query))
        if response is not None:
            wire = response.to_wire(max_size=65535)
            writer.write(len(wire).to_bytes(2, "big") + wire)
            await writer.drain()
        writer.close()

    server, transport = await _bind(stream, lambda: _Datagrams(answer), address, port)
    async with server:
        yield int(transport.get_extra_info("sockname")[1])
    transport.close()


async def _bind(
    stream: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    datagrams: Callable[[], asyncio.DatagramProtocol],
    address: str,
    port: int,
) -> tuple[asyncio.Server, asyncio.BaseTransport]:
    """One port for both protocols; if it may be any, one that is free in both."""
    loop = asyncio.get_running_loop()
    for _ in range(_TRIES):
        server = await asyncio.start_server(stream, address, port)
        try:
            chosen = server.sockets[0].getsockname()[1]
            transport, _ = await loop.create_datagram_endpoint(datagrams, local_addr=(address, chosen))
        except OSError:
            server.close()
            if port:
                raise
        else:
            return server, transport
    raise OSError(f"{address}: no port is free for UDP and TCP")


class _File:
    """A zone file: {"silent": …, "zone": {name: records}}, JSON."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_at = -1

    def __call__(self, query: dns.message.Message) -> dns.message.Message | None:
        changed = self._path.stat().st_mtime_ns
        if changed != self._read_at:
            data = json.loads(self._path.read_text())
            self._zone, self._read_at = Zone(data["zone"], silent=data["silent"]), changed
        return self._zone(query)


async def _main(path: str) -> None:
    async with serve(_File(Path(path)), "0.0.0.0", 53):  # noqa: S104
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1]))
