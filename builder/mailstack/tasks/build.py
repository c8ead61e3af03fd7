"""Bring a directory to the state its settings ask for, or back to the one before."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mailstack.engine import checker, connection, images, preflight
from mailstack.engine import status as engine_status
from mailstack.errors import MailstackError, os_reason
from mailstack.keys import certificates, life, relay_login, ring, srs_key
from mailstack.render.compose import COMPOSE, PREVIOUS, SITE, assembled
from mailstack.render.contexts import image_names, is_checked
from mailstack.render.site import files
from mailstack.services import postsrsd
from mailstack.stack.model import Stack
from mailstack.stack.services import service_names
from mailstack.tasks import written
from mailstack.tasks.load import make_secrets, read, stack_of, unused_keys


@dataclass(frozen=True)
class Deployment:
    """What a build did: the Stack, the files that changed, the images that were made, and what a person should know."""

    stack: Stack
    changed: tuple[str, ...]
    built: tuple[str, ...]
    warnings: tuple[str, ...]
    # Services of the build before that the site does not need any more.
    unneeded: tuple[str, ...] = ()


def build(directory: Path, environment: Mapping[str, str], *, refresh: bool = False, prefix: str = "") -> Deployment:
    """Validate, make keys, build images, let the daemons check their files, write the files, in this order.

    The files come last: a failed build leaves the running stack's files as they are. Raises MailstackError while
    another build works in the directory. prefix is what a world puts before the compose project's name.
    """
    with written.locked(directory):
        return _build(directory, environment, refresh=refresh, prefix=prefix)


def _build(directory: Path, environment: Mapping[str, str], *, refresh: bool, prefix: str) -> Deployment:
    before = written.read(directory)
    known = ring.on_disk(directory)
    chosen, added = read(directory, environment)
    # Before a key is made in the place of one that somebody has put there.
    unused = unused_keys(directory, chosen)
    lost = _lost_key(directory, before.images)
    make_secrets(directory, chosen)
    bare = certificates.prepare(directory, chosen.tls_directory)
    stack, warnings = stack_of(directory, chosen, prefix)
    wanted = service_names(stack)
    warnings = (*bare, *dict.fromkeys((*unused, *warnings)), *_news(stack, before.project, known))
    unneeded = tuple(one for one in before.images if one not in wanted)
    warnings += (*_left_over(unneeded), *(lost if stack.srs_key_digest else ()))
    client = connection.connect()
    contexts = image_names(wanted, stack.packages)
    built = images.build_missing(client, contexts, stack.packages, refresh=refresh)
    names = {
        service: images.lasting_name(client, name, None if refresh else before.images.get(service))
        for service, name in contexts.items()
    }
    parts = files(stack, added)
    places = written.places(directory, parts)
    site = assembled(stack, parts, names, places)
    to_check = [
        service
        for service in filter(is_checked, wanted)
        if names[service] != before.images.get(service)
        or parts[service].under(f"{SITE}/{places[service]}").differs(directory)
    ]
    seen: Mapping[str, Any] = {}
    if to_check or checker.override(directory) or site.differs(directory):
        seen = checker.check_compose(directory, site[COMPOSE].content)
        own = {one: {f"/{path}": f"{SITE}/{places[one]}/{path}" for path in parts[one]} for one in wanted}
        checker.check_mounts(directory, seen, own)
        checker.check_addresses(seen, stack)
    for service in to_check:
        mine = [name for name in added if name.partition("/")[0] == service]
        theirs = {at: source for at, source in checker.mounted(seen[service]).items() if at[1:] not in parts[service]}
        checker.check(client, service, names[service], parts[service], added=mine, mounted=theirs)
    try:
        warnings += written.keep_edited(directory)
        mounted = engine_status.mounted(client)
        changed = written.write(directory, site, mounted)
        named = [written.read(directory, name).content.decode(errors="replace") for name in (COMPOSE, PREVIOUS)]
        relay_login.remove_others(directory, "\n".join([*named, *mounted]))
    except OSError as error:
        raise MailstackError(f"{error.filename}: cannot be written: {os_reason(error)}") from None
    if refresh:
        for name in contexts.values():
            images.remove_old(client, name, {*names.values(), *before.images.values()})
    ages = {name: images.age(client, name) for name in names.values()}
    warnings += (*preflight.warnings(client), *images.age_warnings(ages, stack.image_max_age))
    return Deployment(stack, tuple(changed), tuple(built), warnings, unneeded)


def roll_back(directory: Path) -> tuple[str, ...]:
    """Put back the compose.yaml of the build before, with its files and images; what a person should know.

    The next one exchanges them again.
    """
    with written.locked(directory):
        now, before = written.read(directory), written.read(directory, PREVIOUS)
        client = connection.connect()
        for name in before.images.values():
            if not images.exists(client, name):
                raise MailstackError(f"{name}: the image was removed, so the earlier build cannot run")
        for key in sorted(before.keys):
            if not (directory / key).is_file():
                raise MailstackError(f"{directory / key}: is not there any more, so the earlier build cannot run")
        life.signing_again(directory, before.keys, life.time_now())
        return (*written.roll_back(directory), *_other_project(now.project, before.project))


def _news(stack: Stack, before: str | None, known: frozenset[Path]) -> list[str]:
    """What a build changes for a site that was built before, as sentences."""
    if not before:
        return []
    found = [
        f"{key.path} is a new spare key: publish its records (mailstack dns records); it signs after "
        "mailstack dkim rotate"
        for key in dict.fromkeys(one.key for one in stack.keys.spare)
        if key.path not in known
    ]
    found += [
        f"{key.path} is a new key: publish the record {key.name} now. OpenDKIM signs with the key as soon as the stack "
        "runs this build, and its signatures fail until DNS has the record"
        for key in stack.keys.signers
        if key.path not in known
    ]
    return [*found, *_other_project(before, stack.project)]


def _lost_key(directory: Path, before: Collection[str]) -> list[str]:
    """A sentence about the SRS key, if the build before had one and this build makes a new one."""
    if postsrsd.SERVICE.name not in before or srs_key.is_made(directory):
        return []
    return [f"{srs_key.FILE} was missing, so a new key was made: bounces of mail forwarded before this are rejected"]


def _left_over(gone: Collection[str]) -> list[str]:
    """A sentence about services that the site does not need any more; their containers go on."""
    if not gone:
        return []
    verb = "is" if len(gone) == 1 else "are"
    return [f"{', '.join(gone)} {verb} not needed any more; run: docker compose up -d --wait --remove-orphans"]


def _other_project(before: str | None, project: str | None) -> list[str]:
    """A sentence about what runs under the project's name of before, if that is another one."""
    if not before or before == project:
        return []
    return [
        (
            f"the host name has changed, and with it the compose project: the old project {before} may still run. Stop "
            f"it with 'docker compose -p {before} down'; its queue and mail stay in the volumes {before}_queue and "
            f"{before}_mail"
        )
    ]
