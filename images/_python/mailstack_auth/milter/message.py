"""A message as a milter sees it, and what it may say of one."""

from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from mailstack_auth import names
from mailstack_auth.header.fields import Fields

# All fields of a message; OpenDKIM's limit is one megabyte (opendkim.conf, MaximumHeaders).
MAX_HEADER_OCTETS = 2 * 1024 * 1024
# With milters Postfix cuts a field at 60,000 octets (cleanup_message.c), or at the last line end within a tenth before.
# The longest field that is surely whole; its packet is far below libmilter's limit, 64 kB.
MAX_FIELD_OCTETS = 53_999


@dataclass
class Message:
    """What is known of a message. What a client sent may hold any octet but NUL."""

    client: str
    helo: bytes
    # In angle brackets.
    sender: bytes = b""
    queue_id: str = ""
    # In angle brackets, as Postfix understands them, and as the client wrote each.
    recipients: list[bytes] = field(default_factory=list)
    written: list[bytes] = field(default_factory=list)
    fields: Fields = field(default_factory=Fields)
    header_octets: int = 0
    # The name of a field that Postfix may have cut.
    cut: bytes = b""
    # What takes the body as it arrives; None where nobody needs it.
    body: "Body | None" = None
    # What the judge has read out of the fields, its own business.
    reading: object = None
    # The name by which the client is logged in (RFC 4954), empty if it is not.
    user: str = ""
    # What stands for the SMTP session by which it comes.
    session: object = None

    @property
    def sender_domain(self) -> str | None:
        """The domain of the envelope sender; None if there is none, or nothing that is one."""
        address = self.sender.removeprefix(b"<").removesuffix(b">").decode("utf-8", "replace")
        return names.domain(address.rpartition("@")[2].removesuffix(".")) if "@" in address else None

    @property
    def too_long(self) -> str:
        """Why Postfix or the milter did not take its header whole; empty if they did."""
        if self.cut:
            name = self.cut.decode("ascii", "backslashreplace")
            return f"header field {name:.60} is too long (limit: {MAX_FIELD_OCTETS} octets)"
        if self.header_octets > MAX_HEADER_OCTETS:
            return f"header is too long (limit: {MAX_HEADER_OCTETS} octets; each field counts 450 extra)"
        return ""


class Delete(NamedTuple):
    """Remove a field: the one that was the at-th of this name, from 1, in any letter case."""

    name: bytes
    at: int


class Insert(NamedTuple):
    """Put a field on top of all others."""

    name: bytes
    value: bytes


class Readdress(NamedTuple):
    """Deliver to another recipient in place of one, as the client wrote that."""

    written: bytes
    other: bytes


Edit = Delete | Insert | Readdress


class Verdict(NamedTuple):
    """What becomes of a message. A reply is an SMTP reply, one line; without one, and not discarded, it is accepted."""

    edits: tuple[Edit, ...] = ()
    reply: str | None = None
    discard: bool = False


class Body(Protocol):
    """Takes a body, and keeps little of it."""

    def add(self, octets: bytes) -> None:
        """Take the next piece."""


class Judge(Protocol):
    """Who decides about messages."""

    def body(self, message: Message) -> Body | None:
        """What judge() wants to take the body; asked when all fields are known, unless the body is empty."""

    async def judge(self, message: Message) -> Verdict:
        """Decide. It must not raise: a connection that ends is a temporary failure, but one without a reason."""

    def left(self, session: object) -> None:
        """An SMTP session has ended; it may be said more than once, and of one without messages."""
