"""mailstack_auth.evaluation: check_host() for many messages at once (RFC 7208); the suite is in tests/integration."""

import asyncio
import time

import pytest

from unit.dns_server import Server

CLIENT, CLIENT6 = "192.0.2.1", "2001:db8::25"

ZONE = {
    "fail.example": [{"TXT": "v=spf1 -all"}],
    "pass.example": [{"TXT": "v=spf1 +all"}],
    "xn--bcher-kva.example": [{"TXT": "v=spf1 -all"}],
    "xn--strae-oqa.example": [{"TXT": "v=spf1 -all"}],
    "silent.example": ["TIMEOUT"],
    "includes-silence.example": [{"TXT": "v=spf1 include:silent.example +all"}],
    "latin1.example": [{"TXT": "v=spf1 exists:é.example -all"}],
    "huge.example": [{"TXT": ["v=spf1 ", *["x" * 248 + "=y "] * 40, "+all"]}],
    "huge-include.example": [{"TXT": "v=spf1 include:huge.example +all"}],
    "huge-other.example": [{"TXT": ["x" * 250] * 40}, {"TXT": "v=spf1 -all"}],
    "two.example": [{"TXT": "v=spf1 -all"}, {"TXT": "v=spf1 +all"}],
    "local.example": [{"TXT": "v=spf1 exists:%{l}.local.example -exists:%{L}.x.example ?all"}],
    "a+1-b.c=d.local.example": [{"A": "127.0.0.2"}],
    "o'brien.local.example": [{"A": "127.0.0.2"}],
    r"back\046slash.local.example": [{"A": "127.0.0.2"}],
    "ten.example": [{"TXT": f"v=spf1 {' '.join(['a:a.example'] * 10)} -all"}],
    "eleven.example": [{"TXT": f"v=spf1 {' '.join(['a:a.example'] * 11)} -all"}],
    "a.example": [{"A": "192.0.2.99"}, {"AAAA": "2001:db8::99"}],
    "void.example": [{"TXT": "v=spf1 a:v1.example a:v2.example -all"}],
    "voids.example": [{"TXT": "v=spf1 a:v1.example a:v2.example a:v3.example -all"}],
    # Three MX hosts have IPv4 only: three void look-ups for an IPv6 client.
    "mx.example": [{"TXT": "v=spf1 mx -all"}, *({"MX": [10, f"m{at}.mx.example"]} for at in range(4))],
    "m0.mx.example": [{"A": "192.0.2.1"}],
    "m1.mx.example": [{"A": "192.0.2.2"}],
    "m2.mx.example": [{"A": "192.0.2.3"}],
    "m3.mx.example": [{"A": "192.0.2.4"}, {"AAAA": CLIENT6}],
    "ptr.example": [{"TXT": "v=spf1 ptr -all"}],
    "ptr6.example": [{"TXT": "v=spf1 ip6:2001:db8::/32 -all"}],
    "3.2.0.192.in-addr.arpa": ["TIMEOUT"],
}

