"""Judges of our own mail: one before OpenDKIM signs it, one after."""

import secrets
import time
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import partial

from mailstack_auth import names
from mailstack_auth.dkim import signatures
from mailstack_auth.header.author import NO_DOMAIN, AmbiguousError, as_in_dns, author_domain
from mailstack_auth.header.fields import Fields
from mailstack_auth.milter.message import Delete, Insert, Message, Verdict
from mailstack_auth.milter.screening import claims, every
from mailstack_auth.runtime.log import event
from mailstack_auth.site import Site
from mailstack_auth.submission.limits import Limits

# What must not leave with our own mail: hidden recipients, and what only a mailbox's file format needs.
HIDDEN = (b"Bcc", b"Resent-Bcc", b"Content-Length")

log = partial(event, "dmarc")


class Submission:
    """Looks at our own mail before it is signed; and once more behind OpenDKIM, whose results nobody else may see."""

    def __init__(self, site: Site, internal_id: str) -> None:
        self._site = site
        self._internal_id = internal_id

    def body(self, message: Message) -> None:
        """Nobody needs it."""

    def left(self, session: object) -> None:
        """Nothing is kept of it."""

    async def judge(self, message: Message) -> Verdict:
        """Refuse what has no author that all readers agree on; remove results that claim to be ours; complete."""
        if message.too_long:
            log(f"{message.queue_id}: action=reject reason={message.too_long!a}")
            return Verdict(reply=f"552 5.3.4 {message.too_long}")
        try:
            self._check_author(message.fields)
        except AmbiguousError as error:
            log(f"{message.queue_id}: action=reject reason={str(error)!a}")
            return Verdict(reply=f"550 5.6.0 not signed: {error}")
        foreign = self._foreign(message)
        if foreign:
            log(f"{message.queue_id}: action=reject user={message.user!a} reason={foreign!a}")
            return Verdict(reply=f"550 5.7.1 {foreign}")
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
        if any(one.name == b"Message-ID" for one in missing):
            # Postfix logs the Message-ID before milters see the message.
            log(f"{message.queue_id}: added Message-ID {added[b'Message-ID']}")
        _, removals = claims(message, self._site.hostname, self._internal_id)
        return Verdict((*removals, *every(message, *HIDDEN), *self._useless(message), *missing))

    def _useless(self, message: Message) -> list[Delete]:
        """Signatures that keep OpenDKIM from signing, and those that ours replaces."""
        signers = self._signers(message)
        return [Delete(b"DKIM-Signature", at + 1) for at in signatures.useless(message.fields, signers)]

    def _signers(self, message: Message) -> set[str]:
        """The domains of which one signs for the author; none for others' mail."""
        author, *parents = names.and_parents(author_domain(message.fields) or "")
        return {author} & self._site.signed | set(parents) & self._site.signed_below

    def _foreign(self, message: Message) -> str:
        """Why a user who is logged in may not send this: not all addresses are of our domains. Empty if they are.

        Hosts in our networks may forward mail of others; of a user we know no other addresses. A message without an
        envelope sender is a notice, such as one that mail was read (RFC 8098).
        """
        if not message.user:
            return ""
        domains = {"From": author_domain(message.fields)}
        if b"@" in message.sender:
            domains["MAIL FROM"] = message.sender_domain
        wrong = [name for name, domain in domains.items() if not self._site.ours(domain)]
        return f"the domain in {' and '.join(wrong)} is not one of this server's domains" if wrong else ""

    def _check_author(self, fields: Fields) -> None:
        """See that there is an author, and one that OpenDKIM finds in its table. Raises AmbiguousError."""
        author = author_domain(fields)
        if author is None:
            raise AmbiguousError(NO_DOMAIN)
        if self._site.ours(author) and not as_in_dns(fields):
            raise AmbiguousError(f"the domain in From is not in its DNS form; write {author}")


class Signed(Submission):
    """Looks at our own mail behind OpenDKIM: nobody else sees what that found, and nothing leaves unsigned.

    What is left then is accepted, so this is where a user's messages are counted.
    """

    def __init__(self, site: Site, internal_id: str, limits: Limits) -> None:
        super().__init__(site, internal_id)
        self._limits = limits

    async def judge(self, message: Message) -> Verdict:
        """Let a message wait that lacks its signature; else as before."""
        verdict = await super().judge(message)
        if verdict.reply is None and self._unsigned(message):
            log(f"{message.queue_id}: action=defer reason='OpenDKIM has not signed it'")
            return Verdict(reply="451 4.7.0 not signed: the DKIM signer failed, please retry")
        if verdict.reply is None and message.user:
            return self._limited(message) or verdict
        return verdict

    def left(self, session: object) -> None:
        """Its user may have another one."""
        self._limits.left(session)

    def _limited(self, message: Message) -> Verdict | None:
        """The answer to a user who sends too much; None for others."""
        recipients = len(message.recipients)
        if reason := self._limits.never(recipients):
            action, code = "reject", "550 5.5.3"
        elif reason := self._limits.exceeded(message.user, recipients, message.session):
            action, code = "defer", "450 4.7.1"
        else:
            return None
        log(f"{message.queue_id}: action={action} user={message.user!a} reason={reason!a}")
        return Verdict(reply=f"{code} {reason}")

    def _useless(self, _message: Message) -> list[Delete]:
        """None: the first look has removed them."""
        return []

    def _unsigned(self, message: Message) -> bool:
        signers = self._signers(message)
        return bool(signers) and not signers & {one.domain for one in signatures.of(message.fields)}
