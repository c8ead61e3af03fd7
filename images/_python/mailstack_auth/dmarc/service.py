"""dmarc: a milter with two roles, each on a socket of its own.

For mail from outside it judges DMARC by what policyd-spf and OpenDKIM found, acts on it, and leaves one
Authentication-Results. For our own mail, before it is signed, it refuses what readers would not agree on.
"""

import asyncio
import contextlib
import itertools
import json
import mmap
import secrets
import socket
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import lru_cache, partial
from pathlib import Path
from typing import Literal, cast

import spf as pyspf

from mailstack_auth import names
from mailstack_auth.dkim import signatures
from mailstack_auth.dkim.signatures import Signature
from mailstack_auth.dkim.verification import Body, Finding, Verifier, fault
from mailstack_auth.dmarc.discovery import Published, RecordError, Tree
from mailstack_auth.dmarc.verdict import Doubt, Facts, Outcome, Site, Spf, decide, given_up
from mailstack_auth.dns.lookup import Lookups
from mailstack_auth.header import authres
from mailstack_auth.header.author import AmbiguousError, as_in_dns, author_domain
from mailstack_auth.header.fields import Fields
from mailstack_auth.milter.message import (
    MAX_FIELD_OCTETS,
    MAX_HEADER_OCTETS,
    Delete,
    Edit,
    Insert,
    Judge,
    Message,
    Readdress,
    Verdict,
)
from mailstack_auth.milter.session import Session
from mailstack_auth.runtime.counts import Counts
from mailstack_auth.runtime.deferrals import Deferrals
from mailstack_auth.runtime.handover import Reader
from mailstack_auth.runtime.log import Lines
from mailstack_auth.runtime.serving import Serving
from mailstack_auth.spf import policy_protocol
from mailstack_auth.spf.evaluation import Result as SpfResult

SPF_RESULTS, SPF_SOCKET = Path("/run/spf-memory/results"), Path("/run/policyd-spf/results.sock")
CONFIGURATION = Path("/etc/dmarc/dmarc.json")
# Under this authserv-id OpenDKIM writes what it finds. Nobody outside knows it.
INTERNAL_ID = Path("/run/dmarc/authserv-id")
# Who waits for DNS; on a tmpfs, so that it outlives a worker and not the container.
DEFERRALS = Path("/run/dmarc/deferrals.json")
COUNTS = Path("/run/dmarc/counts.json")

# For everything that a verdict needs, and for DNS in it, in seconds; Postfix waits 300 (postconf(5),
# milter_content_timeout). Where the identifiers decide, DNS is asked for what is written down alone.
MAX_SECONDS = 60.0
DNS_SECONDS = 20.0
DECIDED_SECONDS = 1.0
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
TROUBLE = Verdict(reply="451 4.3.0 DMARC check failed: internal error, please retry")


class SpfResults:
    """policyd-spf's results: where it leaves them, else over its internal socket."""

    def __init__(self, left: Path, path: Path) -> None:
        self._left = Reader(left)
        self._path = path
        self._idle: list[_Asking] = []

    async def of(self, message: Message) -> Spf:
        """What SPF says of a message. Raises OSError when policyd-spf cannot be asked, or cannot say."""
        sender = message.sender.removeprefix(b"<").removesuffix(b">")
        question = policy_protocol.question(message.queue_id, message.client, message.helo, sender)
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
    """The lookups that one message needs, until a deadline. They raise spf.TempError when DNS does not answer."""

    def __init__(self, lookups: Lookups, seconds: float = DNS_SECONDS) -> None:
        self._lookups = lookups
        self.allow(seconds)

    def allow(self, seconds: float) -> None:
        """Let what is asked from now on take so long, all together."""
        self._deadline = asyncio.get_running_loop().time() + seconds

    @property
    def _seconds(self) -> float:
        return self._deadline - asyncio.get_running_loop().time()

    async def texts(self, name: str) -> list[bytes]:
        try:
            return await self._lookups.texts(name, self._seconds)
        except pyspf.PermError:
            return []  # as many records as nobody has

    async def exists(self, name: str) -> bool:
        return await self._lookups.exists(name, self._seconds)


