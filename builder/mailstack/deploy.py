"""A use case over settings, keys, rendering and the engine: bring a directory to the state its settings ask for."""

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mailstack import checks, overrides, render, report, written
from mailstack import environment as variables
from mailstack.engine import base, checker, connection, images, preflight
from mailstack.engine import status as engine_status
from mailstack.errors import MailstackError, SettingsError, os_reason
from mailstack.keys import authserv_id, dkim
from mailstack.settings import PREFIX, Settings
from mailstack.stack import SERVICES, Packages, Stack, key_domains, packages_from, stack_from


@dataclass(frozen=True)
class Deployment:
    """What a build did: the Stack, the files that changed, the images that were made, and what a person should know."""

    stack: Stack
    changed: tuple[str, ...]
    built: tuple[str, ...]
    warnings: tuple[str, ...]


def load_stack(directory: Path, environment: Mapping[str, str]) -> tuple[Stack, tuple[str, ...]]:
    """The Stack of a directory, with warnings; keys that were never made are made.

    Raises SettingsError before anything is written, DkimKeyError and SecretError for a secret that cannot be used.
    """
    chosen = variables.read_settings(directory, environment)
    with contextlib.nullcontext() if _is_made(directory, chosen) else written.locked(directory):
        return _stack_of(directory, chosen)


def _is_made(directory: Path, chosen: Settings) -> bool:
    """Whether all secrets are made."""
    keys = (dkim.is_made(directory, domain, chosen.dkim_selector) for domain in key_domains(chosen))
    return all(keys) and authserv_id.is_made(directory)


def _read(directory: Path, environment: Mapping[str, str]) -> tuple[Settings, dict[str, str]]:
    """Settings and overrides. Raises SettingsError with the faults of both."""
    try:
        chosen = variables.read_settings(directory, environment)
    except SettingsError as error:
        faults = list(error.faults)
        try:
            overrides.read(directory)
        except SettingsError as more:
            faults += more.faults
        raise SettingsError(faults) from None
    return chosen, overrides.read(directory)


def _stack_of(directory: Path, chosen: Settings, prefix: str = "") -> tuple[Stack, tuple[str, ...]]:
    # Before a key is made in the place of one that somebody has put there.
    warnings = checks.warnings(chosen) + _unused_keys(directory, chosen)

    def key_of(domain: str) -> dkim.DkimKey:
        key, found = dkim.ensure(directory, domain, chosen.dkim_selector, chosen.dkim_key_bits)
        warnings.extend(found)
        return key

    digest, found = authserv_id.ensure(directory)
    stack = stack_from(chosen, key_of, digest, prefix=prefix)
    warnings.extend(found)
    return stack, tuple(dict.fromkeys(warnings))


def check(directory: Path, environment: Mapping[str, str]) -> tuple[str, ...]:
    """Validate settings, overrides and the keys that are there, and write nothing; the warnings."""
    chosen, _ = _read(directory, environment)
    warnings = checks.warnings(chosen) + _unused_keys(directory, chosen)
    for domain in key_domains(chosen):
        warnings += dkim.look(directory, domain, chosen.dkim_selector)
    warnings += authserv_id.look(directory)
    return tuple(dict.fromkeys(warnings))


def make_base(directory: Path, environment: Mapping[str, str], *, replace: bool) -> str:
    """Make the base image; a sentence that says what was done. The settings are optional here."""
    given = [name for name in environment if name.startswith(PREFIX)]
    if given or os.path.lexists(directory / ".env"):
        packages = packages_from(variables.read_settings(directory, environment))
    else:
        packages = Packages(str(Settings.model_fields["base_image"].default))
    client = connection.connect()
    if not replace and images.exists(client, packages.base_image):
        return f"image {packages.base_image} already exists; use --replace to rebuild it"
    base.make(client, packages)
    return f"{packages.base_image} is made"


def status(directory: Path, environment: Mapping[str, str], *, prefix: str = "") -> tuple[dict[str, Any], list[str]]:
    """How the site is, as report.status_data() has it, with warnings. Raises MailstackError before the first build."""
    chosen, added = _read(directory, environment)
    if not _is_made(directory, chosen):
        raise MailstackError(f"{chosen.hostname} was not built with these settings; run: mailstack build")
    stack, _ = _stack_of(directory, chosen, prefix)
    client = connection.connect()
    before = written.read(directory)
    names = render.image_names(SERVICES, stack.packages)
    # What compose.yaml names, if it is built from what a build would take.
    names |= {service: name for service, name in before.images.items() if name.startswith(f"{names.get(service)}-")}
    parts = render.services(stack, added)
    places = written.places(directory, parts)
    built = written.is_built(directory, render.assembled(stack, parts, names, places))
    services, queue = engine_status.look(client, stack.project, {one: (names[one], places[one]) for one in SERVICES})
    ages = {one.image: one.image_age for one in services if one.image_age is not None}
    milters = engine_status.milters(client, stack.project, stack.extra_milters)
    counts = engine_status.counts(client, stack.project)
    data = report.status_data(stack, services, queue, milters, counts, built=built)
    return data, images.age_warnings(ages, stack.image_max_age)


def build(directory: Path, environment: Mapping[str, str], *, refresh: bool = False, prefix: str = "") -> Deployment:
    """Validate, make keys, build images, let the daemons check their files, write the files, in this order.

    The files come last: a failed build leaves the running stack's files as they are. Raises MailstackError while
    another build works in the directory. prefix is what a world puts before the compose project's name.
    """
    with written.locked(directory):
        return _build(directory, environment, refresh=refresh, prefix=prefix)


