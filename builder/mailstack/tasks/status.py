"""How a site is, as plain data."""

import contextlib
import dataclasses
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mailstack.dns import records
from mailstack.engine import connection, images
from mailstack.engine import status as engine_status
from mailstack.engine.connection import Client
from mailstack.engine.logs import Line, logs
from mailstack.engine.status import NOT_THERE, NOTHING_SERVED, Queued, Service
from mailstack.errors import EngineError, MailstackError
from mailstack.keys import life
from mailstack.keys.life import Life
from mailstack.render.compose import assembled
from mailstack.render.contexts import image_names
from mailstack.render.site import files
from mailstack.settings.model import PREFIX
from mailstack.stack.decide import key_domains
from mailstack.stack.model import Stack
from mailstack.stack.services import service_names
from mailstack.tasks import written
from mailstack.tasks.load import is_made, read, stack_of
from mailstack.trace import judges
from mailstack.trace.event import VERDICT
from mailstack.version import version

# How many verdicts are shown, and among how many lines they are looked for.
_VERDICTS = 5
_LINES = 200


def status(directory: Path, environment: Mapping[str, str], *, prefix: str = "") -> tuple[dict[str, Any], list[str]]:
    """How the site is, as status_data() has it, with warnings. Raises MailstackError before the first build."""
    chosen, added = read(directory, environment)
    if not is_made(directory, chosen):
        raise MailstackError(f"{chosen.hostname} was not built with these settings; run: mailstack build")
    stack, _ = stack_of(directory, chosen, prefix)
    lives = life.read(directory, chosen.dkim_selector)
    client = connection.connect()
    # What containers are asked takes its time, in which the files are worked out.
    with ThreadPoolExecutor() as pool:
        milters = pool.submit(engine_status.milters, client, stack.project, stack.extra_milters)
        sasl = pool.submit(engine_status.sasl, client, stack.project, stack.sasl)
        counts = pool.submit(engine_status.counts, client, stack.project)
        certificates = pool.submit(engine_status.certificates, client, stack.project)
        latest = pool.submit(_latest, client, stack.project)
        built, states, queue = _built(client, directory, stack, added)
    data = status_data(
        stack,
        states,
        queue,
        milters.result(),
        counts.result(),
        built=built,
        certificates=certificates.result(),
        sasl=sasl.result(),
        latest=latest.result(),
        lives={one: lives[one] for one in key_domains(chosen) if one in lives},
    )
    ages = {one.image: one.image_age for one in states if one.image_age is not None}
    others = _other_sites(directory, engine_status.started_in(client, stack.project))
    return data, [*others, *certificates.result().remarks, *images.age_warnings(ages, stack.image_max_age)]


def _other_sites(directory: Path, started_in: Iterable[str]) -> list[str]:
    """A sentence for each other directory on this host whose containers have this site's names, such as of a copy."""
    return [
        f"containers of this name were started in {one}; 'docker compose up' here replaces them, and both use the same "
        "volumes"
        for one in started_in
        if _is_another(Path(one), directory)
    ]


def _is_another(path: Path, directory: Path) -> bool:
    """Whether a path is another directory of this host; one of another host, or of a virtual machine, is not here."""
    try:
        return path.is_dir() and not path.samefile(directory)
    except OSError:
        return False


def _built(
    client: Client, directory: Path, stack: Stack, overrides: Mapping[str, str]
) -> tuple[bool, list[Service], Queued | None]:
    """Whether the files are as a build writes them, the services beside what they should be, and the queue."""
    before = written.read(directory)
    wanted = service_names(stack)
    names = image_names(wanted, stack.packages)
    # What compose.yaml names, if it is built from what a build would take.
    names |= {service: name for service, name in before.images.items() if name.startswith(f"{names.get(service)}-")}
    parts = files(stack, overrides)
    places = written.places(directory, parts)
    built = written.is_built(directory, assembled(stack, parts, names, places))
    states, queue = engine_status.look(client, stack.project, {one: (names[one], places[one]) for one in wanted})
    return built, states, queue