@dataclass(frozen=True)
class _Reading:
    """What a message says of itself, and OpenDKIM of its signatures."""

    # None: From claims no domain.
    author: str | None
    # The envelope sender's domain; None for the null sender, and for what is no domain.
    sender: str | None
    signatures: tuple[Signature, ...]
    # What others wrote and nobody may take for ours.
    removals: Sequence[Delete]
    # Why there is no author that all readers agree on; empty if there is.
    ambiguous: str = ""


class Outside:
    """Judges mail from outside."""

    def __init__(
        self,
        site: Site,
        internal_id: str,
        results: SpfResults,
        lookups: Lookups,
        *,
        deferrals: Deferrals,
        counts: Counts,
    ) -> None:
        self._site = site
        self._internal_id = internal_id
        self._results = results
        self._lookups = lookups
        self._deferrals = deferrals
        self._not_accepted = counts
        self._counts: Counter[str] = Counter()
        self._lines = Lines()

    def body(self, message: Message) -> Body | None:
        """Its hashes, where a signature may have to be verified here."""
        reading = self._read(message)
        # Which ones will be verified depends on SPF too; the ways to hash a body are two.
        wanted = self._wanted(reading, _passes(reading.signatures))
        return _body(message, [one for one in reading.signatures if one.open]) if wanted else None

    async def judge(self, message: Message) -> Verdict:
        """Decide. Whatever goes wrong, the message waits and is not let in unjudged."""
        try:
            # Mostly it is done at once, and no time limit was needed.
            judging = asyncio.create_task(self._judge(message))
            return judging.result() if judging.done() else await asyncio.wait_for(judging, MAX_SECONDS)
        except Exception as error:  # noqa: BLE001
            log(f"{message.queue_id}: error={error!a:.200} action=defer")
            self._not_accepted.add("defer", "internal error")
            return TROUBLE

    async def _judge(self, message: Message) -> Verdict:
        if reply := _too_long(message):
            self._not_accepted.add("reject", "header")
            return Verdict(reply=reply)
        reading = self._read(message)
        if reading.ambiguous:
            self._record(message, None, Outcome("reject", reason=reading.ambiguous, rule="author"))
            return Verdict(reply=f"550 5.7.1 {reading.ambiguous}")
        facts = await self._facts(message, reading, await self._results.of(message))
        outcome = decide(facts, self._site)
        if outcome.action == "defer" and self._deferrals.over(facts.client, facts.author or ""):
            outcome = given_up(outcome, self._site)
        self._record(message, facts, outcome)
        if outcome.action == "discard":
            return Verdict(discard=True)
        if outcome.reply is not None:
            return Verdict(reply=outcome.reply)
        return Verdict(self._edits(message, facts, outcome))

    async def _facts(self, message: Message, reading: _Reading, spf: Spf) -> Facts:
        passes = {*_passes(reading.signatures), *filter(None, [spf.passed])}
        wanted = self._wanted(reading, passes)
        found, author, doubts = reading.signatures, reading.author, list[Doubt]()
        seconds = DECIDED_SECONDS if author is None or author in passes else DNS_SECONDS
        dns = Dns(self._lookups, seconds)
        tree = Tree(dns)
        policy: Awaitable[_Policy] = _policy(tree, author)
        if wanted:
            policy = asyncio.ensure_future(policy)
            found, doubts = await self._verified(message, reading, passes)
            if author in _passes(found):
                seconds = DECIDED_SECONDS
                policy = _soon(policy)
        published, dmarc = await policy
        identifier = spf.identifier
        if identifier and identifier.result == "temperror":
            doubts.append(Doubt(f"SPF record of {identifier.domain}", identifier.domain, by="spf"))
        facts = Facts(message.client, reading.sender, author, spf, found, published, dmarc, doubts=tuple(doubts))
        if author is None:
            return facts
        dns.allow(seconds)
        return await _aligned(facts, tree, author)

    def _wanted(self, reading: _Reading, passes: Collection[str]) -> list[Signature]:
        """The signatures to verify here: those that could matter beside the domains that have a pass."""
        found = [one for one in reading.signatures if one.open]
        if not found or reading.ambiguous:
            return []
        author = reading.author or ""
        special = [*self._site.skip_domains, *self._site.ours(author), *self._site.ours(reading.sender)]
        special = [one for one in special if not any(names.within(passed, one) for passed in passes)]

        def matters(domain: str) -> bool:
            # Without any pass each one would tell who handed the message on. No organization has two top-level domains.
            aligned = author not in passes and _top(author) == _top(domain)
            return not passes or aligned or any(names.within(domain, one) for one in special)

        def urgency(one: Signature) -> tuple[bool, tuple[bool, int]]:
            named = any(names.within(one.domain or "", special_one) for special_one in special)
            return not named, _distance(one.domain or "", author)

        # Of too many those of domains that the site names, and what is nearest to the author.
        return sorted((one for one in found if matters(one.domain or "")), key=urgency)[:_MAX_LOOKS]

    async def _verified(
        self, message: Message, reading: _Reading, passes: Collection[str]
    ) -> tuple[tuple[Signature, ...], list[Doubt]]:
        """The signatures, those that are wanted verified here; and whose keys could not be looked up.

        What is no longer wanted beside a pass is not waited for.
        """
        wanted = self._wanted(reading, passes)
        dns, found, doubts = Dns(self._lookups), list(reading.signatures), list[Doubt]()
        body = message.body if isinstance(message.body, Body) else _body(message, wanted)
        verifier, fields = Verifier(message.fields, body), signatures.fields(message.fields)
        asking = {asyncio.ensure_future(_key(dns, one)): one for one in wanted}
        while asking:
            answered, _ = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
            for task in answered:
                # With many messages at once each verification lets others have their turn.
                await asyncio.sleep(0)
                one, keys = asking.pop(task), task.result()
                hopeless = fault(fields[one.at].value) if keys is None else None
                if hopeless:
                    found[one.at] = one.found(hopeless)
                elif keys is None:
                    # Whatever OpenDKIM says: it takes SERVFAIL for a key that does not exist.
                    found[one.at] = one.found(Finding("temperror"))
                    doubts.append(Doubt(f"DKIM key {signatures.key_name(one)}", one.domain or ""))
                elif len(keys) == 1:
                    found[one.at] = one.found(verifier.verify(fields[one.at], keys[0]))
                elif one.result == "temperror":
                    found[one.at] = one.found(Finding("permerror", "more than one key" if keys else "no key"))
            still = self._wanted(reading, {*passes, *_passes(found)})
            for task in [task for task, one in asking.items() if one not in still]:
                task.cancel()
                del asking[task]
        return tuple(found), doubts

    def _read(self, message: Message) -> _Reading:
        """Once for each message, when its fields are all there."""
        if not isinstance(message.reading, _Reading):
            internal, removals = _claims(message, self._site.hostname, self._internal_id)
            found = tuple(signatures.verified(signatures.of(message.fields), internal))
            author, ambiguous = None, ""
            try:
                author = author_domain(message.fields)
                if author is None and message.sender != b"<>":
                    ambiguous = 'From names no domain; write an address: "Doe, Jane" <jane@domain.example>'
            except AmbiguousError as error:
                ambiguous = str(error)
            message.reading = _Reading(author, _sender_domain(message), found, removals, ambiguous)
        return message.reading

    def _edits(self, message: Message, facts: Facts, outcome: Outcome) -> tuple[Edit, ...]:
        field = Insert(authres.NAME, authres.value(self._site.hostname, _results(facts, outcome)))
        edits: list[Edit] = [*self._read(message).removals, field]
        if outcome.action == "quarantine":
            edits.append(Insert(QUARANTINE, f" {outcome.reason}".encode("ascii")))
            if self._site.junk:
                edits += [Readdress(one, _in_junk(one, self._site)) for one in dict.fromkeys(message.recipients)]
        return tuple(edits)

    def _record(self, message: Message, facts: Facts | None, outcome: Outcome) -> None:
        result = facts.dmarc if facts else "ambiguous"
        self._counts[result] += 1
        if outcome.action != "accept":
            self._not_accepted.add(outcome.action, outcome.rule)
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

    def __init__(self, site: Site, internal_id: str) -> None:
        self._site = site
        self._internal_id = internal_id

    def body(self, message: Message) -> None:
        """Nobody needs it."""

    async def judge(self, message: Message) -> Verdict:
        """Refuse what has no author that all readers agree on; remove results that claim to be ours; complete."""
        if reply := _too_long(message):
            return Verdict(reply=reply)
        try:
            self._check_author(message.fields)
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
        return Verdict((*removals, *_every(message, *HIDDEN), *self._useless(message), *missing))

    def _useless(self, message: Message) -> list[Delete]:
        """Signatures that keep OpenDKIM from signing, and those that ours replaces."""
        signers = self._signers(message)
        return [Delete(b"DKIM-Signature", at + 1) for at in signatures.useless(message.fields, signers)]

    def _signers(self, message: Message) -> set[str]:
        """The domains of which one signs for the author; none for others' mail."""
        author, *parents = names.and_parents(author_domain(message.fields) or "")
        return {author} & self._site.signed | set(parents) & self._site.signed_below

    def _check_author(self, fields: Fields) -> None:
        """See that there is an author, and one that OpenDKIM finds in its table. Raises AmbiguousError."""
        author = author_domain(fields)
        if author is None:
            raise AmbiguousError('From names no domain; write an address: "Doe, Jane" <jane@domain.example>')
        if self._site.ours(author) and not as_in_dns(fields):
            raise AmbiguousError(f"the domain in From is not written as in DNS; write {author}")


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


