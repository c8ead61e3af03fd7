"""policyd-spf: serves the SPF policy to Postfix, and results to who writes them into headers, on two unix sockets.

A supervisor holds the sockets; one worker serves all connections in one event loop.
"""

import asyncio
import json
import mmap
import socket
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from pathlib import Path

from mailstack_auth.dns.lookup import Lookups
from mailstack_auth.runtime.cache import Cache, Latest, digest
from mailstack_auth.runtime.counts import Counts
from mailstack_auth.runtime.deferrals import Deferrals
from mailstack_auth.runtime.handover import Writer
from mailstack_auth.runtime.log import Log, event
from mailstack_auth.runtime.serving import Connection, Serving
from mailstack_auth.spf import policy_protocol, sender_domain
from mailstack_auth.spf.evaluation import Evaluator
from mailstack_auth.spf.judgement import Judgement, explain
from mailstack_auth.spf.policy import Action, Message, Policy

# Whoever may read it learns how other people's mail was judged: its directory is not Postfix's.
RESULTS = Path("/run/spf-memory/results")
CONFIGURATION = Path("/etc/policyd-spf/policy.json")
# Who waits for DNS; on a tmpfs, so that it outlives a worker and not the container.
DEFERRALS = Path("/dev/shm/deferrals.json")  # noqa: S108
COUNTS = Path("/dev/shm/counts.json")  # noqa: S108

# Postfix looks for itself, and says so as it always does.
_UNKNOWN = Action("reject_unknown_sender_domain")
# RFC 3463: a local problem, not the sender's; Postfix keeps the message out for now.
TROUBLE = Action("DEFER_IF_PERMIT", "4.3.0 SPF check failed: internal error, please retry")
_NOTHING_MORE = Action("DUNNO")
# How long after its last recipient a message is remembered, in seconds: Postfix waits 300 for a client's next command
# (postconf(5), smtpd_timeout). And how many: an evaluation that was forgotten is made again, a header would be doubled.
REMEMBERED_SECONDS = 600.0
MAX_EVALUATIONS = 1024
MAX_MESSAGES = 8192
# Longer than an answer takes (SPF, forwarders' domains, the sender's domain), shorter than compose's stop_grace_period.
GRACE_SECONDS = 30.0

log = partial(event, "policyd-spf")

# Hands octets to the peer; False if it has gone.
Send = Callable[[bytes], bool]


