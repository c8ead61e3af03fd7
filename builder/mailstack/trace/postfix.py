"""Postfix's log lines (postlogd(8)): a queue id first, then what the daemon says of that message."""

import re
from collections.abc import Callable, Container, Mapping
from typing import NamedTuple

from mailstack.trace.event import (
    BOUNCED,
    DEFERRED,
    DELETED,
    DELIVERED,
    DISCARDED,
    FINISHED,
    FORWARDED,
    NOTE,
    NOTICE,
    QUEUE_ID,
    RECEIVED,
    REJECTED,
    Event,
    clean,
)

# The queue id stands at a fixed place, before anything that a stranger writes.
_LINE = re.compile(
    rb"\w{3} [ \d]\d [\d:]{8} \S+ ([\w./-]+)\[(\d+)\]: (?:(?:warning|error|fatal): )?(?:(%b|NOQUEUE): )?(.*)"
    % QUEUE_ID.encode(),
    re.DOTALL,
)
# Postfix quotes a local part as RFC 5321 does (postconf(5), info_log_address_format), so that an address in which a
# stranger puts what looks like the rest of the line ends where it ends.
_ADDRESS = r'((?:"(?:[^"\\]|\\.)*"|[^<>"])*)'
_CLIENT = re.compile(r"client=([^,\s]+)(?:, sasl_method=[^,]*)?(?:, sasl_username=([^,]*))?")
_PICKUP = re.compile(rf"uid=(\d+) from=<{_ADDRESS}>$")
_MESSAGE_ID = re.compile(r"message-id=(.*)")
_QUEUED = re.compile(rf"from=<{_ADDRESS}>, size=(\d+), ")
_ENDED = re.compile(rf"from=<{_ADDRESS}>, status=([\w-]+), (.*)")
_DELIVERY = re.compile(
    rf"to=<{_ADDRESS}>, (?:orig_to=<{_ADDRESS}>, )?relay=([^,]+), ((?:[\w-]+=[^,]*, )*)status=([\w-]+)(?: \((.*?)\)?)?$"
)
# smtpd(8), cleanup(8) with milters, postscreen(8): what was done at which command; the reply; whom it is about. HELO
# has none of the characters that stand around it (NEUTER_CHARACTERS in smtpd.c).
_REFUSED = re.compile(r"(?:milter-)?(reject|discard): ([A-Z-]+) from (\S+?): (.*)")
_WHOM = re.compile(
    rf"(.*);(?: from=<{_ADDRESS}>,?)?(?: to=<{_ADDRESS}>,?)?(?: proto=[^ ,]+,?)?(?: helo=<[^<>]*>)?(?: sasl_\w+=\S+)*$"
)
_NOTIFICATION = re.compile(rf"(sender|postmaster) (non-delivery|delay|delivery status) notification: ({QUEUE_ID})$")
_LOST = re.compile(r"((?:lost connection|timeout) after .*) from \S+$")
_HOST = re.compile(r"([^\[\]]*)\[([^\[\]]+)\](?::(\d+))?")
_TLS = re.compile(r"(\w+) TLS connection (established|reused) (?:from|to) (\S+): (\S+) ")

_AT = {
    "CONNECT": "at the connection",
    "EHLO": "at EHLO",
    "HELO": "at HELO",
    "MAIL": "at MAIL FROM",
    "END-OF-MESSAGE": "after DATA",
}
_NOTICES = {"non-delivery": "non-delivery", "delay": "delay", "delivery status": "delivery"}
# As mailstack writes them (master.cf): by these transports mail stays here.
_OWN = re.compile(r"(?:.*/)?(?:virtual|lmtp|local|relay/smtp)$")
# The mailbox's Junk (values/mail.py, junk_address).
_JUNK = "+quarantine@"
# What marks recipients on other servers (stack/mail.py, SRS_MARK). Mail to them comes in once more, by programs with
# these names (master.cf), and has another queue id then.
_MARK, _FORWARD, _AGAIN = ".srs.invalid", "/forward/smtp", "/forwarded/smtpd"
_QUEUED_AS = re.compile(rf"queued as ({QUEUE_ID})$")
_MAX_SESSIONS = 10_000


class Line(NamedTuple):
    """A line: program and process, the queue id ("NOQUEUE" before there is one, empty in lines about no message)."""

    program: str
    process: str
    queue_id: str
    text: str


_PREFIXES = {b"warning", b"error", b"fatal"}


