"""How much one user who is logged in may send, so that a stolen password is of limited use."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil


@dataclass
class _Sent:
    """What a user has sent since the first message of a period."""

    since: float
    messages: int = 0
    recipients: int = 0


class Limits:
    """Messages and recipients of each user in a period, which begins with the first message; 0 is no limit.

    So it is for the sessions by which a user sends at a time. What is refused counts nothing. The counts are in memory,
    as Postfix's are for clients (anvil(8)).
    """

    def __init__(
        self,
        messages: int,
        recipients: int,
        minutes: int,
        sessions: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._messages, self._recipients, self._minutes = messages, recipients, minutes
        self._most_sessions = sessions
        self._clock = clock
        # Whose each session is.
        self._sessions: dict[object, str] = {}
        # The oldest first.
        self._sent: dict[str, _Sent] = {}

    def never(self, recipients: int) -> str:
        """Why no user may ever send to so many recipients at once, empty if that may be."""
        if 0 < self._recipients < recipients:
            return f"a user may send to {self._recipients} recipients in {_minutes(self._minutes)}"
        return ""

    def left(self, session: object) -> None:
        """A session has ended."""
        self._sessions.pop(session, None)

    def exceeded(self, user: str, recipients: int, session: object = None) -> str:
        """Count a message and its session, until that has left; why the user may not send it now, empty if he may."""
        others = sum(whose == user for one, whose in self._sessions.items() if one is not session)
        if 0 < self._most_sessions <= others:
            return f"a user may send in {self._most_sessions} sessions at a time, please retry in a minute"
        now = self._clock()
        while self._sent and self._left(next(iter(self._sent.values())), now) <= 0:
            del self._sent[next(iter(self._sent))]
        sent = self._sent.get(user) or _Sent(now)
        if 0 < self._messages <= sent.messages:
            what = f"{self._messages} messages"
        elif 0 < self._recipients < sent.recipients + recipients:
            what = f"to {self._recipients} recipients"
        else:
            sent.messages += 1
            sent.recipients += recipients
            self._sent[user], self._sessions[session] = sent, user
            return ""
        again = ceil(self._left(sent, now) / 60)
        return f"a user may send {what} in {_minutes(self._minutes)}, please retry in {_minutes(again)}"

    def _left(self, sent: _Sent, now: float) -> float:
        """Seconds until the period ends."""
        return sent.since + 60 * self._minutes - now


def _minutes(number: int) -> str:
    return "a minute" if number == 1 else f"{number} minutes"
