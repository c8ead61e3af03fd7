"""The messages that a person asks for: by queue id, by Message-ID, or by the address that they are from or to."""

from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import getaddresses

from mailstack.errors import MailstackError, shown
from mailstack.trace.event import ascii_octets, is_queue_id
from mailstack.trace.message import Message
from mailstack.values.mail import domain_name

# dmarc writes so much of a Message-ID (mailstack_auth.dmarc.report.text).
_COMPARED = 320


@dataclass(frozen=True)
class Wanted:
    """What a person asks for: one of them is set, or both where a text may be an address and a Message-ID."""

    queue_id: str = ""
    address: str = ""
    message_id: str = ""

    def by_address(self, message: Message) -> bool:
        """Whether a message is from or to the address."""
        return bool(self.address) and any(self._is(one) for one in _addresses(message))

    def by_message_id(self, message: Message) -> bool:
        """Whether a message has the Message-ID."""
        return bool(self.message_id) and any(
            ascii_octets(one).strip("<>")[:_COMPARED] == self.message_id for one in message.facts("message_id")
        )

    def matches(self, message: Message) -> bool:
        """Whether a message is one of those that are asked for."""
        return bool(self.queue_id) or self.by_address(message) or self.by_message_id(message)

    def may_match(self, text: bytes) -> bool:
        """Whether a line of a log can be about it: quick, since there are millions."""
        low = text.lower()
        if self.address:
            local, _, domain = self.address.rpartition("@")
            if local.encode() in low and domain.encode() in low:
                return True
        return bool(self.message_id) and self.message_id[:50].lower().encode() in low

    def _is(self, address: str) -> bool:
        """An address with an extension (postconf(5), recipient_delimiter) is the address, too."""
        local, _, domain = address.lower().rpartition("@")
        return self.address in {f"{local}@{domain}", f"{local.partition('+')[0]}@{domain}"}


def wanted(text: str) -> Wanted:
    """What a person may mean by an argument. Raises MailstackError for what is nothing of the kind."""
    inner = text.strip().strip("<>")
    if "@" in inner:
        message_id = ascii_octets(inner)[:_COMPARED]
        if text.strip().startswith("<"):
            return Wanted(message_id=message_id)
        local, _, domain = inner.rpartition("@")
        try:
            return Wanted(address=f"{ascii_octets(local)}@{domain_name(domain)}".lower(), message_id=message_id)
        except ValueError:
            return Wanted(message_id=message_id)
    if is_queue_id(text):
        return Wanted(queue_id=text)
    raise MailstackError(
        f"{shown(text)} is not a queue id, a Message-ID or an address; write, for example: 4bFkXq1Zz9z1, "
        "'<1@author.example>' or user@example.com"
    )


def _addresses(message: Message) -> Iterator[str]:
    """All by which a person may look for a message: of the envelope, and of From."""
    yield from message.facts("sender")
    yield from message.recipients()
    for one in message.facts("author"):
        yield from (address for _, address in getaddresses([one]))