def concerns(text: bytes, wanted: Container[bytes]) -> bool:
    """Whether a line can be about one of these queue ids, or a connection: quick, since there are millions of lines."""
    start = text.find(b"]: ") + 3
    word = text[start : text.find(b":", start)]
    return (
        word in wanted
        or word in _PREFIXES
        # What a process says of its connection, how a message leaves, and of which one a notice is.
        or b"connect from " in text
        or b" TLS connection " in text
        or b"mtp[" in text
        or b"/bounce[" in text
    )


def line(text: bytes) -> Line | None:
    """The parts of a line; None for one that no daemon of Postfix's wrote."""
    found = _LINE.match(text)
    return found and Line(*(part.decode("utf-8", "replace") if part else "" for part in found.groups()))


class _Tls(NamedTuple):
    """The other side of a connection, whether it was used before, the words for it, and the message that went by it."""

    peer: str
    reused: bool
    words: str
    queue_id: str = ""


class Sessions:
    """Which processes speak TLS. Postfix says so, without a queue id, when one opens or takes over a connection."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], _Tls] = {}

    def note(self, found: Line) -> None:
        """Take in any line."""
        key = found.program, found.process
        if not found.queue_id:
            if "TLS connection " in found.text and (tls := _TLS.match(found.text)):
                trust, how, peer, version = tls.groups()
                words = f" over {version.replace('TLSv', 'TLS ')}"
                words += ", certificate verified" if trust == "Verified" else ""
                self._found[key] = _Tls(peer, how == "reused", clean(words))
                if len(self._found) > _MAX_SESSIONS:
                    del self._found[next(iter(self._found))]
            elif found.text.startswith(("connect from ", "disconnect from ")):
                self._found.pop(key, None)
        elif key in self._found and (delivery := _DELIVERY.match(found.text)):
            # It holds for one message: the process may send the next one in clear.
            now = self._found[key]
            same = delivery[3] == now.peer and ("conn_use=" in delivery[4]) == now.reused
            if same and now.queue_id in {"", found.queue_id}:
                self._found[key] = now._replace(queue_id=found.queue_id)
            else:
                del self._found[key]

    def words(self, found: Line) -> str:
        """How the line's process speaks with the other side now; nothing for clear text, or if it is not known."""
        tls = self._found.get((found.program, found.process))
        return tls.words if tls else ""


def event(found: Line, tls: str = "") -> Event:
    """What a line says of its message; tls is how its process speaks with the other side."""
    daemon = found.program.rpartition("/")[2]
    read: Callable[[Line, str], Event | None] | None = _READERS.get(daemon)
    return (read and read(found, tls)) or _refused(found) or _delivery(found, tls) or _note(found)


def _smtpd(found: Line, tls: str) -> Event | None:
    if client := _CLIENT.match(found.text):
        if found.program.endswith(_AGAIN):
            return Event(RECEIVED, "comes in once more, on its way to another server (SRS)")
        how = "submitted by" if "/submission" in found.program else "received from"
        user = f", logged in as {client[2]}" if client[2] else ""
        return Event(RECEIVED, clean(f"{how} {_host(client[1])}{tls}{user}"))
    if lost := _LOST.match(found.text):
        return Event(NOTE, clean(f"{lost[1]}: the message is incomplete"))
    return None


def _pickup(found: Line, _: str) -> Event | None:
    local = _PICKUP.match(found.text)
    return local and Event(RECEIVED, clean(f"submitted by sendmail in the container, as uid {local[1]}"))


def _cleanup(found: Line, _: str) -> Event | None:
    if named := _MESSAGE_ID.match(found.text):
        return Event(NOTE, about={"message_id": clean(named[1])} if named[1] != "<>" else {})
    if found.text.startswith("resent-message-id="):
        return Event(NOTE)
    # Its rejection has told it.
    return Event(FINISHED, ends=True) if found.text.startswith("removed") else None


def _qmgr(found: Line, _: str) -> Event | None:
    if queued := _QUEUED.match(found.text):
        return Event(NOTE, about={"sender": clean(queued[1]), "size": int(queued[2])})
    if ended := _ENDED.match(found.text):
        return Event(BOUNCED, clean(f"{ended[2]}: {ended[3]}"), about={"sender": clean(ended[1])})
    return Event(FINISHED, "removed from the queue: done", ends=True) if found.text == "removed" else None


def _postsuper(found: Line, _: str) -> Event | None:
    if found.text == "removed":
        return Event(DELETED, "deleted from the queue by an administrator", ends=True)
    return Event(NOTE, clean(found.text))


def _bounce(found: Line, _: str) -> Event | None:
    notice = _NOTIFICATION.match(found.text)
    if not notice:
        return None
    return Event(NOTE, f"notice of {_NOTICES[notice[2]]} to the {notice[1]}: {notice[3]}", about={"notice": notice[3]})


