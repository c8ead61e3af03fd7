"""dmarc: a milter with two roles, each on a socket of its own.

For mail from outside it judges DMARC by what policyd-spf and OpenDKIM found, acts on it, and leaves one
Authentication-Results. For our own mail, before it is signed, it refuses what readers would not agree on.
"""

import asyncio
import contextlib
import json
import mmap
import secrets
import socket
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import lru_cache, partial
from pathlib import Path
from typing import Literal, cast

import spf as pyspf

from mailstack_auth import authres, names, protocol, signatures
from mailstack_auth.author import AmbiguousError, author_domain
from mailstack_auth.dmarc import RecordError, Tree, could_align
from mailstack_auth.evaluation import Result as SpfResult
from mailstack_auth.lines import Lines
from mailstack_auth.lookup import Lookups
from mailstack_auth.milter import MAX_FIELD_OCTETS, MAX_HEADER_OCTETS, Delete, Insert, Judge, Message, Session, Verdict
from mailstack_auth.serving import Serving
from mailstack_auth.shared import Reader
from mailstack_auth.signatures import Signature
from mailstack_auth.verdict import Doubt, Facts, Outcome, Site, Spf, decide

SPF_RESULTS, SPF_SOCKET = Path("/run/spf-memory/results"), Path("/run/policyd-spf/results.sock")
CONFIGURATION = Path("/etc/dmarc/dmarc.json")
# Under this authserv-id OpenDKIM writes what it finds. Nobody outside knows it.
INTERNAL_ID = Path("/run/dmarc/authserv-id")

# For everything that a verdict needs, in seconds; Postfix waits 300 (postconf(5), milter_content_timeout).
MAX_SECONDS = 60.0
DNS_SECONDS = 20.0
# The longest body that is kept for a second look at a signature, all of them together, and how many are looked at at a
# time.
MAX_BODY = 16 * 1024 * 1024
MAX_BODIES = 64 * 1024 * 1024
VERIFICATIONS = 2
GRACE_SECONDS = 25.0
# Postfix's biggest piece of a message, twice.
_INPUT_OCTETS = 128 * 1024

# What the mailbox side can file by; one that came with the mail is removed.
QUARANTINE = b"X-Mailstack-Quarantine"

# Final delivery writes it (RFC 5321 section 4.4).
RETURN_PATH = b"Return-Path"
# What must not leave with our own mail: hidden recipients, and what only a mailbox's file format needs.
HIDDEN = (b"Bcc", b"Resent-Bcc", b"Content-Length")

# RFC 3463: a local problem, not the sender's.
TROUBLE = Verdict(reply="451 4.3.0 DMARC check failed inside, try again later")


class SpfResults:
    """policyd-spf's results: where it leaves them, else over its internal socket."""

    def __init__(self, left: Path, path: Path) -> None:
        self._left = Reader(left)
        self._path = path
        self._idle: list[_Asking] = []

    async def of(self, message: Message) -> Spf:
        """What SPF says of a message. Raises OSError when policyd-spf cannot be asked, or cannot say."""
        sender = message.sender.removeprefix(b"<").removesuffix(b">")
        question = protocol.question(message.queue_id, message.client, message.helo, sender)
        return _spf(self._left.get(question) or await self._ask(question))

    async def _ask(self, request: bytes) -> bytes:
        """Ask once more where a connection breaks: it was closed while idle, or another worker goes on."""
        while self._idle:
            with contextlib.suppress(OSError):
                return await self._exchange(self._idle.pop(), request)
        with contextlib.suppress(OSError):
            return await self._exchange(await self._connected(), request)
        return await self._exchange(await self._connected(), request)

    async def _connected(self) -> "_Asking":
        _, asking = await asyncio.get_running_loop().create_unix_connection(_Asking, str(self._path))
        return asking

    async def _exchange(self, asking: "_Asking", request: bytes) -> bytes:
        answer = await asking.ask(request)
        self._idle.append(asking)
        return answer


