"""One message's way through all containers."""

import re
import time
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import click

from mailstack import compose, console
from mailstack.cli.shared import JSON, here, json_text, size
from mailstack.tasks import trace as task
from mailstack.trace.event import VERDICT

_UNITS = {"m": 60, "h": 60 * 60, "d": 24 * 60 * 60}
_BACK = re.compile(r"([0-9]{1,6})([mhd])")
# Recipients that are listed of each of many messages.
_MOST_RECIPIENTS = 5


def _moment(_context: click.Context, _option: click.Parameter, text: str | None) -> float | None:
    """A time in seconds since 1970."""
    if text is None:
        return None
    now = time.time()
    if back := _BACK.fullmatch(text):
        return max(now - int(back[1]) * _UNITS[back[2]], 0)
    try:
        found = datetime.fromisoformat(text)
        moment = (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise click.BadParameter(f"{text!r} is no time; write 30m, 12h, 7d, or 2026-11-30T12:00 (UTC)") from None
    if not 0 <= moment <= now:
        raise click.BadParameter(f"{text!r} is not in the past; write, for example: 12h")
    return moment


@click.command()
@JSON
@click.option(
    "--since",
    metavar="TIME",
    callback=_moment,
    help="How far to look back: 30m, 12h, 7d, or a time in UTC, as 2026-11-30T12:00. [default: one day for an address, "
    "else the whole log]",
)
@click.argument("what", metavar="QUEUE-ID|MESSAGE-ID|ADDRESS")
def trace(what: str, since: float | None, *, as_json: bool) -> None:
    """Show what happened to a message, or to all messages from and to an address."""
    found = task.trace(here(), what, since, time.time())
    console.warn(*found["missing"].values())
    if found["more"]:
        console.warn(f"only the newest {task.MAX_MESSAGES} messages are shown")
    click.echo(json_text(found) if as_json else trace_text(found), nl=False)


def trace_text(found: Mapping[str, Any]) -> str:
    """What happened, for people: in full, or of an address's messages the outcome."""
    shown = _short if found["by_address"] else _full
    return "\n".join(["times are UTC", *map(shown, found["messages"])]) + "\n"


def _short(message: Mapping[str, Any]) -> str:
    verdicts = [one["text"] for one in message["events"] if one["event"] == VERDICT and message["action"] != "accept"]
    outcomes = list(dict.fromkeys([*verdicts, *(one["text"] for one in message["outcomes"])]))
    texts = outcomes or [one["text"] for one in message["events"]][-1:]
    lines = [f"    {one}" for one in texts[:_MOST_RECIPIENTS]]
    if len(texts) > _MOST_RECIPIENTS:
        lines.append(f"    and {len(texts) - _MOST_RECIPIENTS} more")
    if message["queue"]:
        lines.append(f"    in the queue: {_waits(message)}")
    return "\n".join([f"{_clock(message['begins'])}  {_heading(message)}", *lines])


def _full(message: Mapping[str, Any]) -> str:
    named = f"Message-ID {message['message_id']}" if message["message_id"] else "Message-ID not known"
    lines = ["", _heading(message)]
    lines.append(named + (f", {size(message['size'])}" if message["size"] else ""))
    if not message["complete"]:
        lines.append("(the log no longer has its beginning)")
    lines += _events(message)
    if message["left_out"]:
        lines.append(f"({message['left_out']} lines of the log are left out)")
    if message["queue"]:
        lines.append(f"in the queue: {_waits(message)}")
    return "\n".join(lines)


def _events(message: Mapping[str, Any]) -> list[str]:
    """A line for each; of deferrals for the same reason the first one, and the last one with their number."""
    total = Counter(one["text"] for one in message["events"])
    seen: Counter[str] = Counter()
    lines = []
    for one in message["events"]:
        text = one["text"]
        seen[text] += 1
        if seen[text] not in {1, total[text]}:
            continue
        again = f" ({total[text]} times)" if seen[text] > 1 else ""
        lines.append(f"{_clock(one['time'])}  {text}{again}")
    return lines


def _heading(message: Mapping[str, Any]) -> str:
    name = message["queue_id"] or "(no queue id)"
    sender = "an unknown sender" if message["sender"] is None else message["sender"] or "<>"
    return f"{name}  from {sender}{_to(message)}"


def _to(message: Mapping[str, Any]) -> str:
    recipients = message["recipients"]
    others = len(recipients) - _MOST_RECIPIENTS
    if not recipients:
        return ""
    return f" to {', '.join(recipients[:_MOST_RECIPIENTS])}{f' and {others} more' if others > 0 else ''}"


def _waits(message: Mapping[str, Any]) -> str:
    queue = message["queue"]
    if queue["next_try"]:
        return f"next try after {_clock(queue['next_try'])}"
    held = queue["name"] == "hold"
    return (
        compose.spoken(f"on hold; run: mailstack queue release {message['queue_id']}") if held else str(queue["name"])
    )


def _clock(moment: str) -> str:
    return moment[:19].replace("T", " ")
