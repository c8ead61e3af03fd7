"""mailstack_auth.dmarc and submission: all judges on their milter sockets; policyd-spf's results and the look-ups are the real ones."""

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
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from email import message_from_bytes
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path

import authres as reader
import dkim
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import mailstack_auth
from bench import dns_answers
from mailstack.world.containers import wait_for
from mailstack_auth.dkim import signatures
from mailstack_auth.dkim.verification import Body
from mailstack_auth.dmarc import inbound
from mailstack_auth.dmarc.inbound import Inbound
from mailstack_auth.dns import wire
from mailstack_auth.header import authres
from mailstack_auth.header.fields import Field, Fields
from mailstack_auth.milter.message import MAX_FIELD_OCTETS, MAX_HEADER_OCTETS, Message
from mailstack_auth.milter.session import Session as MilterSession
from mailstack_auth.runtime import supervisor
from mailstack_auth.runtime.cache import Latest
from mailstack_auth.runtime.counts import Counts
from mailstack_auth.runtime.deferrals import Deferrals
from mailstack_auth.runtime.handover import Writer
from mailstack_auth.runtime.serving import Connection, Serving, Session, begin_tasks_at_once
from mailstack_auth.site import Site
from mailstack_auth.spf import policy_protocol
from mailstack_auth.spf import service as policyd
from mailstack_auth.spf.evaluation import Evaluator
from mailstack_auth.spf.policy import Policy
from mailstack_auth.spf.results import SpfResults
from mailstack_auth.submission.judges import Signed, Submission
from unit.auth.test_log import full_disk
from unit.auth.test_milter import END, NEGOTIATED, NEGOTIATION, connect, header, macros, packet, replies
from unit.auth.test_verification import BODY, HEAD, fields, key, sign
from unit.dns_server import Server