def _build(directory: Path, environment: Mapping[str, str], *, refresh: bool, prefix: str) -> Deployment:
    before = written.read(directory)
    known = set((directory / dkim.DIRECTORY).glob("*.pem"))
    chosen, added = _read(directory, environment)
    stack, warnings = _stack_of(directory, chosen, prefix)
    warnings = (*warnings, *_news(stack, directory, before.project, known))
    client = connection.connect()
    contexts = render.image_names(SERVICES, stack.packages)
    built = images.build_missing(client, contexts, stack.packages, refresh=refresh)
    names = {
        service: images.lasting_name(client, name, None if refresh else before.images.get(service))
        for service, name in contexts.items()
    }
    parts = render.services(stack, added)
    places = written.places(directory, parts)
    site = render.assembled(stack, parts, names, places)
    to_check = [
        service
        for service in checker.CHECKED
        if names[service] != before.images.get(service)
        or parts[service].under(f"{render.SITE}/{places[service]}").differs(directory)
    ]
    seen: Mapping[str, Any] = {}
    if to_check or checker.override(directory) or site.differs(directory):
        seen = checker.check_compose(directory, site[render.COMPOSE].content)
        own = {one: {f"/{path}": f"{render.SITE}/{places[one]}/{path}" for path in parts[one]} for one in SERVICES}
        checker.check_mounts(directory, seen, own)
        checker.check_addresses(seen, stack)
    for service in to_check:
        mine = [name for name in added if name.partition("/")[0] == service]
        theirs = {at: source for at, source in checker.mounted(seen[service]).items() if at[1:] not in parts[service]}
        checker.check(client, service, names[service], parts[service], added=mine, mounted=theirs)
    try:
        warnings += written.keep_edited(directory)
        changed = written.write(directory, site, engine_status.mounted(client))
    except OSError as error:
        raise MailstackError(f"{error.filename}: cannot be written: {os_reason(error)}") from None
    if refresh:
        for name in contexts.values():
            images.remove_old(client, name, {*names.values(), *before.images.values()})
    ages = {name: images.age(client, name) for name in names.values()}
    warnings += (*preflight.warnings(client), *images.age_warnings(ages, stack.image_max_age))
    return Deployment(stack, tuple(changed), tuple(built), warnings)


def roll_back(directory: Path) -> tuple[str, ...]:
    """Put back the compose.yaml of the build before, with its files and images; what a person should know.

    The next one exchanges them again.
    """
    with written.locked(directory):
        now, before = written.read(directory), written.read(directory, render.PREVIOUS)
        client = connection.connect()
        for name in before.images.values():
            if not images.exists(client, name):
                raise MailstackError(f"{name}: the image was removed, so the earlier build cannot run")
        return (*written.roll_back(directory), *_other_project(now.project, before.project))


def _news(stack: Stack, directory: Path, before: str | None, known: set[Path]) -> list[str]:
    """What a build changes for a site that was built before, as sentences."""
    if not before:
        return []
    found = [
        f"{key.path} is new: publish {key.name} before 'docker compose up', which signs with it at once"
        for key in stack.keys
        if directory / key.path not in known
    ]
    return [*found, *_other_project(before, stack.project)]


def _other_project(before: str | None, project: str | None) -> list[str]:
    """A sentence about what runs under the project's name of before, if that is another one."""
    if not before or before == project:
        return []
    return [
        (
            f"the host name is the name of the compose project: what runs as {before} goes on beside this one. End it "
            f"with 'docker compose -p {before} down'; its queue and mail stay in the volumes {before}_queue and "
            f"{before}_mail"
        )
    ]


def _unused_keys(directory: Path, chosen: Settings) -> list[str]:
    """A sentence for each key that was brought along and that nothing uses, with the settings that would use it.

    A key that has its record beside it was used once, and rests there; it counts where a new one is to take its place.
    """
    used = {f"{chosen.dkim_selector}._domainkey.{domain}.pem" for domain in key_domains(chosen)}
    there = {path.name: path for path in (directory / dkim.DIRECTORY).glob("*.pem")}
    new = used - there.keys()
    rest = [name for name in there.keys() - used if new or not there[name].with_suffix(".txt").exists()]
    return [f"{dkim.DIRECTORY / name} is not used: {_what_uses(name, chosen)}" for name in sorted(rest)]


def _what_uses(name: str, chosen: Settings) -> str:
    selector, mark, domain = name.removesuffix(".pem").partition("._domainkey.")
    if not mark:
        return "its name is not SELECTOR._domainkey.DOMAIN.pem; rename it, or move it away"
    if domain not in {*chosen.domains, chosen.hostname}:
        return f"{domain} is no domain of this site; add it to {PREFIX}DOMAINS, or move the key away"
    changes = []
    if selector != chosen.dkim_selector:
        changes.append(f"{PREFIX}DKIM_SELECTOR={selector}")
    if domain not in key_domains(chosen):
        changes.append(f"{PREFIX}DKIM_KEYS=per-domain")
    return (
        f"the selector is {chosen.dkim_selector!r} and {PREFIX}DKIM_KEYS is {chosen.dkim_keys!r}. To sign with it, set "
        f"{' and '.join(changes)}; otherwise move it away"
    )