class Signed(Inside):
    """Looks at our own mail behind OpenDKIM: nobody else sees what that found, and nothing leaves unsigned."""

    async def judge(self, message: Message) -> Verdict:
        """Let a message wait that lacks its signature; else as before."""
        verdict = await super().judge(message)
        if verdict.reply is None and self._unsigned(message):
            log(f"{message.queue_id}: action=defer reason='OpenDKIM has not signed it'")
            return Verdict(reply="451 4.7.0 not signed: the DKIM signer failed, please retry")
        return verdict

    def _useless(self, _message: Message) -> list[Delete]:
        """None: the first look has removed them."""
        return []

    def _unsigned(self, message: Message) -> bool:
        signers = self._signers(message)
        return bool(signers) and not signers & {one.domain for one in signatures.of(message.fields)}


# Enough for every honest message; each costs a lookup and a verification.
_MAX_LOOKS = 20
# Results that are written down. Of thousands, the next server would cut what comes behind them off (Postfix,
# header_size_limit), and they would push all else out of the log.
_MAX_RESULTS = 20


def _passes(found: Iterable[Signature]) -> set[str]:
    return {one.domain for one in found if one.result == "pass" and one.domain}


def _top(domain: str) -> str:
    return domain.rpartition(".")[2]


def _distance(one: str, other: str) -> tuple[bool, int]:
    """How far two names are apart: the same one first, then those with more labels in common at their ends."""
    pairs = zip(reversed(one.split(".")), reversed(other.split(".")), strict=False)
    return one != other, -sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def _body(message: Message, wanted: Iterable[Signature]) -> Body:
    fields = signatures.fields(message.fields)
    return Body(fields[one.at].value for one in wanted)