INTERNAL_ID = "mailstack-0123456789abcdef0123456789abcdef01234567"
OUR_ID = "mail.ours.example"
SITE = Site(
    OUR_ID,
    frozenset({"ours.example", OUR_ID}),
    signed=frozenset({"ours.example"}),
    signed_below=frozenset({"ours.example"}),
)
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
    recipients: tuple[bytes, ...] = ()
    queue_id: bytes = b""

    def packets(self) -> bytes:
        family = b"6" if ":" in self.client else b"4"
        return b"".join(
            [
                connect(self.client.encode(), family),
                packet(b"H", self.helo + b"\0"),
                macros(b"M", **{"i": self.queue_id, "{mail_addr}": self.sender}),
                packet(b"M", b"<" + self.sender + b">\0"),
                *(packet(b"R", b"<" + one + b">\0") for one in self.recipients),
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
    # Recipients that go, behind "-", and that come, behind "+".
    readdressed: list[bytes] = field(default_factory=list)

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
        if one[:1] in b"-+":
            seen.readdressed.append(one.removesuffix(b"\0"))
            continue
        (at,), (name, _, value) = struct.unpack("!I", one[1:5]), one[5:].partition(b"\0")
        if one[:1] == b"i":
            assert at == 0
            seen.fields.insert(0, Field(name, value.removesuffix(b"\0")))
        else:
            assert (one[:1], value) == (b"m", b"\0")
            same = [i for i, each in enumerate(seen.fields) if each.name.strip().lower() == name.lower()]
            del seen.fields[same[at - 1]]
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


class Watched(Inbound):
    """Takes down of which messages it wants the body."""

    def __init__(self, *given: object, **named: object) -> None:
        super().__init__(*given, **named)
        self.bodies: list[bool] = []

    def body(self, message: Message) -> Body | None:
        found = super().body(message)
        self.bodies.append(found is not None)
        return found


@dataclass
class Running:
    """Everything that a judge works with, in the running loop."""

    names: Server
    outside: Postfix
    inside: Postfix
    signed: Postfix
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
        left, deferrals = Writer(directory / "results"), Deferrals(directory / "deferrals", site.dns_hours * 3600)
        counts = Counts(directory / "counts", inbound.log)
        server = policyd.Server(
            policy,
            Evaluator(lookups),
            Latest(mmap.mmap(-1, 144)),
            left,
            lookups=lookups,
            deferrals=deferrals,
            counts=counts,
        )
        spf = SpfResults(directory / "results", directory / "results.sock")
        judge = Watched(site, INTERNAL_ID, spf, lookups, deferrals=deferrals, counts=counts)
        outside, inside, signed = (Postfix(directory / name) for name in ("outside", "inside", "signed"))
        one = Running(names, outside, inside, signed, server, spf, judge)

        def results_session(connection: Connection) -> Session:
            one.connections.append(connection)
            if one.breaking:
                one.breaking -= 1
                return GoesAway(connection)
            return policyd.Session(server.results, connection)

        sessions = {
            "results.sock": results_session,
            "outside": partial(MilterSession, judge=judge),
            "inside": partial(MilterSession, judge=Submission(site, INTERNAL_ID)),
            "signed": partial(MilterSession, judge=Signed(site, INTERNAL_ID)),
        }
        serving, loop = Serving(inbound.log, policy_protocol.MAX_REQUEST), asyncio.get_running_loop()
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
HELO_OF_A = {"client": AUTHORISED, "helo": b"a.example"}
NOT_SHOWN = "550 5.7.26 DMARC: rejected by policy of a.example (neither SPF nor DKIM passed in alignment)"
NO_ANSWER = "451 4.4.3 DNS lookup of {} failed, please retry"

MARK = Field(b"X-Mailstack-Quarantine", b" DMARC policy of x.example")
# Fields of 50,000 octets, more than may be.
TOO_MANY = MAX_HEADER_OCTETS // 50_000 + 1

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
        NO_ANSWER.format("the organizational domain of news.walk.example"),
    ),
    "no answer about the record": (plain("failing.example"), NO_ANSWER.format("DMARC record of failing.example")),
    "no answer about SPF": (
        plain("spf-failing.example", sender=b"jo@spf-failing.example"),
        NO_ANSWER.format("SPF record of spf-failing.example"),
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
    spf, *others, dkim_pass, dmarc = found.results()
    assert (spf, dkim_pass, dmarc) == ("spf=none", "dkim=pass", "dmarc=pass")
    assert len(others) == 19
    assert set(others) <= {"dkim=temperror", "dkim=permerror"}
    assert max(map(len, capsys.readouterr().out.splitlines())) < 8192


COMMON = {
    "a pass is known": Sent(KNOWN),
    "no signature": plain("none.example"),
    "SPF aligns": plain("a.example", **FROM_A),
    "somebody's signature": plain("none.example", said(SIGNATURE), SIGNATURE),
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
    site = replace(SITE, local_domains=frozenset({"a.example"}))
    forged = Sent(tuple(fields(head)), sender=b"jo@a.example")
    assert seen(tmp_path, forged, site=site).discarded
    ours = replace(forged, fields=(sign(head=head), *fields(head)))
    assert seen(tmp_path, ours, site=site).results() == ["spf=fail", "dkim=pass", "dmarc=none"]


KEYS = {
    "no answer": (["TIMEOUT"], NO_ANSWER.format("DKIM key s1._domainkey.a.example")),
    "no key": ([], NOT_SHOWN),
    "another key": ([{"TXT": key(2048)[1].decode()[:200]}], NOT_SHOWN),
    "two keys": ([{"TXT": key(1024)[1].decode()}, {"TXT": f"{key(1024)[1].decode()}; n=x"}], NOT_SHOWN),
}


@pytest.mark.parametrize(("records", "reply"), KEYS.values(), ids=KEYS.keys())
def test_second_look_without_a_key(records, reply, tmp_path):
    """Without an answer from DNS the message waits; without a usable key it has no pass."""
    assert seen(tmp_path, Sent(SIGNED), zone={"s1._domainkey.a.example": records}).reply == reply


@pytest.mark.parametrize("opendkim", ["", "temperror", "permerror"])
def test_a_fault_of_dns_is_no_fault_of_mail_with_another_pass(opendkim, tmp_path):
    """SPF aligns: the key that cannot be looked up makes no difference, and nobody asks for it again."""
    sent = (said(SIGNATURE, opendkim), *SIGNED) if opendkim else SIGNED
    found = seen(tmp_path, Sent(sent, **FROM_A), zone={"s1._domainkey.a.example": ["TIMEOUT"]})
    assert found.results() == ["spf=pass", f"dkim={opendkim or 'temperror'}", "dmarc=pass"]


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


EXACT = {
    "DKIM's": (Sent(KNOWN), ["spf=none", "dkim=pass", "dmarc=pass"]),
    "DKIM's, by a second look": (Sent((GARBAGE, *SIGNED)), ["spf=none", "dkim=permerror", "dkim=pass", "dmarc=pass"]),
    "SPF's": (plain("a.example", **FROM_A), ["spf=pass", "dkim=none", "dmarc=pass"]),
}


@pytest.mark.parametrize("silent", ["_dmarc.a.example", "_dmarc.example"])
@pytest.mark.parametrize(("sent", "results"), EXACT.values(), ids=EXACT.keys())
def test_a_pass_of_the_authors_own_domain_waits_for_nothing(sent, results, silent, tmp_path):
    """It aligns under every record that there may be."""
    zone = {"_dmarc.a.example": [], silent: ["TIMEOUT"]}
    found = seen(tmp_path, sent, zone=zone).results()
    # Without a record there would be nothing to pass.
    assert found == results


TREE = {
    "_dmarc.co.example": [{"TXT": "v=DMARC1; p=reject; psd=y"}],
    "_dmarc.one.co.example": [{"TXT": "v=DMARC1; p=reject"}],
    "_dmarc.strict.example": [{"TXT": "v=DMARC1; p=reject; adkim=s"}],
}


def signed_by(domain, *, author, selector="s1", **options):
    """A signature by a domain over a message of an author, as the field that it is, and the message's fields."""
    head = HEAD.replace(b"a.example", author.encode())
    made = dkim.sign(
        head + b"\r\n" + BODY, selector.encode(), domain.encode(), key(1024)[0], include_headers=[b"from"], **options
    )
    return fields(made)[0], fields(head)


LOOKED_FOR = {
    # The author; who signs beside it, with a pass of OpenDKIM's; who signs without one.
    "another organization below one suffix": ("one.co.example", "two.co.example", "one.co.example"),
    "its parent, which strict alignment does not take": ("m.strict.example", "strict.example", "m.strict.example"),
}


@pytest.mark.parametrize("options", [{}, {"length": True}], ids=["known to nobody", "with l="])
@pytest.mark.parametrize(("author", "beside", "by"), LOOKED_FOR.values(), ids=LOOKED_FOR.keys())
def test_a_pass_that_does_not_align_hides_no_other(author, beside, by, options, tmp_path):
    """A good signature of a neighbour's stands above the author's, of which OpenDKIM says nothing that counts."""
    above, rest = signed_by(beside, author=author)
    own, _ = signed_by(by, author=author, **options)
    record = [{"TXT": key(1024)[1].decode()}]
    zone = TREE | {f"s1._domainkey.{beside}": record, f"s1._domainkey.{by}": record}
    found = seen(tmp_path, Sent((said(above), above, own, *rest)), zone=zone)
    assert found.reply is None
    assert found.results() == ["spf=none", "dkim=pass", "dkim=pass", "dmarc=pass"]
    waits = seen(tmp_path, Sent((said(above), above, own, *rest)), zone=zone | {f"s1._domainkey.{by}": ["TIMEOUT"]})
    assert waits.reply == NO_ANSWER.format(f"DKIM key s1._domainkey.{by}")


def test_ways_to_hash_a_body(tmp_path):
    """Which signatures are verified is known only with SPF's result, and the body has its hashes for each of them."""
    own, rest = signed_by("a.example", author="a.example", canonicalize=(b"simple", b"simple"))
    value = b" v=1; a=rsa-sha256; c=relaxed/relaxed; d=list.example; s=s; h=from; bh=AAAA; b=AAAA"
    sent = Sent((*[Field(b"DKIM-Signature", value)] * 20, own, *rest), client=AUTHORISED, sender=b"x@list.example")
    site, zone = replace(SITE, skip_domains=("list.example",)), {"list.example": [SPF]}
    found = seen(tmp_path, sent, site=site, zone=zone)
    assert (found.reply, found.results()[-1]) == (None, "dmarc=pass")


HOPELESS = {
    "expired": "v=1; a=rsa-sha256; d=a.example; s=silent; h=from; x=1000000000; bh=AAAA; b=AAAA",
    "From unsigned": "v=1; a=rsa-sha256; d=a.example; s=silent; h=to; bh=AAAA; b=AAAA",
    "another version": "v=2; a=rsa-sha256; d=a.example; s=silent; h=from; bh=AAAA; b=AAAA",
    "no body hash": "v=1; a=rsa-sha256; d=a.example; s=silent; h=from; b=AAAA",
}


@pytest.mark.parametrize("value", HOPELESS.values(), ids=HOPELESS.keys())
def test_no_key_is_waited_for_that_changes_nothing(value, tmp_path):
    """A signature cannot pass, and DNS does not answer for its key: dmarc judges the message without it."""
    sent = plain("a.example", Field(b"DKIM-Signature", f" {value}".encode()))
    assert seen(tmp_path, sent, zone={"silent._domainkey.a.example": ["TIMEOUT"]}).reply == NOT_SHOWN


BESIDE = {
    "garbage": [GARBAGE],
    "rsa-sha1": [Field(b"DKIM-Signature", b" v=1; a=rsa-sha1; d=b.example; s=s; h=from; bh=AAAA; b=AAAABBBB")],
    "an odd i=": [
        Field(
            b"DKIM-Signature", b" v=1; a=rsa-sha256; d=b.example; s=s; i=x=3By@b.example; h=from; bh=AAAA; b=AAAABBBB"
        )
    ],
    "eleven": [
        Field(b"DKIM-Signature", b" v=1; a=rsa-sha256; d=b%d.example; s=s; h=from; bh=AAAA; b=AAAABBBB" % at)
        for at in range(11)
    ],
    "one with a long name": [
        Field(
            b"DKIM-Signature",
            b" v=1; a=rsa-sha256; d=%s; s=s; h=from; bh=AAAA; b=AAAABBBB" % b".".join([b"b" * 60] * 4),
        )
    ],
}


@pytest.mark.parametrize("below", [False, True])
@pytest.mark.parametrize("options", [{}, {"length": True}], ids=["whole", "with l="])
@pytest.mark.parametrize("others", BESIDE.values(), ids=BESIDE.keys())
def test_a_trusted_list_is_known_by_its_signature(others, options, below, tmp_path):
    """Whatever stands beside it, and though it has l=: what the list hands on is spared; without trust it is put aside."""
    own, rest = signed_by("list.example", author="a.example", **options)
    signed = [own, *others] if below else [*others, own]
    zone = {"s1._domainkey.list.example": [{"TXT": key(1024)[1].decode()}]}
    sent = Sent((*signed, *rest))
    trusting = replace(SITE, skip_domains=("list.example",))
    spared = seen(tmp_path, sent, zone=zone, site=trusting)
    assert (spared.reply, spared.results()[-1]) == (None, "dmarc=fail")
    assert spared.values(MARK.name) == []
    assert seen(tmp_path, sent, zone=zone).values(MARK.name) == [b" DMARC policy of a.example"]
    old = seen(tmp_path, sent, zone=zone, site=replace(SITE, dmarc="reject"))
    assert old.reply == NOT_SHOWN


def test_waiting_for_dns_has_an_end(tmp_path):
    """Mail that has waited as long as the site allows is quarantined, or refused; mail of others has its own time."""
    sent = plain("failing.example")
    Deferrals(tmp_path / "deferrals", 0, lambda: time.time() - 3 * 3600).over("198.51.100.1", "failing.example")
    assert seen(tmp_path, sent).reply == NO_ANSWER.format("DMARC record of failing.example")
    reason = "DNS lookup of DMARC record of failing.example failed for 3 hours"
    three = replace(SITE, dns_hours=3)
    found = seen(tmp_path, sent, site=three)
    assert (found.reply, found.values(MARK.name)) == (None, [f" {reason}".encode()])
    assert found.results()[-1] == "dmarc=temperror"
    assert seen(tmp_path, sent, site=replace(three, dns_action="reject")).reply == f"550 5.4.3 {reason}"
    assert seen(tmp_path, replace(sent, client="203.0.113.1"), site=three).reply.startswith("451 4.4.3 ")
    at_once = seen(tmp_path, replace(sent, client="203.0.113.2"), site=replace(SITE, dns_hours=0))
    assert at_once.values(MARK.name) != []


def test_a_notice_without_an_author(tmp_path):
    """From of an old mail server's notice claims no domain, so there is nothing to judge; only notices may do so."""
    notice = Sent((Field(b"From", b" Mail Delivery System <MAILER-DAEMON>"),), sender=b"", **HELO_OF_A)
    found = seen(tmp_path, notice)
    assert found.results() == ["spf=pass", "dkim=none", "dmarc=none"]
    assert found.parsed()[0].results[-1].properties == []
    mail = replace(notice, sender=b"jo@a.example")
    assert (
        seen(tmp_path, mail).reply
        == '550 5.7.1 From names no domain; write an address: "Doe, Jane" <jane@domain.example>'
    )


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


JUNK = {
    b"user@ours.example": b"user+quarantine@ours.example",
    b"User+News@Ours.example": b"User+quarantine@Ours.example",
    b"a+b@ours.example": b"a+b+quarantine@ours.example",
    b"A+B@ours.example": b"A+B+quarantine@ours.example",
    b"sales@ours.example": b"sales+quarantine@ours.example",
    b'"user"@ours.example': b"user+quarantine@ours.example",
    b"postmaster": b"postmaster+quarantine@mail.ours.example",
}


def test_quarantine_goes_to_junk(tmp_path):
    """Each recipient's address becomes that of its Junk, once, and for no other mail; not where a server files it."""
    site = replace(SITE, junk=True, extended=frozenset({"a+b@ours.example"}))
    sent = plain("quarantine.example", recipients=(*JUNK, b"user@ours.example"))
    expected = [edit for one, other in JUNK.items() for edit in (b"-<" + one + b">", b"+<" + other + b">")]
    assert seen(tmp_path, sent, site=site).readdressed == expected
    assert seen(tmp_path, sent).readdressed == []
    assert seen(tmp_path, replace(sent, fields=plain("none.example").fields), site=site).readdressed == []


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


WITHOUT_LEAVE = "{} uses our domain {} without an SPF or DKIM pass for it"
LOCAL = {
    "author": (plain("ours.example"), "reject", WITHOUT_LEAVE.format("From", "ours.example")),
    "sub-domain": (plain("news.ours.example"), "reject", WITHOUT_LEAVE.format("From", "news.ours.example")),
    "envelope": (
        plain("bare.example", sender=b"jo@ours.example"),
        "discard",
        WITHOUT_LEAVE.format("MAIL FROM", "ours.example"),
    ),
    "author, by who is somebody": (
        plain("ours.example", **FROM_A),
        "quarantine",
        WITHOUT_LEAVE.format("From", "ours.example"),
    ),
    "author, by who has signed": (
        Sent((said(SIGNATURE), SIGNATURE, from_("ours.example"))),
        "quarantine",
        WITHOUT_LEAVE.format("From", "ours.example"),
    ),
}


@pytest.mark.parametrize(("sent", "action", "reason"), LOCAL.values(), ids=LOCAL.keys())
def test_local_domains(sent, action, reason, tmp_path, capsys):
    """Our domains from outside are dropped, refused or put aside, with the reason; each with a line in the log."""
    found = seen(tmp_path, sent)
    (line,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert (line["action"], line["reason"], line["source_ip"]) == (action, reason, sent.client)
    assert found.discarded == (action == "discard")
    assert found.reply == (f"550 5.7.1 {reason}" if action == "reject" else None)
    assert found.values(MARK.name) == ([f" {reason}".encode()] if action == "quarantine" else [])
    refused = seen(tmp_path, sent, site=replace(SITE, local_sender="reject")).reply
    assert refused == (None if action == "quarantine" else f"550 5.7.1 {reason}")


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
                while not one.judge._log._failed:  # noqa: ASYNC110
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


TROUBLE = "451 4.3.0 DMARC check failed: internal error, please retry"
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
            request = policy_protocol.question("4gX1", sent.client, sent.helo, sent.sender)
            await one.policyd.action(policy_protocol.parse(request.strip()), lambda _: True)
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
    monkeypatch.setattr(inbound, "MAX_SECONDS", 0.2)

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
@example([[Field(authres.NAME, f" {one}".encode()) for one in (OUR_ID, "other.example", OUR_ID)]] * 10, b"", b"")
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


def ours_signed(author, signer):
    head = HEAD.replace(b"a.example", author)
    made = dkim.sign(head + b"\r\n" + BODY, b"s1", signer, key(1024)[0], include_headers=[b"from"])
    return (*fields(made), *fields(head))


UNSIGNED = "451 4.7.0 not signed: the DKIM signer failed, please retry"
LEAVING = {
    "signed": (Sent(ours_signed(b"ours.example", b"ours.example")), None),
    "of a sub-domain, signed by its parent": (Sent(ours_signed(b"news.ours.example", b"ours.example")), None),
    "not signed": (plain("ours.example"), UNSIGNED),
    "of a sub-domain, not signed": (plain("news.ours.example"), UNSIGNED),
    "signed by somebody": (Sent(ours_signed(b"ours.example", b"a.example")), UNSIGNED),
    "signed by a name like ours": (Sent(ours_signed(b"ours.example", b"xours.example")), UNSIGNED),
    "a signature that is none": (plain("ours.example", GARBAGE), UNSIGNED),
    "somebody else's": (plain("a.example"), None),
    "of a name like ours": (plain("xours.example"), None),
}


@pytest.mark.parametrize(("sent", "reply"), LEAVING.values(), ids=LEAVING.keys())
def test_nothing_of_ours_leaves_unsigned(sent, reply, tmp_path):
    """Whatever OpenDKIM makes of it: behind it mail of our domains has a signature of ours, or waits."""
    assert seen(tmp_path, sent, role="signed").reply == reply
    if sent.fields[0].name == b"From":
        # Who is to sign comes later.
        assert seen(tmp_path, sent, role="inside").reply is None
    free = replace(SITE, signed=frozenset(), signed_below=frozenset())
    assert seen(tmp_path, sent, role="signed", site=free).reply is None


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


INTERNATIONAL = "xn--bcher-kva.example"
# How From is written, and what the reply asks for; an empty text where it is signed.
SPELLINGS = {
    "A-labels": (f" Jo <jo@{INTERNATIONAL}>", ""),
    "capitals": (f" Jo <jo@{INTERNATIONAL.upper()}>", ""),
    "U-labels": (" Jo <jo@b\u00fccher.example>", f"write {INTERNATIONAL}"),
    "U-labels in capitals": (" jo@B\u00dcCHER.example", f"write {INTERNATIONAL}"),
    "U-labels of a sub-domain": (" jo@news.b\u00fccher.example", f"write news.{INTERNATIONAL}"),
    "U-labels, and A-labels in the name": (f' "jo@{INTERNATIONAL}" <jo@b\u00fccher.example>', f"write {INTERNATIONAL}"),
    "U-labels of the second author": (f" jo@{INTERNATIONAL}, x@b\u00fccher.example", f"write {INTERNATIONAL}"),
    "full-width letters": (" jo@\uff4furs.example", "write ours.example"),
    "ideographic full stop": (" jo@ours\u3002example", "write ours.example"),
    "soft hyphen": (" jo@ou\u00adrs.example", "write ours.example"),
    "final dot": (" Jo <jo@ours.example.>", "write ours.example"),
    "an encoded word": (" jo@=?utf-8?q?b=C3=BCcher?=.example", "no valid domain"),
    "U-labels of another's domain": (" jo@b\u00fcro.example", ""),
    "no domain": (" MAILER-DAEMON", "names no domain; write an address"),
    "no address": (" Jo <>", "names no domain; write an address"),
}


@pytest.mark.parametrize(("value", "asked"), SPELLINGS.values(), ids=SPELLINGS.keys())
def test_inside_takes_what_will_be_signed(value, asked):
    """OpenDKIM's table has A-labels: a domain of ours in other letters would leave unsigned, so the reply has the right ones."""
    site = replace(SITE, local_domains=frozenset({"ours.example", INTERNATIONAL}))
    message = Message(
        "192.0.2.1", b"x", fields=Fields([Field(b"From", value.encode()), Field(b"Sender", b" <x@ours.example>")])
    )
    reply = asyncio.run(Submission(site, INTERNAL_ID).judge(message)).reply
    if asked:
        assert reply.startswith("550 5.6.0 not signed: ")
        assert asked in reply
    else:
        assert reply is None


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


SIGNED_WELL = "v=1; a=rsa-sha256; d=b.example; s=k; h=from; bh=AAAA; b=AAAA"
UNREADABLE = {
    "no tags": "nothing",
    "a domain that is no name": SIGNED_WELL.replace("b.example", r"legitimate.com\\(.attacker.com"),
    "no domain": SIGNED_WELL.replace("d=b.example; ", ""),
    "no selector": SIGNED_WELL.replace("s=k; ", ""),
    "a tag twice": f"{SIGNED_WELL}; d=c.example",
    "another version": SIGNED_WELL.replace("v=1", "v=2"),
    "From unsigned": SIGNED_WELL.replace("h=from", "h=to"),
    "b= no base64": f"{SIGNED_WELL}!",
    "an unknown canonicalization": f"{SIGNED_WELL}; c=none/none",
    "i= of another domain": f"{SIGNED_WELL}; i=@c.example",
    "t= no number": f"{SIGNED_WELL}; t=now",
    "too long": f"{SIGNED_WELL}; z={'x' * 4096}",
}


def test_what_is_signed_anew(tmp_path):
    """A signature of ours that came with the message is removed, so that none in the end is old."""
    for domain in ("ours.example", "news.ours.example"):
        sent = Sent(ours_signed(domain.encode(), b"ours.example"))
        assert seen(tmp_path, sent, role="inside").values(b"DKIM-Signature") == []
        assert len(seen(tmp_path, sent, role="signed").values(b"DKIM-Signature")) == 1


@pytest.mark.parametrize("value", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_what_keeps_opendkim_from_signing(tmp_path, value):
    """A signature that nobody can read is removed where we are to sign, and left with others' mail."""
    extra = [Field(b"DKIM-Signature", f" {one}".encode()) for one in (SIGNED_WELL, value, SIGNED_WELL)]
    ours = seen(tmp_path, plain("ours.example", *extra), role="inside")
    assert (ours.reply, ours.values(b"DKIM-Signature")) == (None, [extra[0].value, extra[2].value])
    assert len(seen(tmp_path, plain("a.example", *extra), role="inside").values(b"DKIM-Signature")) == 3


# The program itself; its paths are the test's.
PROGRAM = """
import sys, time
from pathlib import Path
from mailstack_auth.dmarc import service
from mailstack_auth.runtime import supervisor
from mailstack_auth.submission import judges

directory = Path(sys.argv[1])
service.DEFERRALS, service.COUNTS = directory / "deferrals.json", directory / "counts.json"
service.SPF_RESULTS, service.SPF_SOCKET = directory / "results", directory / "results.sock"
service.CONFIGURATION = directory / "dmarc.json"
service.INTERNAL_ID = directory / "authserv-id"


def hangs(fields, looked_for=judges.author_domain):
    # What nobody has thought of: one call that never ends and lets nothing else work, as an endless look-up in C does.
    (value,) = [one.value for one in fields if one.name == b"From"] or [b""]
    return sum(iter(int, 1)) if b"endless" in value else looked_for(fields)


judges.author_domain, supervisor._MAX_SECONDS = hangs, float(sys.argv[2])
supervisor.main("mailstack_auth.dmarc.service", *(directory / f"{name}.sock" for name in ("outside", "inside", "signed")))
"""


@pytest.fixture
def program(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[bytes]]:
    """The running program: supervisor and worker, without a policyd-spf; how long a worker may sleep, in seconds."""
    configuration = {"hostname": OUR_ID}
    names = ("local_domains", "signed", "signed_below", "extended", "skip_networks", "skip_domains")
    lists: dict[str, list[str]] = {name: [] for name in names}
    (tmp_path / "dmarc.json").write_text(json.dumps(configuration | lists))
    (tmp_path / "authserv-id").write_text(f"{INTERNAL_ID}\n")
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(tmp_path), str(getattr(request, "param", 60))],
            stdout=log,
            stderr=log,
            env=os.environ | {"PYTHONPATH": str(Path(mailstack_auth.__file__).parents[1])},
            start_new_session=True,
        )
    yield process
    # The worker, too.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
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


def served(postfix: Postfix) -> bool:
    """Whether a message is accepted now."""
    try:
        return asyncio.run(postfix.hand_on(plain("a.example"))).reply is None
    except (ConnectionError, TimeoutError, ValueError):
        return False


def test_a_worker_that_answers_nobody_is_replaced(program, tmp_path):
    """Within seconds others are served again, and the log says what it did."""
    inside = Postfix(tmp_path / "inside.sock")
    wait_for((tmp_path / "inside.sock").is_socket, "the program does not start")
    assert asyncio.run(inside.hand_on(plain("a.example"))).reply is None
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(tmp_path / "inside.sock"))
        connection.sendall(NEGOTIATION + plain("endless.example").packets())
        log = tmp_path / "log"
        wait_for(lambda: "the worker ended with -6, starting another" in log.read_text(), "it is not replaced")
        # A connection that the worker had already accepted ends with it; Postfix defers, and the sender retries.
        wait_for(lambda: served(inside), "nobody is served")
    assert "the worker computes for 2 s and answers nobody, ending it" in log.read_text()
    assert "in hangs" in log.read_text()


def test_a_pause_of_all_is_no_fault(program, tmp_path):
    """A container or machine that was paused goes on with the worker that it had."""
    wait_for((tmp_path / "inside.sock").is_socket, "the program does not start")
    inside = Postfix(tmp_path / "inside.sock")
    wait_for(lambda: served(inside), "nobody is served")
    watch = supervisor._Watch(program.pid)
    paused = time.monotonic() + 10 * supervisor._MAX_SECONDS
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "monotonic", lambda: paused)
        assert watch.stuck() == ""


@pytest.mark.parametrize("program", [3], indirect=True)
def test_a_worker_that_is_stopped_is_replaced(program, tmp_path):
    """It takes no processor time, and answers nobody either."""
    inside = Postfix(tmp_path / "inside.sock")
    wait_for((tmp_path / "inside.sock").is_socket, "the program does not start")
    assert asyncio.run(inside.hand_on(plain("a.example"))).reply is None
    (worker,) = Path(f"/proc/{program.pid}/task/{program.pid}/children").read_text().split()
    os.kill(int(worker), signal.SIGSTOP)
    wait_for(lambda: served(inside), "nobody is served")
    assert "the worker ended with -9, starting another" in (tmp_path / "log").read_text()


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
