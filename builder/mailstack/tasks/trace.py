"""Follow a message through the logs of all services. It needs what was built, and none of its settings."""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import UTC, datetime
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

from mailstack.engine import connection
from mailstack.engine.logs import Line, Log, logs
from mailstack.engine.queue import Queue
from mailstack.errors import EngineError, MailstackError
from mailstack.tasks import written
from mailstack.trace import judges, postfix
from mailstack.trace.event import Event, clean
from mailstack.trace.judges import JUDGES
from mailstack.trace.message import POSTFIX, Message, Row, Rows, messages
from mailstack.trace.wanted import Wanted, wanted

SERVICES = (POSTFIX, *JUDGES)
# Messages that are shown; the newest ones.
MAX_MESSAGES = 100
_DAY = 24 * 60 * 60


def trace(directory: Path, text: str, since: float | None, now: float) -> dict[str, Any]:
    """What the logs say of a message, or of all from and to an address, as plain data; since is in seconds since 1970.

    Raises MailstackError where they say nothing, EngineError where there is no log.
    """
    asked = wanted(text)
    if since is None:
        since = now - _DAY if asked.address else 0
    client, project = connection.connect(), written.project(directory)
    reading = _Reading(logs(client, project, SERVICES))
    if not reading.logs:
        raise EngineError(f"{project} was not started, so there are no logs; run: docker compose up -d --wait")
    if asked.queue_id:
        found, more = _messages(reading, {asked.queue_id}, since), False
    else:
        ids, early, more = _search(reading, asked, since)
        found = [one for one in _messages(reading, ids, 0) if asked.matches(one)] + early
        found.sort(key=lambda one: one.begins)
        more, found = more or len(found) > MAX_MESSAGES, found[-MAX_MESSAGES:]
    # What was forwarded goes on under another queue id.
    if further := {again for one in found for again in one.facts("forwarded_as")} - {one.queue_id for one in found}:
        found = sorted([*found, *_messages(reading, further, 0)], key=lambda one: one.begins)
    if not found:
        queued = _waiting(partial(Queue, client, project), {asked.queue_id} - {""}, reading.missing)
        there = f"; it is in the queue, see: mailstack queue show {asked.queue_id}" if queued else ""
        raise MailstackError(f"{clean(text)}: not in the logs{_how_far(reading, since)}{there}")
    left = {one.queue_id for one in found if not one.ended} - {""}
    waiting = _waiting(partial(Queue, client, project), left, reading.missing)
    by_address = any(asked.by_address(one) for one in found)
    return {
        "by_address": by_address,
        "messages": [_data(one, waiting.get(one.queue_id)) for one in found],
        "more": more,
        "missing": reading.missing,
    }


class _Reading:
    """The logs of a site; what cannot be read is missing, and the rest is read all the same."""

    def __init__(self, found: dict[str, Log]) -> None:
        self.logs = found
        self.missing = {one: f"{one} has no container, and so no log" for one in SERVICES if one not in found}

    def lines(self, service: str, since: float) -> Iterator[Line]:
        """The lines of a service from a time on."""
        if service in self.logs:
            try:
                yield from self.logs[service].lines(since)
            except EngineError as error:
                self.missing[service] = str(error)

    def begins(self) -> dict[str, str]:
        """Since when there is a log of each service."""
        found: dict[str, str] = {}
        for service, log in self.logs.items():
            try:
                time = log.begins()
            except EngineError as error:
                self.missing[service] = str(error)
            else:
                found |= {service: time} if time else {}
        return found


def _search(reading: _Reading, asked: Wanted, since: float) -> tuple[set[str], list[Message], bool]:
    """The queue ids of the newest messages that are asked for; those without one; and whether there are more."""
    ids: dict[str, str] = {}
    early: deque[Message] = deque(maxlen=MAX_MESSAGES + 1)
    more = False
    for service, read in (("dmarc", _dmarc), (POSTFIX, _postfix)):
        for line in reading.lines(service, since):
            found = read(line.text) if asked.may_match(line.text) else None
            if found is None or not asked.matches(one := Message(found[0], [Row(line.time, service, found[1])])):
                continue
            if found[0] == _NO_ID:
                early.append(Message("", one.rows))
            else:
                ids[found[0]] = line.time
            if len(ids) > 2 * MAX_MESSAGES:
                ids, more = _newest(ids), True
    more = more or len(ids) > MAX_MESSAGES
    return set(_newest(ids)), list(early), more


