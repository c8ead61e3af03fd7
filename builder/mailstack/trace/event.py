"""What happened to a message."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from mailstack import console

# What becomes of a message for a recipient; the last one counts.
DELIVERED, FORWARDED, DEFERRED, BOUNCED = "delivered", "forwarded", "deferred", "bounced"
REJECTED, DISCARDED, DELETED = "rejected", "discarded", "deleted"
OUTCOMES = frozenset({DELIVERED, FORWARDED, DEFERRED, BOUNCED, REJECTED, DISCARDED, DELETED})
RECEIVED, VERDICT, NOTICE, FINISHED, NOTE = "received", "verdict", "notice", "finished", "note"
# How a message begins.
BEGINNINGS = frozenset({RECEIVED, NOTICE})

# postconf(5), enable_long_queue_ids: digits and consonants, or the older form. "warning" is none.
QUEUE_ID = r"(?:[0-9B-DF-HJ-NP-TV-Zb-df-hj-np-tv-z]{10,32}|[0-9A-F]{5,16})"
is_queue_id = re.compile(QUEUE_ID).fullmatch

_MAX_TEXT = 500


@dataclass(frozen=True)
class Event:
    """One thing that happened; without text it is only a fact.

    recipients are those that it is about, none for all of the message; alias is the address that led to the recipient.
    about has facts of the whole message: sender, message_id, size in octets, envelope_to, action; notice, the queue id
    of a notice about it; and forwarded_as, that of its second pass (SRS). ends says that nothing more happens to this
    message.
    """

    kind: str
    text: str = ""
    recipients: tuple[str, ...] = ()
    alias: str = ""
    about: Mapping[str, object] = field(default_factory=dict)
    ends: bool = False


def clean(text: str) -> str:
    """What a stranger may have written: on one line, cut, without what would steer a terminal."""
    text = console.printable(text)
    return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}…"


def ascii_octets(text: str) -> str:
    """A text as Postfix logs it: each octet that is no printable ASCII character is a question mark."""
    return re.sub(r"[^ -~]", "?", text.encode("utf-8", "replace").decode("latin-1"))
