"""mailstack_auth.dmarcd: both judges on their milter sockets; policyd-spf's results and the look-ups are the real ones."""

import asyncio
import contextlib
import ipaddress
import json
import mmap
import os
import re
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from email import message_from_bytes
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path

import authres as reader
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import mailstack_auth
from bench import dns_answers
from mailstack.world.containers import wait_for
from mailstack_auth import authres, dmarcd, milter, policyd, protocol, signatures, wire
from mailstack_auth.dmarcd import Dns, Inside, Outside, SpfResults
from mailstack_auth.evaluation import Evaluator
from mailstack_auth.milter import MAX_FIELD_OCTETS, MAX_HEADER_OCTETS, Field, Fields
from mailstack_auth.policy import Policy
from mailstack_auth.remember import Latest
from mailstack_auth.serving import Connection, Serving, Session, begin_tasks_at_once
from mailstack_auth.shared import Writer
from mailstack_auth.verdict import Site
from unit.dns_server import Server
from unit.test_lines import full_disk
from unit.test_milter import END, NEGOTIATED, NEGOTIATION, connect, header, macros, packet, replies
from unit.test_signatures import BODY, HEAD, fields, key, sign

INTERNAL_ID = "mailstack-0123456789abcdef0123456789abcdef01234567"
OUR_ID = "mail.ours.example"
SITE = Site(OUR_ID, ("ours.example", OUR_ID))
POLICY = Policy(OUR_ID, {}, skip_networks=SITE.skip_networks)
# A client that the SPF records below name, and one that they do not.
AUTHORISED, STRANGER = "192.0.2.1", "198.51.100.7"
SPF = {"TXT": "v=spf1 ip4:192.0.2.0/24 -all"}

ZONE = {
    "a.example": [SPF],
    "_dmarc.a.example": [{"TXT": "v=DMARC1; p=reject; rua=mailto:dmarc@a.example"}],
    "s1._domainkey.a.example": [{"TXT": key(1024)[1].decode()}],
    "_dmarc.quarantine.example": [{"TXT": "v=DMARC1; p=quarantine"}],
    "_dmarc.none.example": [{"TXT": "v=DMARC1; p=none"}],
    "_dmarc.broken.example": [{"TXT": "v=DMARC1; p=nonsense"}],
    "_dmarc.failing.example": ["TIMEOUT"],
    "_dmarc.many.example": [{"TXT": f"v=DMARC1; p=reject; x={at}"} for at in range(wire.MAX_RECORDS)],
    "mail.walk.example": [SPF],
    "_dmarc.news.walk.example": [{"TXT": "v=DMARC1; p=reject"}],
    "_dmarc.walk.example": ["TIMEOUT"],
    "spf-fails.example": [{"TXT": "v=spf1 -all"}],
    "spf-failing.example": ["TIMEOUT"],
    "_dmarc.spf-failing.example": [{"TXT": "v=DMARC1; p=reject"}],
    "ours.example": [SPF],
    "_dmarc.ours.example": [{"TXT": "v=DMARC1; p=reject"}],
}


@dataclass(frozen=True)
class Sent:
    """A message as Postfix hands it on."""

    fields: tuple[Field, ...]
    body: bytes = BODY
    client: str = STRANGER
    helo: bytes = b"mx.bare.example"
    sender: bytes = b"jo@bare.example"
    queue_id: bytes = b""

    def packets(self) -> bytes:
        family = b"6" if ":" in self.client else b"4"
        return b"".join(
            [
                connect(self.client.encode(), family),
                packet(b"H", self.helo + b"\0"),
                macros(b"M", **{"i": self.queue_id, "{mail_addr}": self.sender}),
                packet(b"M", b"<" + self.sender + b">\0"),
                *(header(one.name, one.value) for one in self.fields),
                packet(b"N"),
                packet(b"B", self.body),
                END,
            ]
        )


@dataclass
class Seen:
    """What Postfix makes of the answer."""

    fields: list[Field]
    reply: str | None = None
    discarded: bool = False
    edits: list[bytes] = field(default_factory=list)

    def results(self) -> list[str]:
        """METHOD=RESULT of the one field that is ours, as authres reads it."""
        assert self.reply is None
        assert not self.discarded
        (ours,) = [one for one in self.parsed() if one.authserv_id == OUR_ID]
        return [f"{one.method}={one.result}" for one in ours.results]

    def parsed(self) -> list[reader.AuthenticationResultsHeader]:
        texts = (b" ".join(one.value.split()).decode() for one in self.fields if one.name == authres.NAME)
        return [reader.AuthenticationResultsHeader.parse(f"Authentication-Results: {text}") for text in texts]

    def values(self, name: bytes) -> list[bytes]:
        return [one.value for one in self.fields if one.name.lower() == name.lower()]


class Postfix:
    """Milter connections to one socket, one for each message."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def hand_on(self, sent: Sent) -> Seen:
        return _applied(sent.fields, await self.replies(sent))

    async def replies(self, sent: Sent) -> list[bytes]:
        """To the negotiation and to the message; without the latter Postfix defers."""
        stream, sink = await asyncio.open_unix_connection(str(self._path))
        sink.write(NEGOTIATION + sent.packets() + packet(b"Q"))
        found = replies(await asyncio.wait_for(stream.read(), 20))
        await _close(sink)
        return found


async def _close(sink: asyncio.StreamWriter) -> None:
    sink.close()
    with contextlib.suppress(ConnectionError):
        await sink.wait_closed()


def _break_idle(spf: SpfResults) -> None:
    """End the connections to policyd-spf that are kept for later."""
    for one in spf._idle:
        one._transport.close()


def _applied(sent: Sequence[Field], found: list[bytes]) -> Seen:
    """The fields after the edits, in their order (mfdef.h); the negotiation comes first."""
    _, *edits, last = found
    seen = Seen(list(sent), edits=edits)
    for one in edits:
        (at,), (name, _, value) = struct.unpack("!I", one[1:5]), one[5:].partition(b"\0")
        if one[:1] == b"i":
            assert at == 0
            seen.fields.insert(0, Field(name, value.removesuffix(b"\0")))
        else:
            assert (one[:1], value) == (b"m", b"\0")
            same = [each for each in seen.fields if each.name.strip().lower() == name.lower()]
            seen.fields.remove(same[at - 1])
    seen.discarded = last == b"d"
    if last[:1] == b"y":
        seen.reply = last[1:-1].decode("ascii")
    else:
        assert last in {b"a", b"d"}
    return seen


class GoesAway:
    """A session whose server goes away when it is asked."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def take(self, waiting: bytearray) -> None:
        self._connection.close()

    def gone(self) -> None:
        pass


