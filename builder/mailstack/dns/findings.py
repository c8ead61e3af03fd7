"""What a check says: findings as text for people, as JSON for programs, as one line for Nagios."""

import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import click

from mailstack.console import printable

Level = Literal["fault", "warning", "fine"]
LEVELS: tuple[Level, ...] = ("fault", "warning", "fine")
_MARKS = {"fault": ("fault  ", "red"), "warning": ("warning", "yellow"), "fine": ("fine   ", "green")}
# Monitoring plugins' guidelines: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.
NAGIOS_UNKNOWN = 3
_NAGIOS: dict[Level, tuple[int, str]] = {"fine": (0, "OK"), "warning": (1, "WARNING"), "fault": (2, "CRITICAL")}
_WIDTH = 110
# A DKIM record of 4096 bits is shown whole where it is to be published, and cut where it is only to be recognised.
_MAX_SHOWN = 160
_MAX_LINES = 20


@dataclass(frozen=True)
class Row:
    """A record: its name without the final dot, its type, its value as in a web form."""

    name: str
    type: str
    value: str


@dataclass(frozen=True)
class Finding:
    """One thing that is known of a record.

    code is a word for programs, name and type the record, what the sentence, found the values that are published, where
    the servers that have them. Whoever removes the rows of remove and publishes those of publish is rid of it; by_hand
    says what to do where no record of one's own helps.
    """

    level: Level
    code: str
    name: str
    type: str
    what: str
    found: tuple[str, ...] = ()
    where: tuple[str, ...] = ()
    remove: tuple[Row, ...] = ()
    publish: tuple[Row, ...] = ()
    by_hand: str = ""


@dataclass(frozen=True)
class Report:
    """All findings of a check, faults first, and the servers that were asked."""

    findings: tuple[Finding, ...]
    servers: tuple[str, ...] = ()
    counts: Counter[str] = field(init=False)

    def __post_init__(self) -> None:
        ordered = sorted(self.findings, key=lambda one: LEVELS.index(one.level))
        object.__setattr__(self, "findings", tuple(dict.fromkeys(ordered)))
        object.__setattr__(self, "counts", Counter(one.level for one in self.findings))

    @property
    def worst(self) -> Level:
        return self.findings[0].level if self.findings else "fine"

    @property
    def summary(self) -> str:
        """How many there are of each level."""
        fault, warning, fine = (self.counts[level] for level in LEVELS)
        return f"{_number(fault, 'fault')}, {_number(warning, 'warning')}, {_number(fine, 'record')} fine"


def as_text(report: Report, *, quiet: bool = False) -> str:
    """For people, with colours, which click removes where they are of no use; quiet leaves out what is fine."""
    blocks = [_block(one) for one in report.findings if one.level != "fine"]
    fine = [_line(one) for one in report.findings if one.level == "fine"]
    if fine and not quiet:
        blocks.append("\n".join(fine) + "\n")
    return "\n".join([*blocks, f"{report.summary}\n"])


def as_data(report: Report) -> dict[str, Any]:
    """For programs."""
    return {
        "worst": report.worst,
        "counts": {level: report.counts[level] for level in LEVELS},
        "servers": list(report.servers),
        "findings": [_data(one) for one in report.findings],
    }


def as_nagios(report: Report) -> tuple[int, str]:
    """The exit code and the line of a monitoring plugin, with performance data behind the bar."""
    code, word = _NAGIOS[report.worst]
    first = report.findings[0] if report.findings and report.worst != "fine" else None
    said = f"{first.name} {first.type}: {first.what}; {report.summary}" if first else report.summary
    data = " ".join(f"{level}={report.counts[level]}" for level in LEVELS)
    return code, f"DNS {word} - {printable(said.replace('|', '/'))} | {data}\n"


def _line(one: Finding) -> str:
    mark, colour = _MARKS[one.level]
    return f"{click.style(mark, fg=colour)}  {printable(one.name)} {one.type}: {printable(one.what)}"


def _block(one: Finding) -> str:
    lines = [_line(one)]
    lines += _some([_part("found", _shown(value)) for value in one.found])
    if one.where:
        lines.append(_part("at", "; ".join(one.where)))
    lines += _some([_part("remove", _row(row, one, cut=True)) for row in one.remove])
    lines += [_part("publish", _row(row, one)) for row in one.publish]
    if one.by_hand:
        lines.append(_part("do", one.by_hand))
    return "\n".join(lines) + "\n"


def _some(lines: list[str]) -> list[str]:
    """The first of many."""
    more = len(lines) - _MAX_LINES
    return lines if more <= 0 else [*lines[:_MAX_LINES], _part("", f"and {more} more")]


def _row(row: Row, of: Finding, *, cut: bool = False) -> str:
    value = _shown(row.value) if cut else printable(row.value)
    return value if (row.name, row.type) == (of.name, of.type) else f"{row.name} {row.type} {value}"


def _part(word: str, text: str) -> str:
    """A value to paste is never wrapped: a break would become part of it."""
    text = printable(text)
    if word not in {"at", "do"}:
        return f"         {word:9}{text}"
    return textwrap.fill(text, _WIDTH, initial_indent=f"         {word:9}", subsequent_indent=" " * 18)


def _shown(value: str) -> str:
    return value if len(value) <= _MAX_SHOWN else f"{value[:_MAX_SHOWN]}… ({len(value)} characters)"


def _data(one: Finding) -> dict[str, Any]:
    return {
        "level": one.level,
        "code": one.code,
        "name": f"{one.name}.",
        "type": one.type,
        "what": one.what,
        "found": [_utf8(value) for value in one.found],
        "where": list(one.where),
        "remove": _rows(one.remove),
        "publish": _rows(one.publish),
        "by_hand": one.by_hand,
    }


def _rows(rows: Sequence[Row]) -> list[dict[str, str]]:
    return [{"name": f"{one.name}.", "type": one.type, "value": _utf8(_absolute(one))} for one in rows]


def _absolute(row: Row) -> str:
    """The value as `dns records` prints it: a name ends with a dot."""
    return f"{row.value}." if row.type in {"CNAME", "MX", "PTR"} and not row.value.endswith(".") else row.value


def _utf8(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _number(count: int, of: str) -> str:
    return f"{count} {of}{'' if count == 1 else 's'}"