def _latest(client: Client, project: str) -> list[dict[str, Any]]:
    """The last verdicts; nothing where logs are kept elsewhere than with the engine, and need not be read here."""
    with contextlib.suppress(EngineError):
        for log in logs(client, project, ["dmarc"]).values():
            return verdicts(log.lines(last=_LINES))
    return []


def verdicts(lines: Iterable[Line]) -> list[dict[str, Any]]:
    """The last verdicts on incoming mail that lines of dmarc's log have, the latest last."""
    found = deque[dict[str, Any]](maxlen=_VERDICTS)
    for one in lines:
        line = judges.line("dmarc", one.text)
        about = line.event.about if line else {}
        # Other lines about a message do not say whose it is.
        if line and line.event.kind == VERDICT and "sender" in about:
            shown = {"time": one.time, "queue_id": line.queue_id, "sender": about["sender"], "author": about["author"]}
            found.append(shown | {"verdict": line.event.text})
    return list(found)


def status_data(
    stack: Stack,
    services: Sequence[Service],
    queue: Queued | None,
    milters: Mapping[str, str],
    counts: Mapping[str, Mapping[str, Any]],
    *,
    built: bool,
    certificates: engine_status.Certificates = NOTHING_SERVED,
    sasl: str = "",
    latest: Sequence[Mapping[str, Any]] = (),
    lives: Mapping[str, Life] = MappingProxyType({}),
) -> dict[str, Any]:
    """The state of a site as plain data.

    milters has what is wrong with each extra milter, counts what each service did with messages that it did not just
    accept, certificates what Postfix presents; built says whether compose.yaml and what it mounts are as a build
    writes them, sasl what is wrong with the auth service, latest the last verdicts, lives the domains with two
    DKIM keys.
    """
    return {
        "project": stack.project,
        "version": version(),
        "well": built
        and all(one.well for one in services)
        and queue is not None
        and not any(milters.values())
        and not sasl
        and not certificates.faults,
        "built": built,
        "services": [dataclasses.asdict(one) | {"well": one.well} for one in services],
        "queue": queue and queue.messages,
        "waiting": [{"reason": one, "recipients": number} for one, number in queue.reasons.items()] if queue else [],
        "verdicts": list(latest),
        "milters": [{"milter": one, "fault": fault} for one, fault in milters.items()],
        "sasl": stack.sasl and {"server": stack.sasl, "fault": sasl},
        "judged": [{"service": service, **found} for service, found in counts.items()],
        "certificates": {"served": list(certificates.served), "faults": list(certificates.faults)},
        "published": list(stack.publish),
        "keys": [{"record": one.name, "bits": one.bits, "file": str(one.path)} for one in stack.keys.signers],
        "keys_beside": [
            {"record": f"{one.beside}._domainkey.{domain}", "state": one.state, "next": one.next_step}
            for domain, one in lives.items()
        ],
        "records": records.count(stack),
    }


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
        some = f": {', '.join(absent)} {'was' if len(absent) == 1 else 'were'}"
        which = " was" if len(absent) == len(services) else some
        yield f"{which} not started; run: docker compose up -d --wait"
    if any(one["state"] == "running" and not one["current"] for one in services):
        yield ": some containers are still from an earlier build; run: docker compose up -d --wait"
    down = [one["name"] for one in services if one["state"] != "running"]
    if down:
        verb = "is" if len(down) == 1 else "are"
        yield f": {', '.join(down)} {verb} not running; see 'docker compose logs {' '.join(down)}'"
    silent = [one["milter"] for one in data["milters"] if one["fault"]]
    if silent:
        verb, it = ("does", "it") if len(silent) == 1 else ("do", "them")
        yield (
            f": {', '.join(silent)} in {PREFIX}EXTRA_MILTERS {verb} not answer; start {it}, "
            f"or remove {it} and run: mailstack build && docker compose up -d --wait"
        )
    if data["sasl"] and data["sasl"]["fault"]:
        server = data["sasl"]["server"]
        yield f": nobody can log in, because {server} ({PREFIX}SASL) does not answer; start it, or change the setting"
    for fault in data["certificates"]["faults"]:
        yield f": {fault}"
    yield " has a problem; see 'docker compose ps' and 'docker compose logs'"