class Server:
    """What all connections share."""

    def __init__(
        self,
        policy: Policy,
        evaluator: Evaluator,
        headers: Latest,
        left: Writer | None,
        *,
        lookups: Lookups,
        deferrals: Deferrals,
        counts: Counts,
    ) -> None:
        """Headers are those of earlier workers, too: what they began, Postfix goes on with here.

        Results are left for those who would ask on the internal socket next.
        """
        self._policy = policy
        self._evaluator = evaluator
        self._lookups = lookups
        # One evaluation for a message, whoever asks and how often.
        self._judgements: Cache[tuple[str, str], Judgement | asyncio.Task[Judgement]] = Cache(MAX_EVALUATIONS)
        # What the next recipients of a message are answered, by Postfix's "instance" attribute, so that they get one
        # header between them.
        self._repeats: Cache[bytes, Action] = Cache(MAX_MESSAGES)
        self._headers = headers
        self._left = left
        self._deferrals = deferrals
        self._counts = counts
        self._log = Log()
        for one in headers:
            self._repeats.put(one, _NOTHING_MORE, REMEMBERED_SECONDS)

    async def action(self, request: dict[str, str], send: Send) -> None:
        """Reply to Postfix; whatever goes wrong, the message waits and is not let in unjudged."""
        message = digest(request["instance"]) if request.get("instance") else b""
        action = self._repeats.get(message) or await self._decide(request)
        if not message or action == TROUBLE:
            send(policy_protocol.reply(str(action)))
            return
        # Two recipients at once: the other one may have been answered meanwhile.
        action = self._repeats.get(message) or action
        # Sent first, then remembered, and nothing awaited in between. Postfix asks again for the same instance when a
        # connection breaks before the reply (postconf(5), smtpd_policy_service_try_limit): a header remembered and not
        # sent would be missing for all recipients, one sent and not remembered is doubled if there is another.
        if not send(policy_protocol.reply(str(action))):
            return
        if action.verb == "PREPEND":
            self._headers.add(message)
            action = _NOTHING_MORE
        self._repeats.put(message, action, REMEMBERED_SECONDS)

    async def _decide(self, request: dict[str, str]) -> Action:
        if request.get("request") == "healthcheck":
            # A question that takes the whole way, apart from DNS: with an empty label it is no name.
            await self._evaluator.evaluate("192.0.2.1", "health..check", "")
            return Action("OK")
        try:
            message = Message.of(request)
            judgement = await self._judge(message)
            waited = partial(self._deferrals.over, message.client, message.domain or message.helo)
            action = self._policy.action(judgement, message, waited=waited)
            if action.goes_on and not await self._answerable(message, judgement):
                action = _UNKNOWN
            if self._left and message.queue_id:
                self._left.put(message.question, judgement.line())
        except Exception as error:  # noqa: BLE001
            log(f"queue_id={request.get('queue_id', '')!a:.40} error={error!a:.200} action=DEFER_IF_PERMIT")
            self._counts.add("defer", "internal error")
            return TROUBLE
        line, usual = decision(message, judgement, action), action.goes_on
        if not usual:
            if action == _UNKNOWN:
                self._counts.add(self._policy.unknown_sender_domain, "sender domain")
            else:
                self._counts.add("defer" if action.verb == "DEFER_IF_PERMIT" else "reject", "SPF")
        self._log.write(f"policyd-spf: {line}", soon=usual)
        return action

    async def _answerable(self, message: Message, judgement: Judgement) -> bool:
        """Whether the sender's domain can be answered, or need not be."""
        policy, domain, found = self._policy, message.domain, judgement.evaluation
        if policy.unknown_sender_domain == "accept" or judgement.exempt in {"authenticated", "trusted"}:
            return True
        if not domain or domain in policy.domains or domain[0] == "[":
            return True
        if found and found.mailfrom and found.mailfrom.result == "temperror":
            # Its DNS gives no answer.
            return True
        return await sender_domain.answerable(self._lookups, domain)

    async def results(self, request: dict[str, str], send: Send) -> None:
        """Answer on the internal socket."""
        try:
            found = (await self._judge(Message.of(request))).line()
        except Exception as error:  # noqa: BLE001
            found = json.dumps({"error": f"{error!a:.200}"}).encode("ascii") + b"\n"
        send(found)

    async def _judge(self, message: Message) -> Judgement:
        found = self._judgements.get(message.key)
        if found is None:
            found = self._policy.known(message, self._evaluator)
            if found is None:
                found = asyncio.create_task(self._policy.judge(message, self._evaluator))
            if message.queue_id:
                self._judgements.put(message.key, found, REMEMBERED_SECONDS)
        if isinstance(found, Judgement):
            return found
        try:
            # A connection that goes away leaves the evaluation to the others.
            return await asyncio.shield(found)
        except Exception:
            self._judgements.forget(message.key)
            raise


class Session:
    """The server's side of a connection."""

    def __init__(self, answer: Callable[[dict[str, str], Send], Awaitable[None]], connection: Connection) -> None:
        self._answer = answer
        self._connection = connection

    def take(self, waiting: bytearray) -> Coroutine[object, None, None] | None:
        """Answer the next request, if it has come."""
        request = policy_protocol.request(waiting)
        if request is None:
            return None
        self._connection.begin()
        return self._take(request)

    async def _take(self, request: dict[str, str]) -> None:
        await self._answer(request, self._connection.send)
        self._connection.end()

    def gone(self) -> None:
        """Nothing is kept."""


def decision(message: Message, judgement: Judgement, action: Action) -> str:
    """A decision as a line of the log. What a client sent comes in through ascii()."""
    start = f"{message.queue_id or 'NOQUEUE'}: client={message.client}"
    judged, end = judgement.judged, f"action={action.verb}"
    if judged is None:
        return f"{start} identity=none domain='' result={judgement.exempt} {end}"
    line = f"{start} identity={judged.identity} domain={judged.domain!a:.300} result={judged.result} {end}"
    return f"{line} reason={explain(judged)!a}" if judged.result in {"temperror", "permerror"} else line


def work(sockets: Sequence[socket.socket], shared: mmap.mmap) -> None:
    """Serve until TERM: Postfix on the first socket, those who want results on the second one."""
    policy = Policy.from_json(json.loads(CONFIGURATION.read_text()))
    try:
        left = Writer(RESULTS)
    except OSError as error:
        log(f"cannot write results to shared memory; dmarc uses the socket instead: {error}")
        left = None
    deferrals = Deferrals(DEFERRALS, policy.hours * 3600)
    lookups, counts = Lookups(), Counts(COUNTS, log)
    server = Server(
        policy, Evaluator(lookups), Latest(shared), left, lookups=lookups, deferrals=deferrals, counts=counts
    )
    sessions = (partial(Session, server.action), partial(Session, server.results))
    Serving(log, policy_protocol.MAX_REQUEST).run(dict(zip(sockets, sessions, strict=True)), GRACE_SECONDS)