async def _key(dns: Dns, signature: Signature) -> list[bytes] | None:
    """The key records; None when DNS does not answer."""
    try:
        return await dns.texts(signatures.key_name(signature))
    except pyspf.TempError:
        return None


# The record that applies, and DMARC's result as far as it goes by that; empty where alignment decides.
_Policy = tuple[Published | None, str]


async def _soon(policy: Awaitable[_Policy]) -> _Policy:
    """What is known in a moment."""
    try:
        return await asyncio.wait_for(policy, DECIDED_SECONDS)
    except TimeoutError:
        return None, "temperror"


async def _policy(tree: Tree, author: str | None) -> _Policy:
    if author is None:
        return None, "none"
    try:
        published = await tree.published(author)
    except RecordError:
        return None, "permerror"
    except pyspf.TempError:
        return None, "temperror"
    return published, "" if published else "none"


async def _aligned(facts: Facts, tree: Tree, author: str) -> Facts:
    """With what is aligned with the author domain, and DMARC's result."""
    record = facts.published.record if facts.published else None
    modes = {"spf": record.aspf if record else "r", "dkim": record.adkim if record else "r"}
    spf_passes, dkim_passes = set(filter(None, [facts.spf.passed])), _passes(facts.signatures)
    by_spf, doubt = await _any_aligned(tree, author, spf_passes, modes["spf"])
    by_dkim, other = await _any_aligned(tree, author, dkim_passes, modes["dkim"])
    doubt, dmarc = doubt or other, facts.dmarc
    if not (by_spf or by_dkim):
        for one in facts.doubts:
            would, unknown = await _any_aligned(tree, author, {one.domain}, modes[one.by])
            doubt = doubt or unknown or (one if would else None)
    if dmarc == "temperror":
        # A pass of the author's own domain aligns under every record.
        decided = author in spf_passes | dkim_passes
        dmarc, doubt = ("pass", None) if decided else (dmarc, Doubt(f"DMARC record of {author}"))
    elif not dmarc:
        dmarc = "pass" if by_spf or by_dkim else "temperror" if doubt else "fail"
    return facts._replace(dmarc=dmarc, spf_aligned=by_spf, dkim_aligned=by_dkim, doubt=doubt)


