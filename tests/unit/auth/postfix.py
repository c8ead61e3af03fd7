"""Postfix's side of the milter protocol, and judges that run; policyd-spf's results and the look-ups are the real ones."""

import asyncio
import contextlib
import mmap
import struct
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import authres as reader

from bench import dns_answers
from mailstack_auth.dkim import signatures
from mailstack_auth.dkim.verification import Body
from mailstack_auth.dmarc import inbound
from mailstack_auth.dmarc.inbound import Inbound
from mailstack_auth.dns import wire
from mailstack_auth.header import authres
from mailstack_auth.header.fields import Field, Fields
from mailstack_auth.milter.message import MAX_HEADER_OCTETS, Message
from mailstack_auth.milter.session import Session as MilterSession
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
from mailstack_auth.submission.limits import Limits
from unit.auth.test_milter import END, NEGOTIATION, connect, header, macros, packet, replies
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
    # Each as the client wrote it, or with what Postfix understands.
    recipients: tuple[bytes | tuple[bytes, bytes], ...] = ()
    queue_id: bytes = b""
    # By which the client is logged in.
    user: bytes = b""

    def packets(self) -> bytes:
        family = b"6" if ":" in self.client else b"4"
        return b"".join(
            [
                connect(self.client.encode(), family),
                packet(b"H", self.helo + b"\0"),
                macros(b"M", **{"i": self.queue_id, "{auth_authen}": self.user, "{mail_addr}": self.sender}),
                packet(b"M", b"<" + self.sender + b">\0"),
                *(self._recipient(one) for one in self.recipients),
                *(header(one.name, one.value) for one in self.fields),
                packet(b"N"),
                # As long as Postfix makes them (MILTER_CHUNK_SIZE).
                *(packet(b"B", self.body[at : at + 65535]) for at in range(0, len(self.body), 65535)),
                END,
            ]
        )

    @staticmethod
    def _recipient(one: bytes | tuple[bytes, bytes]) -> bytes:
        written, address = one if isinstance(one, tuple) else (one, one)
        return macros(b"R", **{"{rcpt_addr}": address}) + packet(b"R", b"<" + written + b">\0")


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
        await close(sink)
        return found


async def close(sink: asyncio.StreamWriter) -> None:
    sink.close()
    with contextlib.suppress(ConnectionError):
        await sink.wait_closed()


def break_idle(spf: SpfResults) -> None:
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
            "signed": partial(MilterSession, judge=Signed(site, INTERNAL_ID, Limits(0, 0, 1))),
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
        break_idle(spf)
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
NOT_SHOWN = "550 5.7.26 DMARC: rejected by policy of a.example (neither SPF nor DKIM passes with an aligned domain)"
NO_ANSWER = "451 4.4.3 DNS lookup of {} failed, please retry"

MARK = Field(b"X-Mailstack-Quarantine", b" DMARC policy of x.example")
# Fields of 50,000 octets, more than may be.
TOO_MANY = MAX_HEADER_OCTETS // 50_000 + 1

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


TROUBLE = "451 4.3.0 DMARC check failed: internal error, please retry"