class _Asking(asyncio.Protocol):
    """A connection to policyd-spf: a question, and a line for an answer."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._answer: asyncio.Future[bytes] | None = None
        self._received = b""

    async def ask(self, request: bytes) -> bytes:
        """One at a time. Raises ConnectionError when there is no answer; the connection is of no use then."""
        if self._transport.is_closing():
            raise ConnectionError("policyd-spf closed the connection")
        self._answer, self._received = asyncio.get_running_loop().create_future(), b""
        try:
            self._transport.write(request)
            return await self._answer
        except BaseException:
            self._transport.close()
            raise

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._received.endswith(b"\n") and self._answer and not self._answer.done():
            self._answer.set_result(self._received)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer and not self._answer.done():
            self._answer.set_exception(exc or ConnectionError("policyd-spf closed the connection"))


@lru_cache(512)
def _spf(answer: bytes) -> Spf:
    """What policyd-spf says, which it says the same way for the next message of a sender."""
    found = json.loads(answer)
    if "error" in found:
        raise OSError(f"policyd-spf: {found['error']}")
    if found["exempt"]:
        return Spf(None, None, found["exempt"])
    judged, helo, mailfrom = (
        one and _spf_result(one) for one in (found[name] for name in ("judged", "helo", "mailfrom"))
    )
    return Spf(mailfrom or helo, judged, doubtful=found["doubtful"])


def _spf_result(data: dict[str, str]) -> SpfResult:
    # What is no domain authenticates nothing; "" aligns with nothing.
    domain = names.domain(data["domain"]) or ""
    return SpfResult(data["identity"], domain, data["result"], data["reason"])  # type: ignore[arg-type]


class Dns:
    """The look-ups that DMARC needs. They raise spf.TempError when DNS gives no answer."""

    def __init__(self, lookups: Lookups) -> None:
        self._lookups = lookups

    async def texts(self, name: str) -> list[bytes]:
        try:
            return await self._lookups.texts(name, DNS_SECONDS)
        except pyspf.PermError:
            return []  # as many records as nobody has

    async def exists(self, name: str) -> bool:
        return await self._lookups.exists(name, DNS_SECONDS)


@dataclass(frozen=True)
class _Reading:
    """What a message says of itself, and OpenDKIM of its signatures; without an author, why there is none."""

    author: str | None
    # The envelope sender's domain; None for the null sender, and for what is no domain.
    sender: str | None
    signatures: tuple[Signature, ...]
    # What others wrote and nobody may take for ours.
    removals: Sequence[Delete]
    ambiguous: str = ""


class Outside:
    """Judges mail from outside."""

    max_body, max_bodies = MAX_BODY, MAX_BODIES

    def __init__(self, site: Site, internal_id: str, results: SpfResults, dns: Dns) -> None:
        self._site = site
        self._internal_id = internal_id
        self._results = results
        self._dns = dns
        self.kept = 0
        self._verifications = asyncio.Semaphore(VERIFICATIONS)
        self._counts: Counter[str] = Counter()
        self._lines = Lines()

    def needs_body(self, message: Message) -> bool:
        """Where a signature would align, but OpenDKIM has no pass for it."""
        reading = self._read(message)
        return reading.author is not None and bool(
            _candidates(reading.signatures, self._used(reading.author, reading.sender))
        )

    async def judge(self, message: Message) -> Verdict:
        """Decide. Whatever goes wrong, the message waits and is not let in unjudged."""
        try:
            # Mostly it is done at once, and no time limit was needed.
            judging = asyncio.create_task(self._judge(message))
            return judging.result() if judging.done() else await asyncio.wait_for(judging, MAX_SECONDS)
        except Exception as error:  # noqa: BLE001
            log(f"{message.queue_id}: error={error!a:.200} action=defer")
            return TROUBLE

    async def _judge(self, message: Message) -> Verdict:
        if reply := _too_long(message):
            return Verdict(reply=reply)
        reading = self._read(message)
        if reading.author is None:
            self._record(message, None, Outcome("reject", reason=reading.ambiguous))
            return Verdict(reply=f"550 5.7.1 {reading.ambiguous}")
        spf = await self._results.of(message)
        facts = await self._facts(message, reading.author, reading, spf)
        outcome = decide(facts, self._site)
        self._record(message, facts, outcome)
        if outcome.action == "discard":
            return Verdict(discard=True)
        if outcome.reply is not None:
            return Verdict(reply=outcome.reply)
        return Verdict(self._edits(message, facts, outcome))

    async def _facts(self, message: Message, author: str, reading: _Reading, spf: Spf) -> Facts:
        tree = Tree(self._dns)
        published, dmarc = None, "none"
        # What cannot be checked now, and would count.
        doubts: list[Doubt] = []
        try:
            published = await tree.published(author)
        except RecordError:
            dmarc = "permerror"
        except pyspf.TempError:
            dmarc, doubts = "temperror", [Doubt(f"the DMARC record of {author}")]
        found = reading.signatures
        wanted = _candidates(found, self._used(author, reading.sender))
        if wanted:
            found, doubtful = await self._second_look(message, found, wanted)
            doubts += doubtful
        record = published.record if published else None
        by_spf = [spf.passed] if spf.passed else []
        by_dkim = [one.domain for one in found if one.result == "pass" and one.domain]
        spf_aligned = await _aligned(tree, author, by_spf, record.aspf if record else "r", doubts)
        dkim_aligned = await _aligned(tree, author, by_dkim, record.adkim if record else "r", doubts)
        if published is not None:
            if spf_aligned or dkim_aligned:
                dmarc = "pass"
            else:
                identifier = spf.identifier
                if identifier and identifier.result == "temperror" and could_align(author, identifier.domain):
                    doubts.append(Doubt(f"SPF of {identifier.domain}"))
                dmarc = "temperror" if doubts else "fail"
        doubt = doubts[0] if doubts else None
        return Facts(
            message.client, reading.sender, author, spf, found, published, dmarc, spf_aligned, dkim_aligned, doubt
        )

    def _used(self, author: str, sender: str | None) -> list[str]:
        """The domains that a message uses, and for which a signature may make a difference."""
        local = sender and any(names.within(sender, one) for one in self._site.local_domains)
        return [author, sender] if sender and local and sender != author else [author]

    async def _second_look(
        self, message: Message, known: Sequence[Signature], wanted: Sequence[Signature]
    ) -> tuple[tuple[Signature, ...], list[Doubt]]:
        """Verify those that would align, and of which OpenDKIM says nothing good; all of them, and what is in doubt."""
        found = list(known)
        doubts: list[Doubt] = []
        for one in wanted:
            found[one.at], doubt = await self._looked_at(message, one)
            if doubt:
                doubts.append(doubt)
        return tuple(found), doubts

    async def _looked_at(self, message: Message, one: Signature) -> tuple[Signature, Doubt | None]:
        unknown = one._replace(result="temperror", reason="")
        try:
            keys = await self._dns.texts(signatures.key_name(one))
        except pyspf.TempError:
            # Whatever OpenDKIM says: it takes SERVFAIL for a key that is not there.
            return unknown, Doubt(f"the DKIM key {signatures.key_name(one)}")
        if len(keys) != 1:
            return one if one.result != "temperror" else one._replace(result="permerror", reason="no key"), None
        if message.body_missing == "no room":
            # Other messages' bodies are in the way: later it can be looked at.
            return unknown, Doubt("a DKIM signature", "other messages take all the room", "4.3.1")
        if message.body_missing == "too long":
            # What OpenDKIM says stands, unless it may not have seen the key.
            if one.result not in {"temperror", "permerror"}:
                return one, None
            return unknown, Doubt("a DKIM signature", "the message is too long", "4.3.4")
        async with self._verifications:
            body = bytes(message.body or b"")
            return await asyncio.to_thread(signatures.verify, one, message.fields, body, keys[0]), None

    def _read(self, message: Message) -> "_Reading":
        """Once for each message, when its fields are all there."""
        if not isinstance(message.reading, _Reading):
            internal, removals = _claims(message, self._site.hostname, self._internal_id)
            found = tuple(signatures.verified(signatures.of(message.fields), internal))
            author, ambiguous = None, ""
            try:
                author = author_domain(message.fields)
            except AmbiguousError as error:
                ambiguous = str(error)
            message.reading = _Reading(author, _sender_domain(message), found, removals, ambiguous)
        return message.reading

    def _edits(self, message: Message, facts: Facts, outcome: Outcome) -> tuple[Delete | Insert, ...]:
        field = Insert(authres.NAME, authres.value(self._site.hostname, _results(facts, outcome)))
        edits: list[Delete | Insert] = [*self._read(message).removals, field]
        if outcome.action == "quarantine":
            edits.append(Insert(QUARANTINE, f" DMARC policy of {facts.author}".encode("ascii")))
        return tuple(edits)

    def _record(self, message: Message, facts: Facts | None, outcome: Outcome) -> None:
        result = facts.dmarc if facts else "ambiguous"
        self._counts[result] += 1
        entry = {
            "time": int(time.time()),
            "queue_id": message.queue_id,
            "action": outcome.action,
            "reason": outcome.reason,
            "result": result,
            "count": self._counts[result],
            "source_ip": message.client,
            "envelope_from": _text(message.sender),
            "from": _text(_first(message, b"from")),
            "message_id": _text(_first(message, b"message-id")),
        }
        if facts:
            entry |= _report(facts, outcome)
        self._lines.write(json.dumps(entry), soon=outcome.action == "accept")


class Inside:
    """Looks at our own mail before it is signed; and once more behind OpenDKIM, whose results nobody else may see."""

    max_body = max_bodies = kept = 0

    def __init__(self, site: Site, internal_id: str) -> None:
        self._site = site
        self._internal_id = internal_id

    def needs_body(self, message: Message) -> bool:  # noqa: ARG002
        """Never."""
        return False

    async def judge(self, message: Message) -> Verdict:
        """Refuse what has no author that all readers agree on; remove results that claim to be ours; complete."""
        if reply := _too_long(message):
            return Verdict(reply=reply)
        try:
            author_domain(message.fields)
        except AmbiguousError as error:
            log(f"{message.queue_id}: action=reject reason={str(error)!a}")
            return Verdict(reply=f"550 5.6.0 not signed: {error}")
        # RFC 6409 section 8: a submission server may add what large receivers refuse to be without.
        added = {
            b"Date": format_datetime(datetime.now(UTC)),
            b"Message-ID": f"<{message.queue_id or secrets.token_hex(8)}.{time.time_ns()}@{self._site.hostname}>",
        }
        missing = [
            Insert(name, b" " + value.encode("ascii"))
            for name, value in added.items()
            if not message.fields.named(name.lower())
        ]
        _, removals = _claims(message, self._site.hostname, self._internal_id)
        return Verdict((*removals, *_every(message, *HIDDEN), *missing))


def _too_long(message: Message) -> str | None:
    """The reply to a message whose header Postfix or the milter did not take whole."""
    if message.cut:
        name = message.cut.decode("ascii", "backslashreplace")
        limit = f"header field {name:.60} is too long, the limit is {MAX_FIELD_OCTETS} octets"
    elif message.header_octets > MAX_HEADER_OCTETS:
        limit = f"header is too long, the limit is {MAX_HEADER_OCTETS} octets, where each field counts 450 more"
    else:
        return None
    log(f"{message.queue_id}: action=reject reason={limit!a}")
    return f"552 5.3.4 {limit}"


def _candidates(found: Sequence[Signature], used: Sequence[str]) -> list[Signature]:
    """Signatures that would align with a domain for which no pass is known."""
    wanted: dict[int, Signature] = {}
    for domain in used:
        useful = [one for one in found if one.domain and could_align(domain, one.domain)]
        if not any(one.result == "pass" for one in useful):
            wanted |= {one.at: one for one in useful}
    return list(wanted.values())[:_MAX_LOOKS]


# Enough for every honest message; each costs a look-up and a verification.
_MAX_LOOKS = 5
# Results that are written down. Of thousands, the next server would cut what comes behind them off (Postfix,
# header_size_limit), and they would push all else out of the log.
_MAX_RESULTS = 20


async def _aligned(
    tree: Tree, author: str, identifiers: Sequence[str], mode: Literal["r", "s"], doubts: list[Doubt]
) -> bool:
    """Whether one of them is aligned. Each is looked at: one whose domain gives no answer hides no other."""
    if author in identifiers:
        return True  # without a look at DNS
    for one in dict.fromkeys(identifiers):
        try:
            if await tree.aligned(author, one, mode):
                return True
        except pyspf.TempError:
            doubts.append(Doubt(f"the organisational domain of {author}"))
    return False


def _claims(message: Message, hostname: str, internal_id: str) -> tuple[list[bytes], list[Delete]]:
    """OpenDKIM's results; and what has to be removed: results that somebody might take for ours, and marks."""
    internal: list[bytes] = []
    removals: list[Delete] = []
    for one in authres.claims(message.fields):
        if one.of(internal_id):
            internal.append(one.results)
        elif not (one.disguised or one.of(hostname)):
            continue
        removals.append(Delete(authres.NAME, one.at))
    return internal, [*removals, *_every(message, QUARANTINE, RETURN_PATH)]


