"""A use case over settings, keys, rendering and the engine: bring a directory to the state its settings ask for."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mailstack import checks, render
from mailstack import environment as variables
from mailstack.engine import images, preflight
from mailstack.errors import MailstackError
from mailstack.keys import dkim
from mailstack.stack import SERVICES, Stack, stack_from


@dataclass(frozen=True)
class Deployment:
    """What a build did: the Stack, the files that changed, the images that were made, and what a person should know."""

    stack: Stack
    changed: tuple[str, ...]
    built: tuple[str, ...]
    warnings: tuple[str, ...]


def load_stack(directory: Path, environment: Mapping[str, str]) -> tuple[Stack, tuple[str, ...]]:
    """The Stack of a directory, with warnings; keys that were never made are made.

    Raises SettingsError before anything is written, DkimKeyError for a key that cannot be used.
    """
    chosen = variables.load(variables.read_environment(directory, environment))
    warnings = checks.warnings(chosen)

    def key_of(domain: str) -> dkim.DkimKey:
        key, found = dkim.ensure(directory, domain, chosen.dkim_selector, chosen.dkim_key_bits)
        warnings.extend(found)
        return key

    stack = stack_from(chosen, key_of)
    return stack, tuple(dict.fromkeys(warnings))


def build(directory: Path, environment: Mapping[str, str], *, refresh: bool = False) -> Deployment:
    """Validate, make keys, build images, write compose.yaml and the mounted files, in this order.

    The files come last: a failed build leaves the running stack's files as they are.
    """
    before = _project(directory)
    known = set((directory / dkim.DIRECTORY).glob("*.pem"))
    stack, warnings = load_stack(directory, environment)
    if before and before != stack.project:
        renamed = (
            f"the host name is the name of the compose project: what runs as {before} goes on beside this one. End it "
            f"with 'docker compose -p {before} down'; its queue and mail stay in the volumes {before}_queue and "
            f"{before}_mail"
        )
        warnings = (*warnings, renamed)
    if before:
        warnings += tuple(
            f"{key.path} is new: publish {key.name} before 'docker compose up', which signs with it at once"
            for key in stack.keys
            if directory / key.path not in known
        )
    client = images.connect()
    built = images.build_missing(client, SERVICES, stack.base_image, refresh=refresh)
    try:
        changed = render.site(stack).write(directory, owned=render.SITE)
    except OSError as error:
        raise MailstackError(f"{error.filename}: cannot be written: {error.strerror}") from None
    return Deployment(stack, tuple(changed), tuple(built), (*warnings, *preflight.warnings(client)))


def _project(directory: Path) -> str | None:
    """The compose project that an earlier build wrote; None before the first."""
    file = directory / "compose.yaml"
    lines = file.read_text(errors="replace").splitlines() if file.is_file() else []
    return next((line.removeprefix("name: ") for line in lines if line.startswith("name: ")), None)
