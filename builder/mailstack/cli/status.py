"""How a site is, and what to do first with it."""

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import click

from mailstack import compose, console
from mailstack.cli.shared import JSON, here, json_text, table
from mailstack.engine.status import NOT_THERE
from mailstack.errors import DkimKeyError, NotWellError, SecretError, SettingsError
from mailstack.settings.load import read_settings
from mailstack.tasks import first_steps as steps
from mailstack.tasks import status as task
from mailstack.tasks.status import why_not_well


@click.command()
@JSON
def status(*, as_json: bool) -> None:
    """Show services, queue, images and keys. Exit code 5 if a service has a problem."""
    try:
        data, warnings = task.status(here(), os.environ)
    except (SettingsError, DkimKeyError, SecretError):
        console.warn("service status was not checked; see 'docker compose ps' and 'docker compose logs'")
        raise
    console.warn(*warnings)
    click.echo(json_text(data) if as_json else compose.spoken(status_text(data)), nl=False)
    if not data["well"]:
        raise NotWellError(f"{data['project']}{why_not_well(data)}")


@click.command(name="first-steps")
def first_steps() -> None:
    """Print how to send a first message with this site."""
    click.echo(compose.spoken(steps.first_steps(read_settings(here(), os.environ))), nl=False)


def status_text(data: Mapping[str, Any]) -> str:
    """What the task says, for people."""
    rows = [["service", "state", "image", "made"]]
    for one in data["services"]:
        state = " ".join(filter(None, [one["state"], one["health"]]))
        if one["state"] == "running" and not one["current"]:
            state += ", of an earlier build"
        made = "not built" if one["image_age"] is None else f"{one['image_age']} days ago"
        rows.append([one["name"], state, one["image"], made])
    count = data["queue"]
    started = any(one["name"] == "postfix" and one["state"] != NOT_THERE for one in data["services"])
    unknown = "Postfix does not answer" if started else "not started"
    queue = unknown if count is None else _number(count, "message")
    lines = [
        table(rows).rstrip(),
        "",
        f"queue      {queue}",
        *(f"waiting    {_number(one['recipients'], 'recipient')}: {one['reason']}" for one in data["waiting"]),
        *(f"milter     {one['milter']}, {one['fault'] or 'answers'}" for one in data["milters"]),
        *(f"SASL       {one['server']}, {one['fault'] or 'answers'}" for one in filter(None, [data["sasl"]])),
        *(f"incoming   {line}" for one in data["judged"] for line in _judged(one)),
        *(f"verdict    {_verdict(one)}" for one in data["verdicts"]),
        *(f"TLS        {_certificate(found)}" for found in data["certificates"]["served"]),
        *(f"TLS        {fault}" for fault in data["certificates"]["faults"]),
        f"published  {', '.join(data['published']) or 'nothing'}",
        *(f"DKIM key   {one['record']}, {one['bits']} bits, {one['file']}" for one in data["keys"]),
        *(f"DKIM key   {one['record']} {one['next']}" for one in data["keys_beside"]),
        f"DNS        {data['records']} records to publish: mailstack dns records",
        f"version    mailstack {data['version']}",
    ]
    return "\n".join(lines) + "\n"


def _certificate(found: Mapping[str, Any]) -> str:
    """A certificate that Postfix presents."""
    where = "self-signed" if found["self_signed"] else found["file"] or "taken earlier"
    return f"{', '.join(found['names'])}, {where}, until {found['until']}"


def _verdict(found: Mapping[str, Any]) -> str:
    """A message that was judged."""
    time = found["time"][:16].replace("T", " ")
    return f"{time} UTC, {found['queue_id']}, from {found['sender']}: {found['verdict']}"


_DONE = {"discard": "discarded", "quarantine": "quarantined", "reject": "rejected", "defer": "deferred"}


def _judged(found: Mapping[str, Any]) -> list[str]:
    """What a service did with messages that it did not just accept."""
    since = datetime.fromtimestamp(found["since"], UTC).strftime("%Y-%m-%d %H:%M UTC")
    lines = []
    for action, rules in found["counts"].items():
        done = f"{_DONE.get(action, action)} {_number(sum(rules.values()), 'message')}"
        by_rule = ", ".join(f"{rule} {number}" for rule, number in rules.items())
        lines.append(f"{found['service']} {done} since {since}, by rule: {by_rule}")
    return lines


def _number(count: int, of: str) -> str:
    return f"{count} {of}{'' if count == 1 else 's'}"