class Watched(Outside):
    """Takes down of which messages it wants the body."""

    def __init__(self, *given: object) -> None:
        super().__init__(*given)
        self.bodies: list[bool] = []

    def needs_body(self, message: milter.Message) -> bool:
        self.bodies.append(super().needs_body(message))
        return self.bodies[-1]


@dataclass
class Running:
    """Everything that a judge works with, in the running loop."""

    names: Server
    outside: Postfix
    inside: Postfix
    policyd: policyd.Server
    spf: SpfResults
    judge: Watched
    # Those to policyd-spf's socket, and how many of the next ones break.
    connections: list[Connection] = field(default_factory=list)
    breaking: int = 0


@contextlib.asynccontextmanager
async def running(
    directory: Path, *, zone: dict[str, dns_answers.Records] | None = None, site: Site = SITE, policy: Policy = POLICY
) -> AsyncIterator[Running]:
    """Both judges on unix sockets, policyd-spf's results on another one. "TIMEOUT" in a zone is SERVFAIL."""
    names = Server(dns_answers.Zone(ZONE | (zone or {}), silent=False))
    async with names.lookups() as lookups:
        server = policyd.Server(policy, Evaluator(lookups), Latest(mmap.mmap(-1, 144)), Writer(directory / "results"))
        spf = SpfResults(directory / "results", directory / "results.sock")
        judge = Watched(site, INTERNAL_ID, spf, Dns(lookups))
        one = Running(names, Postfix(directory / "outside"), Postfix(directory / "inside"), server, spf, judge)

        def results_session(connection: Connection) -> Session:
            one.connections.append(connection)
            if one.breaking:
                one.breaking -= 1
                return GoesAway(connection)
            return policyd.Session(server.results, connection)

        sessions = {
            "results.sock": results_session,
            "outside": partial(milter.Session, judge=judge),
            "inside": partial(milter.Session, judge=Inside(site, INTERNAL_ID)),
        }
        serving, loop = Serving(dmarcd.log, protocol.MAX_REQUEST), asyncio.get_running_loop()
        begin_tasks_at_once(loop)
        servers = [
            await loop.create_unix_server(partial(Connection, serving, session), directory / name)
            for name, session in sessions.items()
        ]
        yield one
        for server in servers:
            server.close()
        _break_idle(spf)
        await serving._stop(10)


def seen(directory: Path, sent: Sent, *, role: str = "outside", **options) -> Seen:
    """One message's fate."""

    async def hand_on():
        async with running(directory, **options) as one:
            return await getattr(one, role).hand_on(sent)

    return asyncio.run(hand_on())


def said(signature, result="pass", identity=INTERNAL_ID):
    """What OpenDKIM writes about a signature."""
    (one,) = signatures.of(Fields([signature]))
    text = (
        f" {identity};\n\tdkim={result} (1024-bit key) header.d={one.domain} header.i=@{one.domain}"
        f" header.a={one.algorithm} header.s={one.selector} header.b={one.start[:8]}"
    )
    return Field(authres.NAME, text.encode())


def from_(author):
    return Field(b"From", f" Jo <jo@{author}>".encode())


def plain(author, *others, **more):
    """A message by an author of a domain."""
    return Sent((*others, from_(author), Field(b"Subject", b" one")), **more)


SIGNATURE = sign()
SIGNED = (SIGNATURE, *fields(HEAD))
KNOWN = (said(SIGNATURE), *SIGNED)
GARBAGE = Field(b"DKIM-Signature", b" v=1; nonsense")
FROM_A = {"client": AUTHORISED, "sender": b"jo@a.example"}
# Fields of 50,000 octets, more than may be.
TOO_MANY = MAX_HEADER_OCTETS // 50_000 + 1
NOT_SHOWN = "550 5.7.26 DMARC: a.example asks to reject mail that neither SPF nor DKIM shows to be its own"
NO_ANSWER = "451 4.4.3 {} cannot be checked now, DNS gives no answer"