def other(found: Line) -> tuple[str, Event] | None:
    """The queue id of another message that begins by the line's one, and how: a notice, or its second pass for SRS."""
    if again := _forwarded_as(found):
        return again, Event(NOTICE, f"was received as {found.queue_id}", about={"original": found.queue_id})
    told = _NOTIFICATION.match(found.text) if found.program.endswith("/bounce") else None
    if not told:
        return None
    text = f"notice of {_NOTICES[told[2]]} to the {told[1]}, about {found.queue_id}"
    return told[3], Event(NOTICE, text, about={"original": found.queue_id})


_READERS: Mapping[str, Callable[[Line, str], Event | None]] = {
    "smtpd": _smtpd,
    "pickup": _pickup,
    "cleanup": _cleanup,
    "qmgr": _qmgr,
    "postsuper": _postsuper,
    "bounce": _bounce,
}


def _refused(found: Line) -> Event | None:
    refused = _REFUSED.match(found.text)
    if not refused:
        return None
    action, command, client, said = refused.groups()
    sender, recipient, where = None, None, _AT.get(command, f"at {command}")
    if whom := _WHOM.match(said):
        said, sender, recipient = whom.groups()
    kind, word = (DISCARDED, "discarded") if action == "discard" else (REJECTED, "rejected")
    if action == "reject" and said.startswith("4"):
        kind, word = DEFERRED, "deferred"
    text = f"{word} {where}: {said}"
    if kind == DISCARDED:
        text = f"discarded {where}: answered with 250, and not delivered"
        text += "" if said.startswith("milter triggers") else f" ({said})"
    if found.queue_id == "NOQUEUE":
        text += f"; from {_host(client)}"
    # At the end of data it is about all recipients, of which Postfix names one.
    recipients = (clean(recipient),) if recipient else ()
    about: dict[str, object] = {} if sender is None else {"sender": clean(sender)}
    if command == "END-OF-MESSAGE":
        return Event(kind, clean(text), about=about | {"envelope_to": recipients})
    return Event(kind, clean(text), recipients, about=about)


def _forwarded_as(found: Line) -> str | None:
    """The queue id of a message's second pass."""
    delivery = _DELIVERY.match(found.text) if found.program.endswith(_FORWARD) else None
    again = delivery and delivery[5] == "sent" and _QUEUED_AS.search(delivery[6] or "")
    return again[1] if again else None


def _delivery(found: Line, tls: str) -> Event | None:
    delivery = _DELIVERY.match(found.text)
    if not delivery:
        return None
    to, alias, relay, _, status, reply = delivery.groups()
    junk = _JUNK in to
    to, alias = (clean(one.replace(_JUNK, "@").removesuffix(_MARK)) for one in (to, alias or ""))
    reply = reply or ""
    own = bool(_OWN.match(found.program))
    whom = f"{to} (by the alias {alias})" if alias and alias.lower() != to.lower() else to
    if again := _forwarded_as(found):
        text = f"forwarded for {alias} to {to}" if alias else f"forwarded to {to}"
        return Event(FORWARDED, clean(f"{text}: goes on as {again}"), (to,), alias, {"forwarded_as": again})
    if status == "sent":
        kind, text = DELIVERED, f"delivered to {whom}"
        if found.program.endswith("/virtual"):
            text = f"delivered to the mailbox {whom}{', folder Junk' if junk else ''}"
        elif found.program.endswith("/discard"):
            kind, text = DISCARDED, f"discarded for {whom}: {reply}"
        elif whom != to and not own:
            kind, text = FORWARDED, f"forwarded for {alias} to {to}"
        if not found.program.endswith(("/virtual", "/discard")):
            text += f" through {_host(relay)}{tls}: {reply}"
    elif status in {"deferred", "SOFTBOUNCE"}:
        kind, text = DEFERRED, f"deferred for {whom}: {reply}"
    elif status == "bounced":
        kind, text = BOUNCED, f"not delivered to {whom}: {reply}"
    else:
        # "deliverable" and "undeliverable" of address verification, and "expanded".
        kind, text = NOTE, f"{status}: {whom}: {reply}"
    return Event(kind, clean(text), (to,), alias)


def _note(found: Line) -> Event:
    return Event(NOTE, clean(f"{found.program}: {found.text}"))


def _host(text: str) -> str:
    """A host as people write it: NAME [ADDRESS], without a name that is not known, with a port that is not 25."""
    found = _HOST.fullmatch(text)
    if not found:
        return text
    name, address, port = found.groups()
    shown = f"[{address}]" if name in {"", "unknown", address} else f"{name} [{address}]"
    return shown if port in {None, "25"} else f"{shown} port {port}"
