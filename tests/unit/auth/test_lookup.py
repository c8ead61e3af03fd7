"""mailstack_auth.dns.lookup and runtime.cache: answers of a name server, kept as long as their TTL says and no longer."""

import asyncio
import contextlib
import gc
import mmap
import os
import signal
import time
import tracemalloc

import dns.asyncresolver
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.resolver
import dns.rrset
import pytest
import spf
from hypothesis import given
from hypothesis import strategies as st

from bench import dns_answers
from mailstack_auth.dns.lookup import CACHE_OCTETS, MAX_MACROS, MAX_TERM, MAX_TERMS, MAX_TTL, Lookups
from mailstack_auth.dns.wire import MAX_NAMES, MAX_RECORDS, cut
from mailstack_auth.runtime.cache import Cache, Latest, digest
from unit.dns_server import Server

ZONE = {
    "a.example": [{"A": "192.0.2.1"}, {"A": "192.0.2.2"}, {"TXT": ["v=spf1 ", "-all"]}, {"MX": [10, "m.a.example"]}],
    "six.example": [{"AAAA": "2001:db8::1"}],
    "1.2.0.192.in-addr.arpa": [{"PTR": "a.example"}],
    "alias.example": [{"CNAME": "a.example"}],
    "dangling.example": [{"CNAME": "missing.example"}],
    "loop.example": [{"CNAME": "loop.example"}],
    "big.example": [{"TXT": ["x" * 250] * 8}],
    "octets.example": [{"TXT": "é"}],
    "several.example": [{"TXT": "x"}, {"TXT": ["v=s", "pf1 -all"]}, {"TXT": ["v=spf1 ", "+all"]}],
    r"back\046slash.example": [{"A": "192.0.2.3"}],
}

ANSWERS = {
    ("a.example", "A"): ["192.0.2.1", "192.0.2.2"],
    ("A.Example.", "TXT"): [(b"v=spf1 -all",)],
    ("a.example", "MX"): [(10, "m.a.example")],
    ("six.example", "AAAA"): ["2001:db8::1"],
    ("1.2.0.192.in-addr.arpa", "PTR"): ["a.example"],
    ("alias.example", "A"): ["192.0.2.1", "192.0.2.2"],
    ("several.example", "TXT"): [(b"v=spf1 +all",), (b"v=spf1 -all",)],
    ("big.example", "TXT"): [(b"",)],
    ("octets.example", "TXT"): [(b"",)],
    (r"back\046slash.example", "A"): ["192.0.2.3"],
    ("a.example", "AAAA"): [],
    ("missing.example", "TXT"): [],
    ("dangling.example", "A"): [],
    ("a..example", "A"): [],
    ("é.example", "A"): [],
    ("x" * 64 + ".example", "A"): [],
    (".".join(["x" * 60] * 5), "A"): [],
}


@pytest.mark.parametrize(("name", "kind"), ANSWERS, ids=lambda text: text[:20])
def test_answers(name, kind):
    """Every kind of record comes in pyspf's form, over TCP if need be; what is not there, or no name, is empty.

    Of TXT records SPF records come, two at most; where there are others only, that there are.
    """

    async def ask():
        async with Server.of(ZONE).lookups() as lookups:
            return await lookups.look_up(name, kind, 5)

    found = asyncio.run(ask())
    assert sorted(value for _, value in found) == ANSWERS[name, kind]
    assert {key for key, _ in found} <= {(name, kind)}


def _strings(record):
    """A record's strings as they would be split, but after "v=s"."""
    return ["v=s", *(record[at : at + 250] for at in range(3, len(record), 250))]