# The message, and its results or the reply.
CASES = {
    "SPF alone": (plain("a.example", **FROM_A), ["spf=pass", "dkim=none", "dmarc=pass"]),
    "DKIM alone": (Sent(KNOWN), ["spf=none", "dkim=pass", "dmarc=pass"]),
    "both": (Sent(KNOWN, **FROM_A), ["spf=pass", "dkim=pass", "dmarc=pass"]),
    "DKIM, though SPF fails": (Sent(KNOWN, sender=b"jo@a.example"), ["spf=fail", "dkim=pass", "dmarc=pass"]),
    "nothing": (plain("a.example"), NOT_SHOWN),
    "SPF of another domain": (
        plain("a.example", client=AUTHORISED, sender=b"jo@ours.example.evil.example"),
        NOT_SHOWN,
    ),
    "a pass of HELO is none of MAIL FROM": (plain("a.example", client=AUTHORISED, helo=b"a.example"), NOT_SHOWN),
    "HELO for the null sender": (
        plain("a.example", client=AUTHORISED, helo=b"a.example", sender=b""),
        ["spf=pass", "dkim=none", "dmarc=pass"],
    ),
    "a pass that OpenDKIM has not found": (Sent(SIGNED, body=b"another\r\n"), NOT_SHOWN),
    "a fail of OpenDKIM": (Sent((said(SIGNATURE, "fail"), *SIGNED), body=b"another\r\n"), NOT_SHOWN),
    "a result under our public id": (Sent((said(SIGNATURE, identity=OUR_ID), *SIGNED), body=b"x\r\n"), NOT_SHOWN),
    "quarantine": (plain("quarantine.example"), ["spf=none", "dkim=none", "dmarc=fail"]),
    "p=none": (plain("none.example"), ["spf=none", "dkim=none", "dmarc=fail"]),
    "no record": (plain("bare.example"), ["spf=none", "dkim=none", "dmarc=none"]),
    "a broken record": (plain("broken.example"), ["spf=none", "dkim=none", "dmarc=permerror"]),
    "absurdly many records": (plain("many.example"), ["spf=none", "dkim=none", "dmarc=none"]),
    "no answer about what both domains belong to": (
        plain("news.walk.example", client=AUTHORISED, sender=b"jo@mail.walk.example"),
        NO_ANSWER.format("the organisational domain of news.walk.example"),
    ),
    "no answer about the record": (plain("failing.example"), NO_ANSWER.format("the DMARC record of failing.example")),
    "no answer about SPF": (
        plain("spf-failing.example", sender=b"jo@spf-failing.example"),
        NO_ANSWER.format("SPF of spf-failing.example"),
    ),
    "SPF fail, and no policy": (
        plain("bare.example", sender=b"jo@spf-fails.example"),
        f"550 5.7.23 SPF fail: {STRANGER} may not send with MAIL FROM spf-fails.example",
    ),
    "no author": (Sent((Field(b"Subject", b" one"),)), "550 5.7.1 there is no From field"),
    "two authors": (
        plain("a.example", from_("bare.example"), **FROM_A),
        "550 5.7.1 there is more than one From field",
    ),
    "a header too long": (
        plain("a.example", *[Field(b"X", b"x" * 50_000)] * TOO_MANY),
        "552 5.3.4 header is too long, the limit is 2097152 octets, where each field counts 450 more",
    ),
    "the longest field": (
        plain("a.example", Field(b"References", b"x" * (MAX_FIELD_OCTETS - len(b"References:"))), **FROM_A),
        ["spf=pass", "dkim=none", "dmarc=pass"],
    ),
    "a field too long": (
        plain("a.example", Field(b"References", b"x" * MAX_FIELD_OCTETS), **FROM_A),
        "552 5.3.4 header field References is too long, the limit is 53999 octets",
    ),
    "ours, by our SPF": (
        plain("ours.example", client=AUTHORISED, sender=b"jo@ours.example"),
        ["spf=pass", "dkim=none", "dmarc=pass"],
    ),
}


@pytest.mark.parametrize(("sent", "expected"), CASES.values(), ids=CASES.keys())
def test_outside(sent, expected, tmp_path):
    """What becomes of mail from outside, all the way: SPF by policyd-spf, records by DNS, the answer in milter packets."""
    found = seen(tmp_path, sent)
    assert (found.reply if isinstance(expected, str) else found.results()) == expected


def test_what_a_reader_gets(tmp_path):
    """One field on top, valid by RFC 8601, with what an aligned pass rests upon; the internal one is gone."""
    found = seen(tmp_path, Sent(KNOWN, sender=b"jo@a.example"))
    (ours,) = found.parsed()
    assert found.fields[0].name == b"Authentication-Results"
    assert found.fields[1:] == list(SIGNED)
    spf, dkim, dmarc = ours.results
    assert (spf.smtp_mailfrom, dkim.header_d, dkim.header_s) == ("a.example", "a.example", "s1")
    assert [(one.type, one.name, one.value) for one in dmarc.properties] == [
        ("header", "from", "a.example"),
        ("policy", "dmarc", "reject"),
    ]
    assert b"dmarc=pass (p=reject dis=none) header.from=a.example" in found.fields[0].value


def test_thousands_of_signatures(tmp_path, capsys):
    """The results are few, in their order, the pass among them, and so is what the log says."""
    others = [Field(b"DKIM-Signature", b" a=rsa-sha256; d=a%d.example; s=s; b=" % at) for at in range(3000)]
    found = seen(tmp_path, Sent((*others, *SIGNED)))
    assert sum(map(len, found.values(authres.NAME))) < 4096
    assert found.results() == ["spf=none", *["dkim=temperror"] * 19, "dkim=pass", "dmarc=pass"]
    assert max(map(len, capsys.readouterr().out.splitlines())) < 8192


COMMON = {
    "a pass is known": Sent(KNOWN),
    "no signature": plain("none.example"),
    "SPF aligns": plain("a.example", **FROM_A),
    "somebody's signature": plain("none.example", said(SIGNATURE), SIGNATURE),
    "somebody's signature that OpenDKIM says nothing of": plain("none.example", SIGNATURE),
    "garbage": plain("none.example", GARBAGE),
}


@pytest.mark.parametrize("sent", COMMON.values(), ids=COMMON.keys())
def test_the_common_case_does_not_pay(sent, tmp_path):
    """Where a second look would change nothing, there is no body, and no key is asked for."""

    async def hand_on():
        async with running(tmp_path) as one:
            found = await one.outside.hand_on(sent)
            return found, one.names.asked, one.judge.bodies

    found, asked, bodies = asyncio.run(hand_on())
    assert found.reply is None
    assert bodies == [False]
    assert not [one for one in asked if "_domainkey" in one]


LOOKS = {
    "OpenDKIM says nothing": SIGNED,
    "garbage above": (GARBAGE, *SIGNED),
    "garbage below": (SIGNATURE, GARBAGE, *fields(HEAD)),
    "temperror": (said(SIGNATURE, "temperror"), *SIGNED),
    "a fail that is none": (said(SIGNATURE, "fail"), *SIGNED),
    "one of two": (sign(body=b"x\r\n"), *SIGNED),
}


