"""mailstack queue: what a person reads, and what is said before an engine is asked."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from mailstack.cli.app import main
from mailstack.cli.queue import age, list_text, size

NOW = 1_790_000_000
ONE = {
    "id": "4jd8m72vyhzD29r",
    "queue": "deferred",
    "arrived": NOW - 3 * 3600,
    "size": 52_400,
    "sender": "user@a.example",
    "recipients": [
        {"address": "x@b.example", "reason": "connect to b.example: Connection timed out"},
        {"address": "y@b.example\x1b[31m", "reason": ""},
    ],
}


def test_list() -> None:
    """A row for each message, a line for each recipient with the reason; nothing that steers a terminal."""
    assert list_text([ONE, ONE | {"id": "4jd8", "sender": "", "recipients": []}], NOW).splitlines() == [
        "id               queue     age  size   from",
        "4jd8m72vyhzD29r  deferred  3 h  52 kB  user@a.example",
        "    to x@b.example: connect to b.example: Connection timed out",
        "    to y@b.example?[31m",
        "4jd8             deferred  3 h  52 kB  <>",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0 s"), (0, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "119 min"), (7200, "2 h"), (900_000, "10 days")],
)
def test_age(seconds: int, text: str) -> None:
    """In the largest unit of which there are two; a clock that went back makes nothing of it."""
    assert age(seconds) == text


@pytest.mark.parametrize(
    ("octets", "text"), [(0, "0 B"), (9999, "9999 B"), (10_000, "10 kB"), (52_428_800, "52429 kB")]
)
def test_size(octets: int, text: str) -> None:
    """In octets as long as they can be read."""
    assert size(octets) == text


@pytest.mark.parametrize("verb", ["hold", "release", "delete"])
@pytest.mark.parametrize("arguments", [[], ["4jd8m72vyhzD29r", "--all"]])
def test_these_or_all(verb: str, arguments: list[str]) -> None:
    """One of both, so that a slip removes nothing."""
    done = CliRunner().invoke(main, ["queue", verb, *arguments])
    assert done.exit_code == 2
    assert ("give queue ids or --all, not both" if arguments else "give queue ids, or --all") in done.stderr


@pytest.mark.parametrize("verb", ["show", "flush", "hold", "release", "delete"])
@pytest.mark.parametrize("odd", ["ALL", "-", "--", "4bX;reboot", "../etc/passwd", "x" * 40])
def test_what_is_no_queue_id(verb: str, odd: str) -> None:
    """It comes to no command of Postfix's, to which "ALL" and "-" mean something."""
    done = CliRunner().invoke(main, ["queue", verb, "--", odd])
    assert done.exit_code == 1
    assert done.stderr == f"error: {odd!r} is not a queue id; see: mailstack queue list\n"


@pytest.mark.parametrize("arguments", [["list"], ["show", "4jd8m72vyhzD29r"], ["flush"], ["delete", "--all"]])
def test_nothing_was_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    """There is no queue, and no engine is asked."""
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["queue", *arguments])
    assert done.exit_code == 1
    assert done.stderr == f"error: {tmp_path}: nothing was built here; run: mailstack build\n"
