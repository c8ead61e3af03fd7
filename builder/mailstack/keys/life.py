"""The life of a domain's DKIM keys: one signs, and beside it is the next one, or the one before.

secrets/dkim/life.json has, below the selector of the settings, a row for each domain that ever had a second key. The
others sign with the key of that selector. If the settings name another selector, the key of that one signs, and these
rows stay.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, RootModel, ValidationError, model_validator

from mailstack import reading
from mailstack.errors import DkimKeyError, os_reason
from mailstack.keys import dkim
from mailstack.keys.files import replace, secret_directory
from mailstack.values.mail import Selector

_MAX_LABEL = 63
_LAST_YEAR = 9000
FILE = dkim.DIRECTORY / "life.json"
# Postfix tries for 5 days (postconf(5), maximal_queue_lifetime); a message that then comes late may wait elsewhere.
RETIRE_AFTER = timedelta(days=7)
State = Literal["spare", "switched", "retiring", "revoked"]


class Life(BaseModel):
    """The two keys of a domain, by their selectors.

    The one beside is "spare" (it is published and signs next), "switched" (it signs until OpenDKIM starts again),
    "retiring" (messages that it signed may still be under way) or "revoked" (its private key is destroyed).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    # That of the settings. Domains that share a key use it, and one more, for the two keys in turn.
    first: Selector
    signing: Selector
    # When it began to sign, and when the one beside became what it is.
    since: AwareDatetime
    beside: Selector
    state: State
    changed: AwareDatetime
    # Whether the key that signs has the second of the two names.
    second: bool = False
    # Selectors whose keys are destroyed or lost. No other key has such a name: somebody may have the old one, or
    # remember its record.
    former: tuple[Selector, ...] = ()

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.signing == self.beside:
            raise ValueError("a key is beside itself")
        if max(self.since, self.changed).year > _LAST_YEAR:
            raise ValueError("a date is too far away")
        return self

    @property
    def label(self) -> str:
        """The selector by which other domains use the key that signs."""
        return self._labels[self.second]

    @property
    def label_beside(self) -> str:
        """The same of the key beside."""
        return self._labels[not self.second]

    @property
    def _labels(self) -> tuple[str, str]:
        # A label has 63 octets at most (RFC 1035 section 2.3.4).
        start = self.first[: _MAX_LABEL - 1]
        return self.first, next(one for one in (f"{start}2", f"{start}3") if one != self.first)

    @property
    def end(self) -> datetime:
        """From then on no message is under way that a retiring key signed."""
        return self.changed + RETIRE_AFTER

    @property
    def next_step(self) -> str:
        """What the key beside waits for, as a clause about it."""
        if self.state == "spare":
            return "is the spare key: publish its records (mailstack dns records); it signs after mailstack dkim rotate"
        if self.state == "switched":
            return "may still sign; run: mailstack build && docker compose up -d --wait"
        if self.state == "retiring":
            end = f"{self.end.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
            return (
                f"signs no more, and its record stays until {end} for the messages that it signed; then run: "
                "mailstack dkim retire"
            )
        return "is revoked"

    def switched(self, now: datetime) -> "Life":
        """The spare key signs."""
        changes = {"signing": self.beside, "beside": self.signing, "second": not self.second}
        return self.model_copy(update={**changes, "state": "switched", "since": now, "changed": now})

    def with_spare(self, selector: str, now: datetime) -> "Life":
        """Another key takes the place of the one beside, which is no more."""
        former = tuple(dict.fromkeys((*self.former, self.beside)))
        return self.model_copy(update={"beside": selector, "state": "spare", "changed": now, "former": former})

    def back(self, now: datetime) -> "Life":
        """The key before signs again, since the one that signs is lost."""
        return self.switched(now).become("revoked", now)

    def become(self, state: Literal["switched", "retiring", "revoked"], now: datetime) -> "Life":
        """The key beside goes one step on."""
        return self.model_copy(update={"state": state, "changed": now})


def time_now() -> datetime:
    """The time, in whole seconds."""
    return datetime.now(UTC).replace(microsecond=0)


class _Lives(RootModel[dict[str, dict[str, Life]]]):
    """By the settings' selector, and by domain."""

    @model_validator(mode="after")
    def _are_in_place(self) -> Self:
        if any(one.first != first for first, lives in self.root.items() for one in lives.values()):
            raise ValueError("a row lies under another selector than its first")
        return self


def read(directory: Path, first: str) -> dict[str, Life]:
    """The lives of a site's domains whose first selector is that of the settings.

    Raises DkimKeyError for a file that is damaged or cannot be read.
    """
    return _all(directory).get(first, {})


def selectors(directory: Path) -> dict[str, set[str]]:
    """All selectors of each domain's keys that are written down. Raises DkimKeyError as read() does."""
    found = defaultdict[str, set[str]](set)
    for domain, one in _rows(directory):
        found[domain] |= {one.first, one.signing, one.beside, *one.former}
    return found


def firsts(directory: Path) -> dict[tuple[str, str], str]:
    """The settings' selector to which a key belongs, by its domain and its own. Raises DkimKeyError as read() does."""
    return {(domain, selector): one.first for domain, one in _rows(directory) for selector in (one.signing, one.beside)}


def gone(directory: Path) -> dict[str, set[str]]:
    """The selectors of each domain whose keys are revoked or lost. Raises DkimKeyError as read() does."""
    found = defaultdict[str, set[str]](set)
    for domain, one in _rows(directory):
        found[domain] |= {*one.former, *((one.beside,) if one.state == "revoked" else ())}
    return found


def save(directory: Path, lives: Mapping[str, Life]) -> None:
    """Write the lives of some domains; those of others stay. Raises DkimKeyError as read() does, or if that fails."""
    if not lives:
        return
    path = directory / FILE
    rows = _all(directory)
    for domain, one in lives.items():
        rows.setdefault(one.first, {})[domain] = one
    try:
        secret_directory(path.parent.parent)
        secret_directory(path.parent)
        replace(path, f"{_Lives(rows).model_dump_json(indent=2)}\n".encode(), 0o600)
    except OSError as error:
        raise DkimKeyError(f"{path}: cannot be written: {os_reason(error)}") from None


def signing_again(directory: Path, files: Collection[str], now: datetime) -> None:
    """Somebody goes back to a build in which these private keys sign: they are retired later.

    Raises DkimKeyError as read() does, and for one that is revoked.
    """
    for lives in _all(directory).values():
        old = {domain: one for domain, one in lives.items() if str(dkim.path(domain, one.beside)) in files}
        for domain, one in old.items():
            if one.state == "revoked":
                raise DkimKeyError(f"{domain}: {one.beside} is revoked, so the earlier build cannot run")
        save(directory, {domain: one.become("switched", now) for domain, one in old.items() if one.state == "retiring"})


def _rows(directory: Path) -> list[tuple[str, Life]]:
    return [row for lives in _all(directory).values() for row in lives.items()]


def _all(directory: Path) -> dict[str, dict[str, Life]]:
    path = directory / FILE
    try:
        content = reading.content(path)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise DkimKeyError(f"{path}: cannot be read: {os_reason(error)}") from None
    try:
        return _Lives.model_validate_json(content).root
    except ValidationError as error:
        first = error.errors()[0]
        where = "".join(f"{one!s:.70}: " for one in first["loc"])
        raise DkimKeyError(f"{path}: is damaged: {where}{first['msg']}; restore it from a backup") from None