@pytest.mark.parametrize("sent", LOOKS.values(), ids=LOOKS.keys())
def test_second_look(sent, tmp_path):
    """A good signature passes whatever OpenDKIM makes of it, and whatever stands beside it."""
    results = seen(tmp_path, Sent(sent)).results()
    assert ("dkim=pass" in results, results[-1]) == (True, "dmarc=pass")


def test_second_look_for_the_envelope(tmp_path):
    """An envelope sender of ours may be authorised by its own signature, below another author."""
    head = HEAD.replace(b"a.example", b"bare.example")
    site = replace(SITE, local_domains=("a.example",))
    forged = Sent(tuple(fields(head)), sender=b"jo@a.example")
    assert seen(tmp_path, forged, site=site).discarded
    ours = replace(forged, fields=(sign(head=head), *fields(head)))
    assert seen(tmp_path, ours, site=site).results() == ["spf=fail", "dkim=pass", "dmarc=none"]


KEYS = {
    "no answer": (["TIMEOUT"], NO_ANSWER.format("the DKIM key s1._domainkey.a.example")),
    "no key": ([], NOT_SHOWN),
    "another key": ([{"TXT": key(2048)[1].decode()[:200]}], NOT_SHOWN),
    "two keys": ([{"TXT": key(1024)[1].decode()}, {"TXT": f"{key(1024)[1].decode()}; n=x"}], NOT_SHOWN),
}


@pytest.mark.parametrize(("records", "reply"), KEYS.values(), ids=KEYS.keys())
def test_second_look_without_a_key(records, reply, tmp_path):
    """Without an answer from DNS the message waits; without a usable key it has no pass."""
    assert seen(tmp_path, Sent(SIGNED), zone={"s1._domainkey.a.example": records}).reply == reply


@pytest.mark.parametrize("sent", [SIGNED, (said(SIGNATURE, "permerror"), *SIGNED)])
def test_a_fault_of_dns_is_no_fault_of_mail_with_another_pass(sent, tmp_path):
    """SPF aligns: the key that cannot be looked up makes no difference, and is what it is, whatever OpenDKIM calls it."""
    found = seen(tmp_path, Sent(sent, **FROM_A), zone={"s1._domainkey.a.example": ["TIMEOUT"]})
    assert found.results() == ["spf=pass", "dkim=temperror", "dmarc=pass"]


ASIDE = {"bounce.aside.example": [SPF], "_dmarc.bounce.aside.example": ["TIMEOUT"]}


def test_a_fault_of_dns_elsewhere_is_no_fault_of_mail_with_a_pass(tmp_path):
    """DKIM aligns: that the domain of the envelope sender, another one, gives no answer makes no difference."""
    sent = Sent(KNOWN, client=AUTHORISED, sender=b"jo@bounce.aside.example")
    assert seen(tmp_path, sent, zone=ASIDE).results() == ["spf=pass", "dkim=pass", "dmarc=pass"]
    looked_at = replace(sent, fields=SIGNED)
    assert seen(tmp_path, looked_at, zone=ASIDE).results() == ["spf=pass", "dkim=pass", "dmarc=pass"]


@pytest.mark.parametrize("role", ["outside", "inside"])
def test_results_under_an_id_that_has_to_be_decoded(role, tmp_path):
    """Encoded words in place of our id: they go, in between others that stay."""
    others = [b" mx.other.example; spf=pass", b" mx.another.example; spf=pass"]
    disguised = [
        b" =?us-ascii?q?=6Dail.ours.example?=; dkim=pass",
        b" =?us-ascii?b?bWFpbC5vdXJzLmV4YW1wbGU=?=; dkim=pass",
    ]
    mixed = [one for pair in zip(others, disguised, strict=True) for one in pair]
    found = seen(tmp_path, plain("none.example", *(Field(authres.NAME, one) for one in mixed)), role=role)
    assert found.reply is None
    assert [one for one in found.values(authres.NAME) if OUR_ID.encode() not in one] == others


def test_a_body_too_long_to_be_looked_at(tmp_path, monkeypatch):
    """Nothing is known of its signature then: it waits, and is neither believed nor refused."""
    monkeypatch.setattr(Outside, "max_body", len(BODY) - 1)
    waits = "451 4.3.4 a DKIM signature cannot be checked now, the message is too long"
    assert seen(tmp_path, Sent(SIGNED)).reply == waits
    assert seen(tmp_path, Sent(KNOWN)).results()[-1] == "dmarc=pass"
    # What OpenDKIM takes for a missing key may be a fault of DNS, but an altered message is one each time.
    assert seen(tmp_path, Sent((said(SIGNATURE, "permerror"), *SIGNED))).reply == waits
    assert seen(tmp_path, Sent((said(SIGNATURE, "fail"), *SIGNED))).reply == NOT_SHOWN


@pytest.mark.parametrize("local", [SITE.local_domains[0], "a.example"])
@pytest.mark.parametrize("result", ["permerror", "fail", "temperror"])
def test_no_room_for_a_body(result, local, tmp_path, monkeypatch):
    """What is kept for other messages is there for a while only: this one waits, whatever OpenDKIM says of it."""
    sent, site = Sent((said(SIGNATURE, result), *SIGNED)), replace(SITE, local_domains=(local,))
    assert seen(tmp_path, sent, site=site).results()[-1] == "dmarc=pass"
    monkeypatch.setattr(Outside, "max_bodies", len(BODY) - 1)
    found = seen(tmp_path, sent, site=site)
    assert found.reply == "451 4.3.1 a DKIM signature cannot be checked now, other messages take all the room"
    assert seen(tmp_path, Sent(KNOWN)).results()[-1] == "dmarc=pass"