_NO_ID = "NOQUEUE"


def _newest(ids: dict[str, str]) -> dict[str, str]:
    return dict(sorted(ids.items(), key=itemgetter(1))[-MAX_MESSAGES:])


def _dmarc(text: bytes) -> tuple[str, Event] | None:
    return judges.line("dmarc", text)


def _postfix(text: bytes) -> tuple[str, Event] | None:
    found = postfix.line(text)
    return (found.queue_id, postfix.event(found)) if found and found.queue_id else None


def _messages(reading: _Reading, ids: Iterable[str], since: float) -> list[Message]:
    """The messages of these queue ids, with all that the logs say of them."""
    rows = {one: Rows() for one in ids}
    sessions, octets = postfix.Sessions(), {one.encode() for one in rows}
    for line in reading.lines(POSTFIX, since) if rows else ():
        if not postfix.concerns(line.text, octets) or not (found := postfix.line(line.text)):
            continue
        sessions.note(found)
        if found.queue_id in rows:
            rows[found.queue_id].add(Row(line.time, POSTFIX, postfix.event(found, sessions.words(found))))
        if (told := postfix.other(found)) and told[0] in rows:
            rows[told[0]].add(Row(line.time, POSTFIX, told[1]))
    for service in JUDGES if rows else ():
        for line in reading.lines(service, since):
            if said := judges.line(service, line.text, rows):
                rows[said.queue_id].add(Row(line.time, service, said.event))
    return [one for queue_id in sorted(rows) for one in messages(queue_id, rows[queue_id])]


def _waiting(
    queue: Callable[[], Queue], ids: Collection[str], missing: dict[str, str]
) -> dict[str, dict[str, str | None]]:
    """Where those messages lie that are still in the queue, and from when on they are tried again."""
    if not ids:
        return {}
    try:
        places = queue().places(ids)
    except EngineError as error:
        missing["queue"] = f"what is still in the queue is not known: {error}"
        return {}
    return {
        one: {"name": name, "next_try": _utc(time) if name == "deferred" else None}
        for one, (name, time) in places.items()
    }


def _data(message: Message, waiting: dict[str, str | None] | None) -> dict[str, Any]:
    return {
        "queue_id": message.queue_id or None,
        "begins": message.begins,
        "complete": message.complete,
        "sender": message.fact("sender"),
        "recipients": message.recipients(),
        "message_id": next(filter(None, message.facts("message_id")), None),
        "size": message.fact("size"),
        "action": message.fact("action"),
        "about": message.fact("original"),
        "notices": message.facts("notice"),
        "forwarded_as": message.facts("forwarded_as"),
        "outcomes": [
            {"recipient": one.recipient or None, "outcome": one.kind, "text": one.text} for one in message.outcomes()
        ],
        "queue": waiting,
        "events": [
            {"time": row.time, "service": row.service, "event": row.event.kind, "text": row.event.text}
            for row in message.shown()
        ],
        "left_out": message.left_out,
    }


def _how_far(reading: _Reading, since: float) -> str:
    """From when on the logs were read, and from when on there are any."""
    parts = []
    if since:
        parts.append(f" since {_minute(_utc(since))}")
    begins = [f"{_minute(time)} ({service})" for service, time in reading.begins().items()]
    if begins:
        parts.append(f"; they begin at {', '.join(begins)}")
    return "".join([*parts, *(f"; {one}" for one in reading.missing.values())])


def _minute(time: str) -> str:
    return f"{time[:16].replace('T', ' ')} UTC"


def _utc(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