CASES = {
    "plain": (CLIENT, "mail.example.org", "a@fail.example", "mailfrom", "fail.example", "fail"),
    "an at sign in the local part": (
        CLIENT,
        "mail.example.org",
        "a@b@fail.example",
        "mailfrom",
        "fail.example",
        "fail",
    ),
    "a final dot": (CLIENT, "mail.example.org", "a@fail.example.", "mailfrom", "fail.example", "fail"),
    "a HELO that passes": (CLIENT, "pass.example", "a@b@fail.example.", "mailfrom", "fail.example", "fail"),
    "a HELO that fails": (CLIENT, "fail.example", "a@pass.example", "mailfrom", "pass.example", "pass"),
    "a sender without record": (CLIENT, "fail.example", "a@none.example", "helo", "fail.example", "fail"),
    "neither has a record": (CLIENT, "none.example", "a@none.example", "mailfrom", "none.example", "none"),
    "null sender": (CLIENT, "fail.example.", "", "helo", "fail.example", "fail"),
    "null sender, passes": (CLIENT, "pass.example.", "", "helo", "pass.example", "pass"),
    "null sender, address literal": (CLIENT, "[192.0.2.1]", "", "helo", "[192.0.2.1]", "none"),
    "null sender, one label": (CLIENT, "localhost", "", "helo", "localhost", "none"),
    "null sender, no HELO": (CLIENT, "", "", "helo", "", "none"),
    "sender at an address literal": (CLIENT, "none.example", "a@[192.0.2.1]", "mailfrom", "[192.0.2.1]", "none"),
    "no domain": (CLIENT, "none.example", "postmaster", "mailfrom", "postmaster", "none"),
    "IDN sender": (CLIENT, "none.example", "a@bücher.example", "mailfrom", "xn--bcher-kva.example", "fail"),
    "IDNA 2008": (CLIENT, "none.example", "a@straße.example", "mailfrom", "xn--strae-oqa.example", "fail"),
    "IDN HELO": (CLIENT, "bücher.example", "", "helo", "xn--bcher-kva.example", "fail"),
    "no IDN": (CLIENT, "none.example", "a@\udcff.fail.example", "mailfrom", "?.fail.example", "none"),
    "local part of octets": (CLIENT, "none.example", "\udcff@local.example", "mailfrom", "local.example", "neutral"),
    "local part in UTF-8": (CLIENT, "none.example", "é@local.example", "mailfrom", "local.example", "neutral"),
    "odd": (CLIENT, "none.example", "a+1-b.c=d@local.example", "mailfrom", "local.example", "pass"),
    "an apostrophe": (CLIENT, "none.example", "o'brien@local.example", "mailfrom", "local.example", "pass"),
    "no escape": (CLIENT, "none.example", r"back\046slash@local.example", "mailfrom", "local.example", "pass"),
    "undecodable record": (CLIENT, "none.example", "a@latin1.example", "mailfrom", "latin1.example", "permerror"),
    "a huge record": (CLIENT, "none.example", "a@huge.example", "mailfrom", "huge.example", "permerror"),
    "includes a huge record": (
        CLIENT,
        "none.example",
        "a@huge-include.example",
        "mailfrom",
        "huge-include.example",
        "permerror",
    ),
    "a huge TXT beside": (CLIENT, "none.example", "a@huge-other.example", "mailfrom", "huge-other.example", "fail"),
    "two records": (CLIENT, "none.example", "a@two.example", "mailfrom", "two.example", "permerror"),
    "ten look-ups": (CLIENT, "none.example", "a@ten.example", "mailfrom", "ten.example", "fail"),
    "eleven look-ups": (CLIENT, "none.example", "a@eleven.example", "mailfrom", "eleven.example", "permerror"),
    "ten look-ups, IPv6": (CLIENT6, "none.example", "a@ten.example", "mailfrom", "ten.example", "fail"),
    "eleven look-ups, IPv6": (CLIENT6, "none.example", "a@eleven.example", "mailfrom", "eleven.example", "permerror"),
    "two voids": (CLIENT, "none.example", "a@void.example", "mailfrom", "void.example", "fail"),
    "three voids": (CLIENT, "none.example", "a@voids.example", "mailfrom", "voids.example", "permerror"),
    "two voids, IPv6": (CLIENT6, "none.example", "a@void.example", "mailfrom", "void.example", "fail"),
    "three voids, IPv6": (CLIENT6, "none.example", "a@voids.example", "mailfrom", "voids.example", "permerror"),
    "MX of IPv4": (CLIENT, "none.example", "a@mx.example", "mailfrom", "mx.example", "pass"),
    "MX of IPv4, client of IPv6": (CLIENT6, "none.example", "a@mx.example", "mailfrom", "mx.example", "permerror"),
    "IPv6": (CLIENT6, "none.example", "a@ptr6.example", "mailfrom", "ptr6.example", "pass"),
    "the client's PTR is silent": (
        "192.0.2.3",
        "none.example",
        "a@ptr.example",
        "mailfrom",
        "ptr.example",
        "temperror",
    ),
    "silence": (CLIENT, "none.example", "a@silent.example", "mailfrom", "silent.example", "temperror"),
    "silence behind an include": (
        CLIENT,
        "none.example",
        "a@includes-silence.example",
        "mailfrom",
        "includes-silence.example",
        "temperror",
    ),
}