MARK = Field(b"X-Mailstack-Quarantine", b" DMARC policy of x.example")


def test_quarantine(tmp_path):
    """The message is marked by one field that did not come with it; no other message is."""
    theirs = (MARK, Field(b"x-mailstack-QUARANTINE", b" no"))
    found = seen(tmp_path, plain("quarantine.example", *theirs))
    assert found.values(MARK.name) == [b" DMARC policy of quarantine.example"]
    assert b"(p=quarantine dis=quarantine)" in found.values(authres.NAME)[0]
    assert seen(tmp_path, plain("none.example", *theirs)).values(MARK.name) == []
    marking = replace(SITE, dmarc="mark")
    found = seen(tmp_path, plain("quarantine.example"), site=marking)
    assert found.values(MARK.name) == []
    assert b"(p=quarantine dis=none)" in found.values(authres.NAME)[0]


@pytest.mark.parametrize("role", ["outside", "inside"])
def test_forged_results_are_removed(role, tmp_path):
    """Everything under our ids, in either role, from between others that stay in their order; nothing else is touched."""
    ours = [
        Field(b"Authentication-Results", f" {OUR_ID}; dkim=pass header.d=bank.example".encode()),
        Field(b"AUTHENTICATION-RESULTS", f"\n\t(x) {OUR_ID.upper()} 1; spf=pass".encode()),
        Field(b"Authentication-Results", f' "{OUR_ID}"; dmarc=pass'.encode()),
        Field(b"Authentication-Results", f" {INTERNAL_ID}; dkim=pass header.d=bank.example".encode()),
    ]
    theirs = [
        Field(b"Authentication-Results", b" mx.other.example; spf=pass"),
        Field(b"Authentication-Results", b" mx.third.example; none"),
        Field(b"X-Authentication-Results", ours[0].value),
    ]
    mixed = (ours[0], theirs[0], ours[1], ours[3], theirs[1], theirs[2], ours[2])
    date = (Field(b"Date", b" Wed, 25 Nov 2026 12:00:00 +0000"), Field(b"Message-ID", b" <1@a.example>"))
    found = seen(tmp_path, plain("a.example", *mixed, *date, **FROM_A), role=role)
    kept = [*theirs, *date, from_("a.example"), Field(b"Subject", b" one")]
    assert found.fields[1 if role == "outside" else 0 :] == kept
    if role == "outside":
        assert found.results() == ["spf=pass", "dkim=none", "dmarc=pass"]


LOCAL = {
    "author": (plain("ours.example"), "author of ours.example, without its SPF or DKIM pass"),
    "sub-domain": (plain("news.ours.example"), "author of news.ours.example, without its SPF or DKIM pass"),
    "envelope": (
        plain("bare.example", sender=b"jo@ours.example"),
        "envelope sender of ours.example, without its SPF or DKIM pass",
    ),
}