def _every(message: Message, *names_: bytes) -> list[Delete]:
    """Remove all fields of these names."""
    return [Delete(name, at + 1) for name in names_ for at in range(len(message.fields.named(name.lower())))]


def _results(facts: Facts, outcome: Outcome) -> list[str]:
    """The results that Authentication-Results holds."""
    spf, published = facts.spf.identifier, facts.published
    if spf is None:
        found = [authres.result("spf", "none", {}, comment=f"not judged, {facts.spf.exempt}")]
    else:
        scope = "smtp.mailfrom" if spf.identity == "mailfrom" else "smtp.helo"
        found = [authres.result("spf", spf.result, {scope: spf.domain or None})]
    for one in _reported(facts):
        shown = {"header.d": one.domain, "header.s": one.selector, "header.a": one.algorithm, "header.b": one.start[:8]}
        found.append(authres.result("dkim", one.result, shown if one.domain else {}, one.key, one.reason))
    if not facts.signatures:
        found.append(authres.result("dkim", "none", {}))
    comment = f"p={published.policy} dis={outcome.disposition}" if published else ""
    properties = {"header.from": facts.author, "policy.dmarc": published.applied if published else None}
    return [*found, authres.result("dmarc", facts.dmarc, properties, comment)]


def _report(facts: Facts, outcome: Outcome) -> dict[str, object]:
    """What an aggregate report says of a message (RFC 9990 section 3.1)."""
    spf, published = facts.spf.identifier, facts.published
    return {
        "header_from": facts.author,
        "policy_published": published
        and {
            "domain": published.record.domain,
            "p": published.record.p,
            "sp": published.record.sp,
            "np": published.record.np,
            "adkim": published.record.adkim,
            "aspf": published.record.aspf,
            "testing": "y" if published.record.testing else "n",
            "fo": published.record.fo,
            "discovery_method": "treewalk",
        },
        "rua": published.record.rua if published else "",
        "policy_evaluated": {
            "disposition": outcome.disposition,
            "dkim": "pass" if facts.dkim_aligned else "fail",
            "spf": "pass" if facts.spf_aligned else "fail",
            "override": outcome.override,
        },
        "auth_results": {
            "spf": spf and {"domain": spf.domain, "scope": _SCOPES[spf.identity], "result": spf.result},
            "dkim": [
                {"domain": one.domain, "selector": one.selector, "result": one.result, "reason": one.reason}
                for one in _reported(facts)
                if one.domain
            ],
        },
    }


