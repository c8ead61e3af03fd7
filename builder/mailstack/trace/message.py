"""A message, as the lines about it have it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from mailstack.trace.event import BEGINNINGS, BOUNCED, DEFERRED, DELETED, DELIVERED, OUTCOMES, RECEIVED, VERDICT, Event

# Lines that are kept of a queue id. Of more, as of a message for a thousand recipients that waits for days, those after
# the first ones are left out.
_MAX_ROWS, _FIRST_ROWS = 500, 100
# A service's line can come before the one by which Postfix says that a message begins.
_EARLY = timedelta(seconds=1)
# dmarc and policyd-spf write many lines some 50 ms after the reply (mailstack_auth.runtime.log).
_LATE = timedelta(milliseconds=100)
POSTFIX = "postfix"


class Row(NamedTuple):
    """An event, when the engine got its line, and the service that wrote it."""

    time: str
    service: str
    event: Event


class Outcome(NamedTuple):
    """What became of a message for a recipient, which is empty if the log names none."""

    recipient: str
    kind: str
    text: str


@dataclass
class Rows:
    """What the log says of a queue id, and how many rows were left out."""

    rows: list[Row] = field(default_factory=list)
    left_out: int = 0

    def add(self, row: Row) -> None:
        """Take in a row; of too many, some are left out."""
        self.rows.append(row)
        if len(self.rows) > _MAX_ROWS:
            del self.rows[_FIRST_ROWS]
            self.left_out += 1


@dataclass
class Message:
    """The rows of one message, in the order of time. Before there is a queue id, it is empty."""

    queue_id: str
    rows: list[Row]
    left_out: int = 0

    @property
    def begins(self) -> str:
        """When the engine got the first line."""
        return min(row.time for row in self.rows)

    @property
    def complete(self) -> bool:
        """Whether the log still has the message's beginning."""
        return not self.queue_id or any(row.event.kind in BEGINNINGS for row in self.rows)

    @property
    def ended(self) -> bool:
        """Whether nothing more can happen to it."""
        return any(row.event.ends for row in self.rows)

    def facts(self, name: str) -> list[Any]:
        """What lines said of the whole message, each once, Postfix's first: dmarc gets senders in lower case."""
        rows = sorted(self.rows, key=lambda row: row.service != POSTFIX)
        return list(dict.fromkeys(row.event.about[name] for row in rows if row.event.about.get(name) is not None))

    def fact(self, name: str) -> Any:  # noqa: ANN401
        """What the first line said that says it; None if none did."""
        return next(iter(self.facts(name)), None)

    def shown(self) -> Iterator[Row]:
        """What happened, without mere facts, and without what another line says better."""
        judged = any(row.service == "dmarc" and row.event.kind == VERDICT for row in self.rows)
        for row in self.rows:
            doubled = judged and (row.event.about.get("spf_only") or row.event.text.startswith("opendkim: "))
            if row.event.text and not doubled:
                yield row

    def recipients(self) -> list[str]:
        """All that the log names: those of the envelope first, then those that aliases led to."""
        others = [one for row in self.rows for one in (row.event.alias, *row.event.recipients)]
        return list(dict.fromkeys(filter(None, [*self._envelope(), *others])))

    def outcomes(self) -> list[Outcome]:
        """What became of it for each recipient that the log names, an alias by what it led to; the last word counts."""
        found: dict[tuple[str, str], Outcome] = {}
        for _, _, event in self.rows:
            if event.kind in OUTCOMES:
                named = [(one, event.alias) for one in event.recipients]
                for one in named or self._concerned(event.kind, found):
                    found[one] = Outcome(one[0], self._outcome(event.kind), event.text)
        return list(found.values())

    def _concerned(self, kind: str, found: Mapping[tuple[str, str], Outcome]) -> Sequence[tuple[str, str]]:
        """The recipients, each with its alias, of an event that names none."""
        of_those_that_wait = kind in {BOUNCED, DELETED}
        waiting = [key for key, one in found.items() if one.kind == DEFERRED] if of_those_that_wait else []
        return waiting or [(one, "") for one in self._envelope()] or list(found) or [("", "")]

    def _envelope(self) -> list[str]:
        # Postfix names one where dmarc names all.
        return list(dict.fromkeys(one for found in sorted(self.facts("envelope_to"), key=len)[::-1] for one in found))

    def _outcome(self, kind: str) -> str:
        return "quarantined" if kind == DELIVERED and "quarantine" in self.facts("action") else kind


def messages(queue_id: str, found: Rows) -> list[Message]:
    """The messages of a queue id: one, or more of a short one (postconf(5), enable_long_queue_ids) that came again."""
    rows = sorted(found.rows, key=lambda row: row.time)
    split = [Message(queue_id, [], found.left_out)]
    for row in rows:
        if row.service == POSTFIX:
            again = row.event.kind == RECEIVED or (split[-1].ended and "message_id" in row.event.about)
            if again and split[-1].rows:
                split.append(Message(queue_id, []))
            split[-1].rows.append(row)
    starts = [_moment(one.begins) - _EARLY for one in split if one.rows]
    for row in rows:
        if row.service != POSTFIX:
            at = max((at for at, start in enumerate(starts) if start <= _moment(row.time)), default=0)
            split[at].rows.append(row)
    return [Message(queue_id, _in_order(one.rows), one.left_out) for one in split if one.rows]


def _in_order(rows: Sequence[Row]) -> list[Row]:
    """The beginning first, and what Postfix did after the verdict that it followed."""

    def place(row: Row) -> tuple[bool, datetime]:
        moment = _moment(row.time)
        return row.event.kind not in BEGINNINGS, moment if row.service == POSTFIX else moment - _LATE

    return sorted(rows, key=place)


def _moment(time: str) -> datetime:
    """Python reads six digits of the nine."""
    return datetime.fromisoformat(f"{time[:26]}+00:00")