@pytest.mark.parametrize(("client", "helo", "sender", "identity", "domain", "result"), CASES.values(), ids=CASES.keys())
def test_results(client, helo, sender, identity, domain, result):
    """Every spelling, kind of client and kind of fault has the result that RFC 7208 gives it."""

    async def evaluate():
        async with Server.of(ZONE).evaluator(seconds=0.5) as evaluator:
            return await evaluator.evaluate(client, helo, sender)

    judged = asyncio.run(evaluate()).judged
    assert (judged.identity, judged.domain, judged.result) == (identity, domain, result)


def test_time_limit():
    """An evaluation ends with temperror when its time is over, however many look-ups are still to come."""

    async def evaluate():
        async with Server.of(ZONE).evaluator(seconds=0.2) as evaluator:
            return await evaluator.evaluate(CLIENT, "silent.example", "a@silent.example")

    start = time.monotonic()
    evaluation = asyncio.run(evaluate())
    assert time.monotonic() - start < 2
    assert [one.result for one in (evaluation.helo, evaluation.mailfrom)] == ["temperror", "temperror"]
    assert "no answer within 0.2 s" in evaluation.helo.reason


def test_helo_is_not_waited_for():
    """Where MAIL FROM has a result, DNS of HELO that does not answer costs a second, not the whole time; else all."""

    async def evaluate(sender):
        async with Server.of(ZONE).evaluator(seconds=3.0) as evaluator:
            return await evaluator.evaluate(CLIENT, "silent.example", sender)

    start = time.monotonic()
    evaluation = asyncio.run(evaluate("a@fail.example"))
    assert time.monotonic() - start < 2.5
    assert (evaluation.judged, evaluation.helo.result) == (evaluation.mailfrom, "temperror")
    start = time.monotonic()
    evaluation = asyncio.run(evaluate("a@none.example"))
    assert time.monotonic() - start > 2.5
    assert evaluation.judged == evaluation.helo
    assert evaluation.helo.result == "temperror"


def test_nobody_waits_for_another():
    """While the DNS of many messages is silent, others are evaluated, one after the other."""

    async def evaluate():
        async with Server.of(ZONE).evaluator() as evaluator:
            tasks = [
                asyncio.create_task(evaluator.evaluate(CLIENT, "x.example", "a@silent.example")) for _ in range(99)
            ]
            for at in range(200):
                evaluation = await evaluator.evaluate(CLIENT, "pass.example", f"{at}@fail.example")
                assert evaluation.judged.result == "fail"
            assert not any(task.done() for task in tasks)
            for task in tasks:
                task.cancel()
            return await asyncio.gather(*tasks, return_exceptions=True)

    ended = asyncio.run(asyncio.wait_for(evaluate(), 15))
    assert all(isinstance(one, asyncio.CancelledError) for one in ended)


def test_record_in_the_cache_is_not_asked_for():
    """A second message of a domain needs no DNS, and has the same result."""
    server = Server.of(ZONE)

    async def evaluate():
        async with server.evaluator() as evaluator:
            first = await evaluator.evaluate(CLIENT, "none.example", "a@mx.example")
            asked = list(server.asked)
            assert await evaluator.evaluate(CLIENT, "none.example", "a@mx.example") == first
            return asked

    asked = asyncio.run(evaluate())
    assert len(asked) > 3
    assert server.asked == asked
