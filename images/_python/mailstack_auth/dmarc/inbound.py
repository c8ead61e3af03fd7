"""Checks mail from outside by what policyd-spf and OpenDKIM found, acts on it, leaves one Authentication-Results."""

import asyncio
import json
from collections import Counter
from functools import partial

from mailstack_auth.dkim import signatures
from mailstack_auth.dkim.verification import Body
from mailstack_auth.dmarc import recipients, report
from mailstack_auth.dmarc.collecting import Collector
from mailstack_auth.dmarc.evidence import Evidence, Reading
from mailstack_auth.dmarc.verdict import Outcome, decide, given_up, leaving
from mailstack_auth.dns.lookup import Lookups
from mailstack_auth.header import authres
from mailstack_auth.header.author import NO_DOMAIN, AmbiguousError, author_domain
from mailstack_auth.milter.message import Edit, Insert, Message, Readdress, Verdict
from mailstack_auth.milter.screening import QUARANTINE, claims
from mailstack_auth.runtime.counts import Counts
from mailstack_auth.runtime.deferrals import Deferrals
from mailstack_auth.runtime.log import Log, event
from mailstack_auth.site import Site
from mailstack_auth.spf.results import SpfResults

# For everything that a verdict needs, in seconds; Postfix waits 300 (postconf(5), milter_content_timeout).
MAX_SECONDS = 60.0

# RFC 3463: a local problem, not the sender's.
TROUBLE = Verdict(reply="451 4.3.0 DMARC check failed: internal error, please retry")

log = partial(event, "dmarc")


class Inbound:
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
        self._collector = Collector(site, lookups)
        self._deferrals = deferrals
        self._not_accepted = counts
        self._counts: Counter[str] = Counter()
        self._log = Log()

    def body(self, message: Message) -> Body | None:
        """Its hashes, where a signature may have to be verified here."""
        return self._collector.body(message, self._read(message))

    def left(self, session: object) -> None:
        """Messages are judged each by itself."""

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
        if message.too_long:
            log(f"{message.queue_id}: action=reject reason={message.too_long!a}")
            self._not_accepted.add("reject", "header")
            return Verdict(reply=f"552 5.3.4 {message.too_long}")
        reading = self._read(message)
        if reading.ambiguous:
            self._record(message, None, Outcome("reject", reason=reading.ambiguous, rule="author"))
            return Verdict(reply=f"550 5.7.1 {reading.ambiguous}")
        evidence = await self._collector.evidence(message, reading, await self._results.of(message))
        outcome = leaving(decide(evidence, self._site), evidence, self._site)
        if outcome.action == "defer" and self._deferrals.over(evidence.client, evidence.author or ""):
            outcome = leaving(given_up(outcome, self._site), evidence, self._site)
        self._record(message, evidence, outcome)
        if outcome.action == "discard":
            return Verdict(discard=True)
        if outcome.reply is not None:
            return Verdict(reply=outcome.reply)
        return Verdict(self._edits(message, evidence, outcome))

    def _read(self, message: Message) -> Reading:
        """Once for each message, when its fields are all there."""
        if not isinstance(message.reading, Reading):
            internal, removals = claims(message, self._site.hostname, self._internal_id)
            found = tuple(signatures.verified(signatures.of(message.fields), internal))
            author, ambiguous = None, ""
            try:
                author = author_domain(message.fields)
                if author is None and message.sender != b"<>":
                    ambiguous = NO_DOMAIN
            except AmbiguousError as error:
                ambiguous = str(error)
            message.reading = Reading(author, message.sender_domain, found, removals, ambiguous)
        return message.reading

    def _edits(self, message: Message, evidence: Evidence, outcome: Outcome) -> tuple[Edit, ...]:
        field = Insert(authres.NAME, authres.value(self._site.hostname, report.results(evidence, outcome)))
        edits: list[Edit] = [*self._read(message).removals, field]
        if outcome.action == "quarantine":
            edits.append(Insert(QUARANTINE, f" {outcome.reason}".encode("ascii")))
            for one, written in dict.fromkeys(zip(message.recipients, message.written, strict=True)):
                if junk := recipients.in_junk(one, self._site):
                    edits.append(Readdress(written, junk))
        return tuple(edits)

    def _record(self, message: Message, evidence: Evidence | None, outcome: Outcome) -> None:
        result = report.result_of(evidence)
        self._counts[result] += 1
        if outcome.action != "accept":
            self._not_accepted.add(outcome.action, outcome.rule)
        entry = report.entry(message, evidence, outcome, self._counts[result])
        self._log.write(json.dumps(entry), soon=outcome.action == "accept")
