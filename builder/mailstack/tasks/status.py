"""What a site is and how it is, as tables for people and as data for programs."""

import dataclasses
import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from mailstack.dns.records import records
from mailstack.engine.status import NOT_THERE, Service
from mailstack.settings.model import PREFIX, Settings, variable
from mailstack.settings.reference import default_text, value_text
from mailstack.stack.model import Stack
from mailstack.version import version


def settings_rows(chosen: Settings, given: Mapping[str, str]) -> list[dict[str, str]]:
    """Every setting with the value in force and its source; given has the sources of what is set, by variable."""
    rows = []
    for name, field in Settings.model_fields.items():
        source = given.get(variable(name), "default")
        value = default_text(field) if source == "default" else value_text(getattr(chosen, name))
        rows.append({"variable": variable(name), "value": value, "source": source})
    return rows


def status_data(
    stack: Stack,
    services: Sequence[Service],
    queue: int | None,
    milters: Mapping[str, str],
    counts: Mapping[str, Mapping[str, Any]],
    *,
    built: bool,
) -> dict[str, Any]:
    """The state of a site as plain data.

    milters has what is wrong with each extra milter, counts what each service did with messages that it did not just
    accept, built says whether compose.yaml and what it mounts are as a build writes them.
    """
    return {
        "project": stack.project,
        "version": version(),
        "well": built and all(one.well for one in services) and queue is not None and not any(milters.values()),
        "built": built,
        "services": [dataclasses.asdict(one) | {"well": one.well} for one in services],
        "queue": queue,
        "milters": [{"milter": one, "fault": fault} for one, fault in milters.items()],
        "judged": [{"service": service, **found} for service, found in counts.items()],
        "published": list(stack.publish),
        "keys": [{"record": one.name, "bits": one.bits, "file": str(one.path)} for one in stack.keys],
        "records": len(records(stack)),
    }


def status_text(data: Mapping[str, Any]) -> str:
    """The same for people."""
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
    queue = unknown if count is None else f"{count} message{'' if count == 1 else 's'}"
    lines = [
        table(rows).rstrip(),
        "",
        f"queue      {queue}",
        *(f"milter     {one['milter']}, {one['fault'] or 'answers'}" for one in data["milters"]),
        *(f"judged     {line}" for one in data["judged"] for line in _judged(one)),
        f"published  {', '.join(data['published']) or 'nothing'}",
        *(f"DKIM key   {one['record']}, {one['bits']} bits, {one['file']}" for one in data["keys"]),
        f"DNS        {data['records']} records to publish: mailstack dns records",
        f"version    mailstack {data['version']}",
    ]
    return "\n".join(lines) + "\n"


def why_not_well(data: Mapping[str, Any]) -> str:
    """What is wrong with a site that is not well, to be read after its name, and what to do first."""
    return next(_reasons(data))


def _reasons(data: Mapping[str, Any]) -> Iterator[str]:
    """All that may be wrong, what stands in the way of the others first."""
    services = data["services"]
    if not data["built"]:
        yield (
            ": settings, overrides or files have changed since the last build; "
            "run: mailstack build && docker compose up -d --wait"
        )
    absent = [one["name"] for one in services if one["state"] == NOT_THERE]
    if absent:
        which = "" if len(absent) == len(services) else f": {', '.join(absent)}"
        yield f"{which} was not started; run: docker compose up -d --wait"
    if any(one["state"] == "running" and not one["current"] for one in services):
        yield ": some containers are still from an earlier build; run: docker compose up -d --wait"
    down = [one["name"] for one in services if one["state"] != "running"]
    if down:
        yield f": {', '.join(down)} does not run; see 'docker compose logs {' '.join(down)}'"
    silent = [one["milter"] for one in data["milters"] if one["fault"]]
    if silent:
        yield (
            f": {', '.join(silent)} in {PREFIX}EXTRA_MILTERS does not answer; start it, "
            "or take it out and run: mailstack build && docker compose up -d --wait"
        )
    yield " is not well; 'docker compose ps' and 'docker compose logs' say more"


_DONE = {"discard": "dropped", "quarantine": "quarantined", "reject": "refused", "defer": "deferred"}


def _judged(found: Mapping[str, Any]) -> list[str]:
    """What a service did with messages that it did not just accept."""
    since = datetime.fromtimestamp(found["since"], UTC).strftime("%Y-%m-%d %H:%M UTC")
    return [
        f"{sum(rules.values())} {_DONE.get(action, action)} by {found['service']} since {since}: "
        + ", ".join(f"{rule} {number}" for rule, number in rules.items())
        for action, rules in found["counts"].items()
    ]


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell."""
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines) + "\n"


def as_json(data: Any) -> str:  # noqa: ANN401
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"


def first_steps(chosen: Settings) -> str:
    """How to send a first message with this site, and what comes before mail goes out into the world."""
    mailbox = next(iter(chosen.mailboxes), f"postmaster@{chosen.domains[0]}")
    local, _, domain = mailbox.partition("@")
    # A printf format in a shell's words; an address may hold what either would read.
    message = f"From: {mailbox}\nTo: {mailbox}\nSubject: hello\n\nIt works.\n"
    quoted = shlex.quote(message.replace("%", "%%").replace("\n", "\\n"))
    path = shlex.quote(f"/var/vmail/{domain}/{local}/Maildir/new")
    lines = [
        "Send a first message from inside, and read it:",
        "",
        f"  printf {quoted} |",
        "    docker compose exec -T postfix sendmail -t",
    ]
    if chosen.delivery is None:
        lines.append(f"  docker compose exec -T postfix sh -c {shlex.quote(f'cat {path}/*')}")
    else:
        lines.append(f"  docker compose logs postfix    # status=sent, by {chosen.delivery.server}")
    lines += [
        "",
        "Before mail goes out into the world: publish the records (mailstack dns records), let",
        f"{chosen.hostname} resolve to this host's IPv4 address and the address back to the name (PTR),",
        "without an AAAA record, and see that port 25 is open in both directions.",
    ]
    return "\n".join(lines) + "\n"