async def _any_aligned(
    tree: Tree, author: str, identifiers: Collection[str], mode: Literal["r", "s"]
) -> tuple[bool, Doubt | None]:
    """Whether one of them is aligned. Each is looked at: one whose domain DNS does not answer for hides no other."""
    if author in identifiers:
        return True, None  # without a lookup
    doubt = None
    for one in identifiers:
        try:
            if await tree.aligned(author, one, mode):
                return True, None
        except pyspf.TempError:
            doubt = Doubt(f"the organizational domain of {author}", one)
    return False, doubt


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

    def weight(one: Signature) -> tuple[bool, tuple[bool, int]]:
        return one.result != "pass", _distance(one.domain or "", facts.author or "")

    chosen = sorted(facts.signatures, key=weight)[:_MAX_RESULTS]
    return sorted(chosen, key=lambda one: one.at)


def _in_junk(recipient: bytes, site: Site) -> bytes:
    """The address of a recipient's Junk: with an extension of its own (postconf(5), recipient_delimiter)."""
    # A postmaster may have no domain (RFC 5321 section 4.5.1).
    local, _, domain = recipient.removeprefix(b"<").removesuffix(b">").partition(b"@")
    domain = domain or site.hostname.encode()
    if f"{local.decode('latin-1')}@{domain.decode('latin-1')}".lower() not in site.extended:
        local = local.partition(b"+")[0]
    # Of existing addresses none needs its quotes.
    return b"<" + local.strip(b'"') + b"+quarantine@" + domain + b">"


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
    """Serve until TERM: mail from outside on the first socket, our own on the second one, and signed on the third."""
    site = Site.from_json(json.loads(CONFIGURATION.read_text()))
    internal_id = INTERNAL_ID.read_text().strip()
    deferrals = Deferrals(DEFERRALS, site.dns_hours * 3600)
    results = SpfResults(SPF_RESULTS, SPF_SOCKET)
    counts = Counts(COUNTS, log)
    outside = Outside(site, internal_id, results, Lookups(), deferrals=deferrals, counts=counts)
    judges: tuple[Judge, ...] = (outside, Inside(site, internal_id), Signed(site, internal_id))
    sessions = {sock: partial(Session, judge=judge) for sock, judge in zip(sockets, judges, strict=True)}
    Serving(log, _INPUT_OCTETS).run(sessions, GRACE_SECONDS)