@pytest.mark.parametrize(("sent", "reason"), LOCAL.values(), ids=LOCAL.keys())
def test_local_domains(sent, reason, tmp_path, capsys):
    """Our domains from outside are dropped with a line in the log, or refused with the reason."""
    assert seen(tmp_path, sent).discarded
    (line,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert (line["action"], line["reason"], line["source_ip"]) == ("discard", reason, STRANGER)
    assert seen(tmp_path, sent, site=replace(SITE, local_sender="reject")).reply == f"550 5.7.1 {reason}"


NOT_ACCEPTED = {
    "reject": plain("a.example"),
    "no author": Sent(()),
    "discard": plain("ours.example"),
    "defer": plain("failing.example"),
    "quarantine": plain("quarantine.example"),
}


@pytest.mark.parametrize("sent", NOT_ACCEPTED.values(), ids=NOT_ACCEPTED.keys())
def test_no_fate_without_a_line(sent, tmp_path):
    """What becomes of a message that is not just accepted is in the log before Postfix learns it."""

    async def hand_on():
        async with running(tmp_path) as one:
            fate = await one.outside.replies(sent)
            with full_disk():
                return fate, await one.outside.replies(sent)

    fate, without = asyncio.run(hand_on())
    assert len(fate) > 1
    assert without == [NEGOTIATED]


def test_nothing_is_accepted_unrecorded(tmp_path):
    """Lines about accepted mail may wait for others; once they could not be written, mail waits."""

    async def hand_on():
        async with running(tmp_path) as one:
            with full_disk():
                first = await one.outside.replies(sent)
                while not one.judge._lines._failed:  # noqa: ASYNC110
                    await asyncio.sleep(0)
                return first[-1], await one.outside.replies(sent)

    sent = plain("a.example", **FROM_A)
    assert asyncio.run(asyncio.wait_for(hand_on(), 10)) == (b"a", [NEGOTIATED])


def test_on_record(tmp_path, capsys):
    """A line of JSON for each verdict, with what an aggregate report needs (RFC 9990), and a count for each result."""
    sent = [
        Sent((Field(b"Message-ID", b" <1@a.example>"), *KNOWN), queue_id=b"4gX0"),
        plain("a.example", **FROM_A),
        plain("a.example"),
        Sent((Field(b"From", b' "x\x1b[2J\xff"\n {"a": 1}'),)),
    ]

    async def hand_on():
        async with running(tmp_path) as one:
            for each in sent:
                await one.outside.hand_on(each)

    asyncio.run(hand_on())
    text = capsys.readouterr().out
    assert text.isascii()
    first, second, refused, ambiguous = map(json.loads, text.splitlines())
    assert (
        first.items()
        >= {
            "queue_id": "4gX0",
            "action": "accept",
            "result": "pass",
            "source_ip": STRANGER,
            "envelope_from": "<jo@bare.example>",
            "from": "Jo <jo@a.example>",
            "message_id": "<1@a.example>",
            "header_from": "a.example",
            "rua": "mailto:dmarc@a.example",
            "policy_evaluated": {"disposition": "none", "dkim": "pass", "spf": "fail", "override": None},
        }.items()
    )
    assert first["policy_published"].items() >= {"domain": "a.example", "p": "reject", "testing": "n"}.items()
    assert first["auth_results"] == {
        "spf": {"domain": "bare.example", "scope": "mfrom", "result": "none"},
        "dkim": [{"domain": "a.example", "selector": "s1", "result": "pass", "reason": ""}],
    }
    assert [(one["result"], one["count"]) for one in (second, refused, ambiguous)] == [
        ("pass", 2),
        ("fail", 1),
        ("ambiguous", 1),
    ]
    assert refused["policy_evaluated"]["disposition"] == "reject"
    assert (ambiguous["action"], ambiguous["from"]) == ("reject", '"x\x1b[2J\\xff" {"a": 1}')


def test_exempt_clients(tmp_path):
    """Whom policyd-spf does not judge has no SPF result; DMARC goes by DKIM."""
    policy = replace(POLICY, skip_networks=tuple(map(ipaddress.ip_network, ["198.51.100.0/24"])))
    found = seen(tmp_path, Sent(KNOWN), policy=policy)
    assert found.results() == ["spf=none", "dkim=pass", "dmarc=pass"]
    assert b"spf=none (not judged, relay)" in found.values(authres.NAME)[0]


HOSTILE = [
    b'"a); dkim=pass header.d=bank.example ("@bare.example',
    b"a; dmarc=pass header.from=bank.example@bare.example",
    b'"a\\";\n\tdkim=pass"@bare.example',
    b"a@bare.example; spf=pass smtp.mailfrom=bank.example",
    b"a@\xff.example",
    b"a@b@bare.example",
    b"a" * 2000 + b"@bare.example",
    b"\xff",
]


@pytest.mark.parametrize("sender", HOSTILE)
def test_nothing_of_an_address_gets_into_the_results(sender, tmp_path):
    """Whatever the envelope and HELO hold, the field has our three results and a domain at most."""
    found = seen(tmp_path, plain("none.example", sender=sender, helo=sender))
    assert found.results() == ["spf=none", "dkim=none", "dmarc=fail"]
    assert b"bank.example" not in found.values(authres.NAME)[0]


def test_messages_at_once(tmp_path):
    """A hundred messages on as many connections: each one gets its own verdict, over few connections to policyd-spf."""

    async def hand_on():
        async with running(tmp_path) as one:
            kinds = [plain("a.example", **FROM_A), plain("a.example"), Sent(SIGNED), plain("quarantine.example")]
            found = await asyncio.gather(*(one.outside.hand_on(kinds[at % 4]) for at in range(100)))
            before = len(one.connections)
            for at in range(20):
                await one.outside.hand_on(kinds[at % 4])
            assert len(one.connections) == before <= 100
            return found

    for at, found in enumerate(asyncio.run(hand_on())):
        if at % 4 == 1:
            assert found.reply == NOT_SHOWN
        else:
            assert found.results()[-1] == ("dmarc=fail" if at % 4 == 3 else "dmarc=pass")


def _answering(answer, gone=None):
    """A handler that reads requests and says something to each; None hangs up. Then it tells that the peer has gone."""

    async def serve(stream, sink):
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                await stream.readuntil(b"\n\n")
                if answer is None:
                    break
                sink.write(answer)
        await _close(sink)
        if gone:
            gone.set()

    return serve


TROUBLE = "451 4.3.0 DMARC check failed inside, try again later"
ANSWERS = {
    "hangs up": None,
    "an error": b'{"error": "no client address"}\n',
    "no JSON": b"OK\n",
    "half an answer": b'{"exempt": null}\n',
    "another kind": b"[]\n",
    "empty": b"\n",
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
def test_policyd_spf_does_not_say(answer, tmp_path, capsys):
    """The message waits, and the log says why; once policyd-spf is itself again, so is everything."""

    async def hand_on():
        async with running(tmp_path) as one:
            real = tmp_path / "results.sock"
            real.rename(tmp_path / "real")
            assert (await one.outside.hand_on(plain("a.example", **FROM_A))).reply == TROUBLE
            server = await asyncio.start_unix_server(_answering(answer), real)
            assert (await one.outside.hand_on(plain("a.example", **FROM_A))).reply == TROUBLE
            server.close()
            real.unlink(missing_ok=True)
            (tmp_path / "real").rename(real)
            _break_idle(one.spf)
            return await one.outside.hand_on(plain("a.example", **FROM_A))

    assert asyncio.run(hand_on()).results()[-1] == "dmarc=pass"
    lines = capsys.readouterr().out.splitlines()
    assert [one.startswith("dmarc: : error=") and one.endswith("action=defer") for one in lines[:2]] == [True] * 2
    assert ("no client address" in lines[1]) == (answer is not None and b"no client address" in answer)


def test_policyd_spf_has_left_its_result(tmp_path):
    """Then nobody asks; but for a message of that queue id alone, from that client with that HELO and sender."""
    sent = plain("a.example", queue_id=b"4gX1", **FROM_A)
    others = [
        replace(sent, **one) for one in ({"queue_id": b"4gX2"}, {"helo": b"other.example"}, {"sender": b"a@x.example"})
    ]

    async def hand_on():
        async with running(tmp_path) as one:
            request = protocol.question("4gX1", sent.client, sent.helo, sent.sender)
            await one.policyd.action(protocol.parse(request.strip()), lambda _: True)
            assert (await one.outside.hand_on(sent)).results()[-1] == "dmarc=pass"
            assert one.connections == []
            for other in others:
                await one.outside.hand_on(other)
            assert len(one.connections) == 1

    asyncio.run(hand_on())


def test_a_connection_to_policyd_spf_that_breaks(tmp_path):
    """One that broke while it was idle is nobody's trouble, nor is a new one, once: a worker may have gone with it."""
    sent = plain("a.example", **FROM_A)

    async def hand_on():
        async with running(tmp_path) as one:
            await one.outside.hand_on(sent)
            one.connections[0].close()
            assert (await one.outside.hand_on(sent)).results()[-1] == "dmarc=pass"
            assert len(one.connections) == 2
            for breaking, reply in ((1, None), (2, TROUBLE), (0, None)):
                _break_idle(one.spf)
                one.breaking = breaking
                assert (await one.outside.hand_on(sent)).reply == reply

    asyncio.run(hand_on())


def test_policyd_spf_answers_in_pieces(tmp_path):
    """An answer counts when it is whole."""

    async def in_pieces(stream, sink):
        await stream.readuntil(b"\n\n")
        for piece in (b'{"exempt": "re', b'lay"}', b"\n"):
            sink.write(piece)
            await sink.drain()
            # Each piece is read by itself.
            await asyncio.sleep(0)
        await _close(sink)

    async def hand_on():
        async with running(tmp_path) as one:
            (tmp_path / "results.sock").unlink()
            async with await asyncio.start_unix_server(in_pieces, tmp_path / "results.sock"):
                return await one.outside.hand_on(Sent(SIGNED))

    found = asyncio.run(hand_on())
    assert found.results()[0] == "spf=none"
    assert found.results()[-1] == "dmarc=pass"


def test_policyd_spf_that_hangs(tmp_path, monkeypatch):
    """A message does not wait for it for ever."""
    monkeypatch.setattr(dmarcd, "MAX_SECONDS", 0.2)

    async def hand_on():
        async with running(tmp_path) as one:
            (tmp_path / "results.sock").unlink()
            gone = asyncio.Event()
            server = await asyncio.start_unix_server(_answering(b"", gone), tmp_path / "results.sock")
            found = await one.outside.hand_on(plain("a.example", **FROM_A))
            await asyncio.wait_for(gone.wait(), 10)
            server.close()
            return found

    assert asyncio.run(hand_on()).reply == TROUBLE


NAMES = st.sampled_from([b"Authentication-Results", b"authentication-results", b"X-Mailstack-Quarantine", b"Subject"])
IDS = st.sampled_from([OUR_ID, INTERNAL_ID, OUR_ID.upper(), "other.example", f"(x) {OUR_ID}", f'"{OUR_ID}"', ""])
TEXTS = st.text(st.sampled_from('abc;=()\\" .\t<>@'), max_size=12)
FIELDS = st.lists(
    st.builds(lambda name, one, text: Field(name, f" {one}{text}".encode()), NAMES, IDS, TEXTS), max_size=6
)
ADDRESSES = st.one_of(st.binary(max_size=40), st.sampled_from(HOSTILE)).map(lambda one: one.replace(b"\0", b""))


@settings(max_examples=60)
@given(st.lists(FIELDS, min_size=10, max_size=10), ADDRESSES, ADDRESSES)
@example([[Field(authres.NAME, f" {OUR_ID}; dkim=pass".encode())] * 5] * 10, b"", b"")
def test_one_field_is_ours(tmp_path_factory, several, sender, helo):
    """Whatever came, one field under our id is left, the one that we wrote, and none under the internal one."""

    async def hand_on():
        async with running(tmp_path_factory.mktemp("one")) as one:
            return [
                await one.outside.hand_on(plain("none.example", *each, sender=sender, helo=helo)) for each in several
            ]

    for found in asyncio.run(hand_on()):
        claims = authres.claims(Fields(found.fields))
        assert [one.at for one in claims if one.of(OUR_ID)] == [1]
        assert not any(one.of(INTERNAL_ID) for one in claims)
        assert found.values(MARK.name) == []
        assert re.fullmatch(
            rb" mail\.ours\.example;\n\tspf=none(?: smtp\.(?:mailfrom|helo)=[a-z0-9._-]+)?;\n\tdkim=none;\n\t"
            rb"dmarc=fail \(p=none dis=none\) header\.from=none\.example policy\.dmarc=none",
            found.fields[0].value,
        )


def test_inside_completes(tmp_path):
    """A missing Date and Message-ID are added, each message its own; never a From, and nothing to what has both."""
    bare = plain("a.example", queue_id=b"4gX0")

    async def hand_on():
        async with running(tmp_path) as one:
            several = [await one.inside.hand_on(each) for each in (bare, bare, replace(bare, queue_id=b""))]
            return [*several, await one.inside.hand_on(replace(bare, fields=tuple(several[0].fields)))]

    *several, complete = asyncio.run(hand_on())
    ids = {value for found in several for value in found.values(b"Message-ID")}
    assert len(ids) == len(several)
    for found in several:
        assert {one.name for one in found.fields} == {b"Date", b"Message-ID", b"From", b"Subject"}
        parsed = message_from_bytes(b"".join(one.name + b":" + one.value + b"\n" for one in found.fields))
        assert parsedate_to_datetime(parsed["Date"]).tzinfo is not None
        assert re.fullmatch(r"<[A-Za-z0-9.]+@mail\.ours\.example>", parsed["Message-ID"])
    assert complete.edits == []
    odd = replace(bare, fields=(Field(b"DATE", b" x"), Field(b"message-id ", b" y"), *bare.fields))
    assert seen(tmp_path, odd, role="inside").edits == []


AMBIGUOUS = {
    "no From": (),
    "two": (from_("a.example"), from_("a.example")),
    "two, and a signature": (*SIGNED, from_("bank.example")),
    "two, one spaced": (from_("a.example"), Field(b"From ", b" jo@bank.example")),
    "two addresses": (Field(b"From", b" jo@a.example, jo@bank.example"),),
    "a group": (Field(b"From", b" us: jo@a.example;"),),
    "nobody": (Field(b"From", b" MAILER DAEMON <>"),),
    "no domain": (Field(b"From", b" foo"),),
}


@pytest.mark.parametrize("sent", AMBIGUOUS.values(), ids=AMBIGUOUS.keys())
def test_ambiguous_mail(sent, tmp_path, capsys):
    """It is refused in both roles, in each with the code that fits, before anybody is asked anything."""

    async def hand_on():
        async with running(tmp_path) as one:
            found = [(await role.hand_on(Sent(sent))).reply for role in (one.outside, one.inside)]
            assert (one.names.asked, one.connections) == ([], [])
            return found

    outside, inside = asyncio.run(hand_on())
    assert outside.startswith("550 5.7.1 ")
    assert inside == outside.replace("550 5.7.1 ", "550 5.6.0 not signed: ")
    verdict, line = capsys.readouterr().out.splitlines()
    assert json.loads(verdict)["result"] == "ambiguous"
    assert line.startswith("dmarc: : action=reject reason=")


def test_inside_refuses_a_header_too_long(tmp_path):
    """What was not looked at in whole is not signed."""
    sent = plain("a.example", *[Field(b"X", b"x" * 50_000)] * TOO_MANY)
    assert str(seen(tmp_path, sent, role="inside").reply).startswith("552 5.3.4 header is too long, the limit is ")


def test_inside_refuses_a_field_too_long(tmp_path):
    """A field that Postfix may have cut is not signed; the longest one that is surely whole is."""
    longest = b" " + b"x" * (MAX_FIELD_OCTETS - len(b"To: "))
    assert seen(tmp_path, plain("a.example", Field(b"To", longest)), role="inside").reply is None
    reply = seen(tmp_path, plain("a.example", Field(b"To", longest + b"x")), role="inside").reply
    assert reply == "552 5.3.4 header field To is too long, the limit is 53999 octets"


# What each role removes, and what it leaves.
TAKEN = {
    "outside": ([b"Return-Path"], [b"Bcc", b"Resent-Bcc", b"Content-Length"]),
    "inside": ([b"Return-Path", b"Bcc", b"Resent-Bcc", b"Content-Length"], []),
}


@pytest.mark.parametrize("role", TAKEN)
def test_fields_that_must_not_stay(tmp_path, role):
    """Hidden recipients do not leave with our own mail; no message keeps a Return-Path that somebody else wrote."""
    removed, left = TAKEN[role]
    extra = [Field(name, b" x@ours.example") for name in (*removed, *left)]
    extra += [Field(one.name.lower(), one.value) for one in extra]
    found = seen(tmp_path, plain("a.example", *extra, **FROM_A), role=role)
    assert found.reply is None
    assert [name for name in removed if found.values(name)] == []
    assert [name for name in left if len(found.values(name)) != 2] == []


# The program itself; its paths are the test's.
PROGRAM = """
import sys
from pathlib import Path
from mailstack_auth import dmarcd, supervisor

directory = Path(sys.argv[1])
dmarcd.SPF_RESULTS, dmarcd.SPF_SOCKET = directory / "results", directory / "results.sock"
dmarcd.CONFIGURATION = directory / "dmarc.json"
dmarcd.INTERNAL_ID = directory / "authserv-id"
supervisor.main("mailstack_auth.dmarcd", directory / "outside.sock", directory / "inside.sock")
"""


@pytest.fixture
def program(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The running program: supervisor and worker, without a policyd-spf."""
    configuration = {"hostname": OUR_ID, "dmarc": "follow", "spf_fail": "reject", "local_sender": "discard"}
    lists = {"local_domains": [], "skip_networks": [], "skip_domains": []}
    (tmp_path / "dmarc.json").write_text(json.dumps(configuration | lists))
    (tmp_path / "authserv-id").write_text(f"{INTERNAL_ID}\n")
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(tmp_path)],
            stdout=log,
            stderr=log,
            env=os.environ | {"PYTHONPATH": str(Path(mailstack_auth.__file__).parents[1])},
        )
    yield process
    process.kill()
    process.wait(10)


def test_the_program(program, tmp_path):
    """It serves both roles; a worker that dies is replaced; on TERM a message in hand is finished, and it ends with 0."""
    inside, outside = (Postfix(tmp_path / f"{name}.sock") for name in ("inside", "outside"))
    wait_for((tmp_path / "inside.sock").is_socket, "the program does not start")
    assert asyncio.run(inside.hand_on(plain("a.example"))).reply is None
    assert asyncio.run(outside.hand_on(plain("a.example"))).reply == TROUBLE
    assert asyncio.run(outside.hand_on(Sent(()))).reply == "550 5.7.1 there is no From field"
    (worker,) = Path(f"/proc/{program.pid}/task/{program.pid}/children").read_text().split()
    os.kill(int(worker), signal.SIGKILL)
    assert asyncio.run(inside.hand_on(plain("a.example"))).reply is None
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(str(tmp_path / "inside.sock"))
        octets = NEGOTIATION + plain("a.example").packets()
        connection.sendall(octets[: -len(END)])
        stream = connection.makefile("rb")
        # The reply to the negotiation: what came with it is in hand.
        assert replies(stream.read(4 + len(NEGOTIATED)))[0][:1] == b"O"
        program.terminate()
        connection.sendall(END)
        assert replies(stream.read())[-1] == b"a"
    assert program.wait(10) == 0
    assert (tmp_path / "log").read_text().count("the worker ended with -9, starting another") == 1


def test_a_peer_that_is_no_postfix(tmp_path):
    """It is cut off, and others are none the worse."""

    async def hand_on():
        async with running(tmp_path) as one:
            stream, sink = await asyncio.open_unix_connection(str(tmp_path / "outside"))
            sink.write(b"GET / HTTP/1.0\r\n\r\n")
            assert await stream.read() == b""
            await _close(sink)
            return await one.outside.hand_on(plain("a.example", **FROM_A))

    assert asyncio.run(hand_on()).results()[-1] == "dmarc=pass"