ABSURD = {
    "octets": (
        {"TXT": _strings("v=spf1 " + "ip4:192.0.2.0/24 a.b=" * 40 + "x" * 200 + " ip4:192.0.2.0/24" * 220)},
        "TXT",
    ),
    "terms": ({"TXT": _strings("v=spf1" + " a" * MAX_TERMS)}, "TXT"),
    "a term": ({"TXT": _strings("v=spf1 a:" + "x" * MAX_TERM)}, "TXT"),
    "macros": ({"TXT": _strings("v=spf1" + " exists:%{l}%{i}.example" * (MAX_MACROS // 2 + 1))}, "TXT"),
}


@pytest.mark.parametrize(("record", "kind"), ABSURD.values(), ids=ABSURD.keys())
def test_absurd_records_do_not_reach_pyspf(record, kind):
    """However a record is split into strings, one that would keep the loop from others is refused."""

    async def ask():
        async with Server.of({"a.example": [record]}).lookups() as lookups:
            await lookups.look_up("a.example", kind, 5)

    with pytest.raises(spf.PermError, match="the record has more than"):
        asyncio.run(ask())


@pytest.mark.parametrize(("kind", "value"), [("A", "10.0.{}.{}"), ("AAAA", "2001:db8::{}:{}"), ("TXT", "{} {}")])
def test_many_records_are_refused(kind, value):
    """As many records as no domain has are an error that lasts, up to there they are all there; a CNAME counts."""
    zone = {
        f"{count}.example": [{kind: value.format(at // 250, at % 250)} for at in range(count)] for count in (127, 1500)
    }
    zone["alias.example"] = [{"CNAME": "127.example"}]

    async def ask():
        async with Server.of(zone).lookups() as lookups:
            assert len(await lookups.look_up("127.example", kind, 5)) == (1 if kind == "TXT" else 127)
            for name in ("1500.example", "alias.example"):
                with pytest.raises(spf.PermError, match="128 records or more"):
                    await lookups.look_up(name, kind, 5)

    asyncio.run(ask())


LONG_NAME = ".".join("a" * 100)


@pytest.mark.parametrize("kind", ["MX", "PTR"])
def test_thousands_of_names_do_not_stop_the_loop(kind):
    """Of an answer full of long names a dozen are read, enough to see that there are too many."""
    rows = [f"{10 if kind == 'MX' else ''} x{at}.{LONG_NAME}.example." for at in range(1000)]
    rrset = dns.rrset.from_text("a.example.", 300, "IN", kind, *rows)
    response = dns.message.make_response(dns.message.make_query("a.example", kind))
    response.answer.append(rrset)
    octets = response.to_wire(max_size=65535)
    start = time.thread_time()
    message = dns.message.from_wire(cut(octets))
    # Uncut a second and more; cut 20 ms.
    assert time.thread_time() - start < 0.2
    assert 10 < len(message.answer[0]) <= MAX_NAMES


@given(st.data())
def test_cut_leaves_a_message(data):
    """A message is cut between records, and one within the bounds is as it was; octets that are none stay an error."""
    query = dns.message.make_query(
        "a.example", data.draw(st.sampled_from(["A", "MX"])), use_edns=data.draw(st.booleans())
    )
    response = dns.message.make_response(query)
    sizes = [data.draw(st.integers(0, limit)) for limit in (2 * MAX_RECORDS, 6, 6)]
    for section, size in zip((response.answer, response.authority, response.additional), sizes, strict=True):
        rows = [f"192.0.{at // 250}.{at % 250}" for at in range(size)]
        section.extend([dns.rrset.from_text("a.example.", 300, "IN", "A", *rows)] if rows else [])
    octets = response.to_wire(max_size=65535)
    message = dns.message.from_wire(cut(octets))
    found = [sum(map(len, section)) for section in (message.answer, message.authority, message.additional)]
    limit = MAX_RECORDS if query.question[0].rdtype == dns.rdatatype.A else MAX_NAMES
    assert found[0] == min(sizes[0], limit)
    if cut(octets) == octets:
        assert found == sizes
    for end in (0, 11, len(octets) - 1 if cut(octets) == octets else 12):
        with pytest.raises((dns.exception.FormError, dns.message.ShortHeader)):
            dns.message.from_wire(cut(octets[:end]))


@pytest.mark.parametrize("kind", ["A", "AAAA", "TXT", "MX", "PTR"])
def test_full_cache_stays_within_its_bound(kind):
    """What the cache weighs is what Python keeps: full of any kind of record, it takes no more memory than it may."""
    values = {"A": "192.0.2.{}", "AAAA": "2001:db8::{}", "TXT": "v=spf1 ip4:192.0.2.{} -all"}
    rows = [values.get(kind, "m{}.a.example.").format(at) for at in range(1 if kind == "TXT" else 10)]
    rows = [f"10 {row}" if kind == "MX" else f'"{row}"' if kind == "TXT" else row for row in rows]
    rrset = dns.rrset.from_text("a.example.", 300, "IN", kind, *rows)
    response = dns.message.make_response(dns.message.make_query("a.example", kind))
    response.answer.append(rrset)
    octets, owner = response.to_wire(), dns.name.from_text("a.example.")

    class Resolver:
        async def resolve(self, name, kind, **options):
            message = dns.message.from_wire(cut(octets))
            return dns.resolver.Answer(owner, message.question[0].rdtype, dns.rdataclass.IN, message)

    async def fill(capacity):
        lookups = Lookups(Resolver(), capacity=capacity)
        gc.collect()
        tracemalloc.start()
        # As many as there would be room for without the values.
        for at in range(capacity // 400):
            await lookups.look_up(f"{at}.host.example", kind, 5)
        gc.collect()
        kept, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return kept

    # A part of the real one, since tracemalloc is slow.
    capacity = CACHE_OCTETS // 40
    assert 0.6 * capacity < asyncio.run(fill(capacity)) <= capacity


FAILURES = {
    "SERVFAIL": lambda query: _response(query, dns.rcode.SERVFAIL),
    "REFUSED": lambda query: _response(query, dns.rcode.REFUSED),
    "NOTIMP": lambda query: _response(query, dns.rcode.NOTIMP),
    "silence": lambda query: None,
    "a CNAME loop": dns_answers.Zone(ZONE, silent=True),
    "another question": lambda query: dns.message.make_response(dns.message.make_query("b.example", "A", id=query.id)),
}


def _response(query, rcode, *, ttl=None, soa=None, value=None):
    response = dns.message.make_response(query)
    response.set_rcode(rcode)
    name = query.question[0].name
    if value is not None:
        response.answer.append(dns.rrset.from_text(name, ttl, "IN", "A", value))
    if soa is not None:
        response.authority.append(dns.rrset.from_text("example.", ttl, "IN", "SOA", f". . 1 1 1 1 {soa}"))
    return response


@pytest.mark.parametrize("answer", FAILURES.values(), ids=FAILURES.keys())
def test_failures_are_no_empty_answers(answer):
    """When DNS gives no answer, that is an error, in the time that was given; and it is not remembered."""
    server = Server(answer)

    async def ask():
        async with server.lookups() as lookups:
            for _ in range(2):
                asked = len(server.asked)
                with pytest.raises(spf.TempError):
                    await lookups.look_up("loop.example", "A", 0.3)
                assert len(server.asked) > asked

    asyncio.run(asyncio.wait_for(ask(), 5))


def _times_asked(answer, *, wait):
    """How often the server is asked if the same question comes twice, so many seconds apart."""
    now, server = [1000.0], Server(answer)

    async def ask():
        async with server.lookups(clock=lambda: now[0]) as lookups:
            first = await lookups.look_up("a.example", "A", 5)
            now[0] += wait
            again = await lookups.look_up("A.example", "A", 5)
        assert again == [(("A.example", "A"), value) for _, value in first]

    asyncio.run(ask())
    return len(server.asked)


TTLS = {
    "positive": ({"rcode": dns.rcode.NOERROR, "ttl": 30, "value": "192.0.2.1"}, 30),
    "TTL of zero": ({"rcode": dns.rcode.NOERROR, "ttl": 0, "value": "192.0.2.1"}, 0),
    "a TTL of years": ({"rcode": dns.rcode.NOERROR, "ttl": 2**31 - 1, "value": "192.0.2.1"}, MAX_TTL),
    "NXDOMAIN, SOA's TTL": ({"rcode": dns.rcode.NXDOMAIN, "ttl": 20, "soa": 50}, 20),
    "NXDOMAIN, SOA's minimum": ({"rcode": dns.rcode.NXDOMAIN, "ttl": 50, "soa": 20}, 20),
    "NODATA": ({"rcode": dns.rcode.NOERROR, "ttl": 50, "soa": 20}, 20),
    "NXDOMAIN without SOA": ({"rcode": dns.rcode.NXDOMAIN}, 0),
    "NODATA without SOA": ({"rcode": dns.rcode.NOERROR}, 0),
}


@pytest.mark.parametrize(("answer", "seconds"), TTLS.values(), ids=TTLS.keys())
def test_cache_obeys_the_ttl(answer, seconds):
    """An answer serves again until its TTL is over, a negative one by its SOA (RFC 2308 section 5); then DNS is asked."""
    rcode, options = answer["rcode"], {name: value for name, value in answer.items() if name != "rcode"}

    def respond(query):
        return _response(query, rcode, **options)

    if seconds:
        assert _times_asked(respond, wait=seconds - 0.1) == 1
    assert _times_asked(respond, wait=seconds) == 2


def test_cache_obeys_the_shortest_ttl_of_a_chain():
    """A CNAME's own TTL counts as well."""

    def respond(query):
        response = _response(query, dns.rcode.NOERROR)
        response.answer.append(dns.rrset.from_text("a.example.", 5, "IN", "CNAME", "b.example."))
        response.answer.append(dns.rrset.from_text("b.example.", 50, "IN", "A", "192.0.2.1"))
        return response

    assert [_times_asked(respond, wait=wait) for wait in (4.9, 5.0)] == [1, 2]


def test_remembered_is_bounded():
    """Over the capacity, what was not asked for longest goes; the weight is what is there, however it changed."""
    some = Cache(10)
    for key in "abcde":
        some.put(key, key, 60, weight=2)
    assert some.get("a") == "a"
    some.put("f", "f", 60, weight=3)
    assert [key for key in "abcdef" if some.get(key)] == ["a", "d", "e", "f"]
    some.put("f", "g", 60, weight=1)
    some.put("h", "h", 60, weight=3)
    assert [some.get(key) for key in "adefh"] == ["a", "d", "e", "g", "h"]
    some.put("huge", "huge", 60, weight=11)
    assert some.get("huge") is None
    assert len(some) == 5


def test_remembered_expires():
    """A value is there until its time is over; put in again, it has its time again."""
    now = [0.0]
    some = Cache(10, lambda: now[0])
    some.put("a", 1, 5)
    now[0] = 4.9
    assert some.get("a") == 1
    some.put("a", 2, 5)
    now[0] = 9.8
    assert some.get("a") == 2
    now[0] = 9.9
    assert some.get("a") is None
    assert len(some) == 0


def test_latest_outlives_a_child():
    """What a child adds is there for the next one: the latest keys in their order, and no more."""
    latest = Latest(mmap.mmap(-1, 80))
    for key in "ab":
        latest.add(digest(key))
    child = os.fork()
    if child == 0:
        for key in "cdé":
            latest.add(digest(key))
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert list(latest) == [digest(key) for key in "bcdé"]


class Raw(asyncio.DatagramProtocol):
    """A name server whose octets a test chooses: by UDP these datagrams, by TCP what a coroutine writes."""

    def __init__(self, datagrams, stream=None):
        self._datagrams = datagrams
        self._stream = stream

    def connection_made(self, transport):
        self._transport = transport

    def datagram_received(self, data, address):
        for one in self._datagrams(dns.message.from_wire(data)):
            self._transport.sendto(one, address)

    async def ask(self, lifetime):
        """The texts at a name, and how long that took."""
        loop = asyncio.get_running_loop()
        server = None
        while server is None:
            transport, _ = await loop.create_datagram_endpoint(lambda: self, ("127.0.0.1", 0))
            port = transport.get_extra_info("sockname")[1]
            # Another program may have the TCP port of this number.
            with contextlib.suppress(OSError):
                server = await asyncio.start_server(self._serve, "127.0.0.1", port)
            if server is None:
                transport.close()
        resolver = dns.asyncresolver.Resolver(configure=False)
        resolver.nameservers, resolver.port = ["127.0.0.1"], port
        started = loop.time()
        try:
            return await Lookups(resolver).texts("a.example", lifetime), loop.time() - started
        except spf.TempError:
            return None, loop.time() - started
        finally:
            server.close()
            transport.close()

    async def _serve(self, reader, writer):
        size = int.from_bytes(await reader.readexactly(2), "big")
        with contextlib.suppress(ConnectionError):
            await self._stream(dns.message.from_wire(await reader.readexactly(size)), writer)
        writer.close()


def response(query, *, truncated=False):
    made = dns.message.make_response(query)
    made.flags |= dns.flags.TC if truncated else 0
    if not truncated:
        made.answer.append(dns.rrset.from_text("a.example.", 300, "IN", "TXT", '"text"'))
    return made.to_wire()


def framed(wire):
    return len(wire).to_bytes(2, "big") + wire


def test_junk_ends_no_lookup():
    """A datagram that is no message, which anybody may send, is passed over; the answer behind it counts."""
    server = Raw(lambda query: [b"junk", response(query)[:13], response(query)])
    assert asyncio.run(server.ask(5))[0] == [b"text"]


def test_an_answer_that_does_not_fit_is_none():
    """A resolver whose buffer is too small says so by TCP as well: that is a failure, and no missing record."""

    async def stream(query, writer):
        writer.write(framed(response(query, truncated=True)))

    server = Raw(lambda query: [response(query, truncated=True)], stream)
    assert asyncio.run(server.ask(5))[0] is None


@pytest.mark.parametrize("lifetime", [0.5, 5])
def test_an_answer_in_pieces_has_no_more_time(lifetime):
    """Each of them comes soon; all together may take as long as one answer may."""

    async def stream(query, writer):
        for octet in framed(response(query)):
            writer.write(bytes([octet]))
            await asyncio.sleep(0.03)

    server = Raw(lambda query: [response(query, truncated=True)], stream)
    texts, seconds = asyncio.run(server.ask(lifetime))
    assert texts == (None if lifetime < 1 else [b"text"])
    assert seconds < lifetime + 1
