"""Postfix's queue."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from mailstack import console
from mailstack.cli.shared import JSON, here, json_text, size, table
from mailstack.console import printable
from mailstack.tasks import queue as task

_MINUTE, _HOUR, _DAY = 60, 60 * 60, 24 * 60 * 60

IDS = click.argument("queue_ids", metavar="ID...", nargs=-1)
ALL = click.option("--all", "everything", is_flag=True, help="All messages.")


@click.group()
def queue() -> None:
    """Show, flush, hold, release or delete the messages in Postfix's queue."""


@queue.command(name="list")
@JSON
def list_(*, as_json: bool) -> None:
    """List the messages in the queue, the oldest first, with the reason why each waits."""
    found = task.messages(here())
    click.echo(json_text(found) if as_json else list_text(found, time.time()), nl=False)


@queue.command()
@click.option("--raw", is_flag=True, help="Print the message itself, with its body, and nothing else.")
@click.argument("queue_id", metavar="ID")
def show(queue_id: str, *, raw: bool) -> None:
    """Print one message's state and header."""
    if raw:
        click.echo(task.content(here(), queue_id), nl=False)
        return
    found, header = task.show(here(), queue_id)
    click.echo(f"{list_text([found], time.time())}\n{header}", nl=False)


@queue.command()
@IDS
def flush(queue_ids: tuple[str, ...]) -> None:
    """Try to deliver these messages now, or all that are deferred."""
    _say(task.flush(here(), queue_ids), "will be tried now")


@queue.command()
@IDS
@ALL
def hold(queue_ids: tuple[str, ...], *, everything: bool) -> None:
    """Keep messages in the queue, without delivery attempts, until they are released."""
    _change(task.hold, queue_ids, "put on hold", everything=everything)


@queue.command()
@IDS
@ALL
def release(queue_ids: tuple[str, ...], *, everything: bool) -> None:
    """Release messages from hold."""
    _change(task.release, queue_ids, "released", everything=everything)


@queue.command()
@IDS
@ALL
def delete(queue_ids: tuple[str, ...], *, everything: bool) -> None:
    """Remove messages for good. Their senders get no notice."""
    _change(task.delete, queue_ids, "deleted", everything=everything)


def _change(
    change: Callable[[Path, Sequence[str] | None], int], queue_ids: Sequence[str], done: str, *, everything: bool
) -> None:
    if bool(queue_ids) == everything:
        raise click.UsageError("give queue ids or --all, not both" if everything else "give queue ids, or --all")
    _say(change(here(), None if everything else queue_ids), done)


def _say(count: int, done: str) -> None:
    console.progress(f"{count} message{'' if count == 1 else 's'} {done}")


def list_text(messages: Sequence[Mapping[str, Any]], now: float) -> str:
    """What waits, for people."""
    if not messages:
        return "the queue is empty\n"
    rows = [["id", "queue", "age", "size", "from"]]
    rows += [
        [one["id"], one["queue"], age(now - one["arrived"]), size(one["size"]), printable(one["sender"]) or "<>"]
        for one in messages
    ]
    heading, *lines = table(rows).splitlines()
    found = [heading]
    for line, one in zip(lines, messages, strict=True):
        found.append(line)
        found += [
            f"    to {printable(to['address'])}{': ' if to['reason'] else ''}{printable(to['reason'])}"
            for to in one["recipients"]
        ]
    return "\n".join(found) + "\n"


def age(seconds: float) -> str:
    """How long ago, in the largest unit of which it is two or more."""
    for unit, length in (("days", _DAY), ("h", _HOUR), ("min", _MINUTE)):
        if seconds >= 2 * length:
            return f"{seconds // length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