_SCOPES = {"mailfrom": "mfrom", "helo": "helo"}


def _reported(facts: Facts) -> Sequence[Signature]:
    """The signatures whose results are written down; of too many those that pass, and those that could align."""
    if len(facts.signatures) <= _MAX_RESULTS:
        return facts.signatures

    def weight(one: Signature) -> tuple[bool, bool]:
        return one.result != "pass", not (one.domain and could_align(facts.author, one.domain))

    chosen = sorted(facts.signatures, key=weight)[:_MAX_RESULTS]
    return sorted(chosen, key=lambda one: one.at)


def _sender_domain(message: Message) -> str | None:
    address = message.sender.removeprefix(b"<").removesuffix(b">").decode("utf-8", "replace")
    return names.domain(address.rpartition("@")[2].removesuffix(".")) if "@" in address else None


def _first(message: Message, name: bytes) -> bytes:
    found = message.fields.named(name)
    return found[0].value if found else b""


def _text(octets: bytes) -> str:
    """What a client sent, for a line of JSON."""
    return " ".join(octets.decode("utf-8", "backslashreplace").split())[:320]


def log(text: str) -> None:
    """One event, one line."""
    sys.stdout.write(f"dmarc: {text}\n")
    sys.stdout.flush()


def work(sockets: Sequence[socket.socket], _shared: mmap.mmap) -> None:
    """Serve until TERM: mail from outside on the first socket, our own on the second one."""
    site = Site.from_json(json.loads(CONFIGURATION.read_text()))
    internal_id = INTERNAL_ID.read_text().strip()
    outside = Outside(site, internal_id, SpfResults(SPF_RESULTS, SPF_SOCKET), Dns(Lookups()))
    judges: tuple[Judge, ...] = (outside, Inside(site, internal_id))
    sessions = {sock: partial(Session, judge=judge) for sock, judge in zip(sockets, judges, strict=True)}
    Serving(log, _INPUT_OCTETS).run(sessions, GRACE_SECONDS)
