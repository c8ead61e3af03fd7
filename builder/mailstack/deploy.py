"""A use case over settings, keys, rendering and the engine: bring a directory to the state its settings ask for."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mailstack import environment as variables
from mailstack import render
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
    warnings = chosen.warnings()

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
    running = (directory / "compose.yaml").exists()
    known = set((directory / dkim.DIRECTORY).glob("*.pem"))
    stack, warnings = load_stack(directory, environment)
    if running:
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
