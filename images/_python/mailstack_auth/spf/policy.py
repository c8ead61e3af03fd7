"""The site's policy: who is judged at all, and what is done about each result."""

import asyncio
import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import spf as pyspf

from mailstack_auth import names
from mailstack_auth.spf import policy_protocol, received_spf
from mailstack_auth.spf.evaluation import Evaluator, Result
from mailstack_auth.spf.judgement import Exemption, Judgement, explain


class RequestError(Exception):
    """The request says too little to be judged by, which says nothing about the message."""


class Message(NamedTuple):
    """What SPF needs to know of a message. Values are the client's, so anything may stand in them."""

    queue_id: str
    client: str
    helo: str
    sender: str
    user: str

    @property
    def key(self) -> tuple[str, str]:
        """What is the same whoever asks about a message.

        A queue id is used once (postconf(5), enable_long_queue_ids), and HELO, sender and user cannot change under it.
        A milter is given them as they were sent, a policy service with "?" for some characters and without quotes.
        """
        return self.queue_id, self.client

    @property
    def domain(self) -> str:
        """The envelope sender's, as DNS has it; empty for the null sender."""
        return self.sender.rpartition("@")[2].lower().removesuffix(".")

    @property
    def question(self) -> bytes:
        """How somebody asks about it who knows of no user."""
        helo, sender = (one.encode("utf-8", "surrogateescape") for one in (self.helo, self.sender))
        return policy_protocol.question(self.queue_id, self.client, helo, sender)

    @classmethod
    def of(cls, request: Mapping[str, str]) -> "Message":
        """From the attributes of a policy request. Raises RequestError."""
        text = request.get("client_address", "")
        try:
            client = names.canonical(text)
        except ValueError:
            raise RequestError(f"no client address: {text!a:.100}") from None
        queue_id = request.get("queue_id", "")
        return cls(
            queue_id if queue_id.isascii() and queue_id.isalnum() else "",
            client,
            request.get("helo_name", ""),
            request.get("sender", ""),
            request.get("sasl_username", ""),
        )


class Action(NamedTuple):
    """What Postfix is told (access(5))."""

    verb: str
    text: str = ""

    @property
    def goes_on(self) -> bool:
        """Whether Postfix goes on with the message."""
        return self.verb in {"DUNNO", "PREPEND"}

    def __str__(self) -> str:
        return f"{self.verb} {self.text}" if self.text else self.verb


class Refusal(NamedTuple):
    """Why a message is not taken, for good or for now, with the status code of RFC 7372 section 3.2."""

    final: bool
    status: str
    reason: str

    @property
    def action(self) -> Action:
        return Action("550" if self.final else "DEFER_IF_PERMIT", f"{self.status} {self.reason}")


@dataclass(frozen=True)
class Policy:
    """The site's settings."""

    hostname: str
    actions: Mapping[str, str]
    trusted_networks: tuple[names.Network, ...] = ()
    skip_networks: tuple[names.Network, ...] = ()
    skip_domains: tuple[str, ...] = ()
    # The site's own, and whether SPF's fail for one of them, or a sub-domain, is no reason to refuse at RCPT.
    domains: frozenset[str] = frozenset()
    judged_late: bool = False
    # What Postfix does where the sender's domain cannot be answered: "defer", "reject" or "accept".
    unknown_sender_domain: str = "defer"
    # How long DNS may make a message wait.
    hours: int = 4

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Policy":
        return cls(
            hostname=data["hostname"],
            actions=data["actions"],
            trusted_networks=tuple(ipaddress.ip_network(one) for one in data["trusted_networks"]),
            skip_networks=tuple(ipaddress.ip_network(one) for one in data["skip_networks"]),
            skip_domains=tuple(data["skip_domains"]),
            domains=frozenset(data["domains"]),
            judged_late=data["judged_late"],
            unknown_sender_domain=data["unknown_sender_domain"],
            hours=data["hours"],
        )

    def exemption(self, message: Message) -> Exemption | None:
        """Why a message is not judged, as far as that is known without DNS; even if Postfix should ask about it."""
        address = names.address(message.client)
        if message.user:
            return "authenticated"
        if any(address in one for one in self.trusted_networks):
            return "trusted"
        if any(address in one for one in self.skip_networks):
            return "forwarder"
        return None

    def known(self, message: Message, evaluator: Evaluator) -> Judgement | None:
        """A judgement that takes no look at DNS; None where judge() has to be asked."""
        exempt = self.exemption(message)
        if exempt:
            return Judgement(exempt=exempt)
        evaluation = evaluator.known(message.client, message.helo, message.sender)
        if evaluation and (evaluation.judged.result == "pass" or not self.skip_domains):
            return Judgement(evaluation)
        return None

    async def judge(self, message: Message, evaluator: Evaluator) -> Judgement:
        """Evaluate a message that is not exempt. Forwarders' domains are looked at only where it makes a difference."""
        evaluation = await evaluator.evaluate(message.client, message.helo, message.sender)
        if evaluation.judged.result == "pass" or not self.skip_domains:
            return Judgement(evaluation)
        answers = await asyncio.gather(
            *(evaluator.authorises(domain, message.client) for domain in self.skip_domains), return_exceptions=True
        )
        if True in answers:
            return Judgement(exempt="forwarder")
        for one in answers:
            if isinstance(one, BaseException) and not isinstance(one, pyspf.TempError):
                raise one
        return Judgement(evaluation, doubtful=any(answers))

    def action(self, judgement: Judgement, message: Message, *, waited: Callable[[], bool] = lambda: False) -> Action:
        """What Postfix is to do; waited() says whether a message to be deferred has waited long enough."""
        judged = judgement.judged
        if judged is None:
            if judgement.exempt == "forwarder":
                skipped = f"{self.hostname} does not check SPF of mail from the forwarder {message.client}"
                return Action("PREPEND", f"X-SPF-Skipped: {skipped}")
            return Action("DUNNO")
        if self.actions.get(judged.result, "tag") != "tag" and not self._late(judged):
            refused = refusal(judged, message.client, doubtful=judgement.doubtful)
            if refused.final or not waited():
                return refused.action
        header = received_spf.field(judged, message.client, message.helo, message.sender, self.hostname)
        return Action("PREPEND", header)

    def _late(self, judged: Result) -> bool:
        """Whether it is for others to refuse it: MAIL FROM of our own domains, which no HELO of a stranger is."""
        if not self.judged_late or judged.identity != "mailfrom" or judged.result == "temperror":
            return False
        return any(one in self.domains for one in names.and_parents(judged.domain.lower()))


def refusal(judged: Result, client: str, *, doubtful: bool = False) -> Refusal:
    """What the sender's postmaster needs to know."""
    scope = f"{'MAIL FROM' if judged.identity == 'mailfrom' else 'HELO'} {names.shown(judged.domain)}"
    if judged.result == "temperror":
        reason = f"DNS lookup of the SPF record of {scope} failed, please retry"
        return Refusal(final=False, status="4.7.24", reason=reason)
    if doubtful:
        reason = f"SPF {judged.result} for {scope} cannot be confirmed: a DNS lookup failed, please retry"
        return Refusal(final=False, status="4.7.24", reason=reason)
    if judged.result == "permerror":
        reason = f"SPF permerror for {scope}: invalid record: {explain(judged)}"
        return Refusal(final=True, status="5.7.24", reason=reason)
    reason = f"SPF {judged.result}: {client} is not authorized to send for {scope}"
    return Refusal(final=True, status="5.7.23", reason=reason)
