"""What earlier builds wrote in a site's directory: compose.yaml, the one before it, and the directories they mount.

The files of a service are in a directory that is named by their digest, .mailstack/<service>/<digest>, and are never
changed there. So a container has the files that it was created with for as long as it exists, whatever is built
meanwhile, and compose recreates those services whose files are others.
"""

import contextlib
import fcntl
import itertools
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mailstack.errors import MailstackError, os_reason
from mailstack.keys import dkim
from mailstack.render.compose import COMPOSE, PREVIOUS, SITE, edited
from mailstack.tree import File, Tree

# The compose.yaml that a rollback replaces, until it is the one before.
_REPLACED = f"{SITE}/replaced.yaml"
_IMAGE = re.compile(r"^    image: (mailstack/([a-z-]+):\S+)$", re.MULTILINE)
_KEY = re.compile(rf"\./({re.escape(str(dkim.DIRECTORY))}/\S+\.pem)$", re.MULTILINE)
_PLACE = re.compile(rf"\./({re.escape(SITE)}/[^/]+/[^/]+)/")


@dataclass(frozen=True)
class Written:
    """What a compose.yaml of ours names; nothing before the first build."""

    content: bytes = b""
    project: str | None = None
    # By service.
    images: Mapping[str, str] = field(default_factory=dict)
    # Directories of SITE whose files are mounted.
    places: frozenset[str] = frozenset()
    # DKIM keys that sign.
    keys: frozenset[str] = frozenset()


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Only one build at a time, which first ends what a rollback left that was killed.

    The directory itself is locked, so that no lock is left of a build that was killed.
    """
    handle = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise MailstackError(f"{directory}: another build is running; wait until it ends, and try again") from None
    except OSError:
        # Some network file systems lock no directories.
        pass
    try:
        _end_rollback(directory)
        yield
    finally:
        os.close(handle)


def read(directory: Path, name: str = COMPOSE) -> Written:
    """What a build wrote as compose.yaml, or as PREVIOUS."""
    file = directory / name
    try:
        content = file.read_bytes() if file.is_file() else b""
    except OSError as error:
        raise MailstackError(f"{file}: cannot be read: {os_reason(error)}") from None
    text = content.decode(errors="replace")
    project = re.search(r"^name: (.*)$", text, re.MULTILINE)
    images = {service: name for name, service in _IMAGE.findall(text)}
    return Written(
        content, project and project[1], images, frozenset(_PLACE.findall(text)), frozenset(_KEY.findall(text))
    )


def project(directory: Path) -> str:
    """The compose project of the last build. Raises MailstackError before the first one."""
    found = read(directory).project
    if found is None:
        raise MailstackError(f"{directory}: nothing was built here; run: mailstack build")
    return found


def places(directory: Path, parts: Mapping[str, Tree]) -> dict[str, str]:
    """The directory of each service's files, from SITE.

    One with other files than its name says was edited, and a container may have started with that; it is not used
    again, mended or not, so that the next "docker compose up" recreates that container.
    """
    return {service: f"{service}/{_place(directory / SITE / service, part)}" for service, part in parts.items()}


def _place(root: Path, part: Tree) -> str:
    digest = part.digest()[:12]
    found = [one.name.partition(".")[2] for one in root.glob(f"{digest}*")]
    last = max((int(number or 1) for number in found if number.isdecimal() or not number), default=1)
    names = [f"{digest}.{number}" if number > 1 else digest for number in (last, last + 1)]
    return names[bool(found) and part.differs(root / names[0])]


def write(directory: Path, site: Tree, in_use: Iterable[str]) -> list[str]:
    """Write the files of a site, compose.yaml last, and keep the compose.yaml that it replaces; what was written.

    Directories that neither of the two mounts go, but for those in use: paths of the host that containers mount.
    """
    before = read(directory)
    if before.content and _without_comments(before.content) != _without_comments(site[COMPOSE].content):
        Tree({PREVIOUS: File(before.content)}).write(directory)
    root = (directory / SITE).resolve()
    paths = [Path(one).resolve() for one in in_use]
    mounted = {"/".join((SITE, *one.relative_to(root).parts[:2])) for one in paths if one.is_relative_to(root)}
    keep = mounted | read(directory, PREVIOUS).places | {PREVIOUS}
    return site.write(directory, owned=SITE, keep=keep)


def is_built(directory: Path, site: Tree) -> bool:
    """Whether a build would change nothing, or only the version that compose.yaml names."""
    others = Tree({path: file for path, file in site.items() if path != COMPOSE})
    compose = read(directory).content
    return not others.differs(directory) and _without_comments(compose) == _without_comments(site[COMPOSE].content)


def _without_comments(compose: bytes) -> list[bytes]:
    """What counts in a compose.yaml: another version in its head is nothing to build for, or to go back to."""
    return [line for line in compose.splitlines() if not line.startswith(b"#")]


def roll_back(directory: Path) -> tuple[str, ...]:
    """Exchange compose.yaml and the one before it; a sentence if the former had been edited.

    Raises MailstackError if the earlier build cannot run.
    """
    now, before = read(directory), read(directory, PREVIOUS)
    if not before.content:
        raise MailstackError(f"{directory / PREVIOUS}: does not exist: there is no earlier build to go back to")
    missing = [one for one in sorted(before.places) if not (directory / one).is_dir()]
    if missing:
        raise MailstackError(f"{directory / missing[0]}: does not exist, so the earlier build cannot run; build again")
    said = keep_edited(directory)
    # Only this takes room on the disk, and wherever the rest ends, both builds are there.
    Tree({_REPLACED: File(now.content)}).write(directory)
    (directory / PREVIOUS).replace(directory / COMPOSE)
    _end_rollback(directory)
    return said


def _end_rollback(directory: Path) -> None:
    """Let what was replaced be the build before; it still is compose.yaml if there is another one before."""
    replaced = directory / _REPLACED
    if not replaced.is_file():
        return
    if (directory / PREVIOUS).exists():
        replaced.unlink()
    else:
        replaced.replace(directory / PREVIOUS)


def keep_edited(directory: Path) -> tuple[str, ...]:
    """Keep a compose.yaml that was edited, under a name that is free, before it is replaced; a sentence about it."""
    file = directory / COMPOSE
    if not file.is_file() or not edited(file.read_bytes()):
        return ()
    for suffix in itertools.chain([""], (f".{number}" for number in itertools.count(2))):
        copy = file.with_name(f"{file.name}.edited{suffix}")
        try:
            # A second name for it, so that a full disk takes away neither.
            os.link(file, copy)
        except FileExistsError:
            # A build that ended early has kept it already.
            if not copy.is_file() or not copy.samefile(file):
                continue
        break
    return (
        f"{file.name} had been edited; your version is saved as {copy.name}. Put changes into compose.override.yaml",
    )
