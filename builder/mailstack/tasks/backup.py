"""Put what a site cannot make again into one file, while it runs."""

import contextlib
import errno
import fcntl
import io
import os
import re
import stat
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from mailstack import console
from mailstack.engine import checker, connection, images, volumes
from mailstack.engine.volumes import Mounted
from mailstack.errors import EngineError, MailstackError, os_reason
from mailstack.keys import relay_login
from mailstack.render import overrides
from mailstack.render.compose import COMPOSE, SITE
from mailstack.services import KEPT, VOLUMES, dmarc
from mailstack.settings.environment import sources
from mailstack.tasks import allowed, written
from mailstack.tasks.archive import About, Contents, Writer
from mailstack.version import version

# What people miss if a volume is not there.
_HELD = {"queue": "messages of the queue", "mail": "mailboxes"}
# Of a site's own directory, beside .env and what that and compose.override.yaml name.
_PARTS = (relay_login.DIRECTORY, Path(overrides.DIRECTORY))
# What a backup is called until it is complete, with random letters behind.
_UNFINISHED = ".mailstack-backup-"
# YAML 1.2.2, section 6.6: a comment begins a line or comes after white space.
_COMMENT = re.compile(r"(?:^|(?<=\s))#.*$", re.MULTILINE)
# A word of compose.override.yaml, which may be the name of a file or directory.
_WORD = re.compile(r"[^\s\"',:\[\]{}]+")


@dataclass(frozen=True)
class _Plan:
    """The paths of a site that a backup takes: those that mailstack reads, and those that containers have mounted.

    The latter may belong to other users, and are read in a container. left_out is for a person.
    """

    files: tuple[Path, ...]
    mounted: tuple[Path, ...]
    left_out: tuple[str, ...]


def backup(directory: Path, environment: Mapping[str, str], file: Path, *, replace: bool = False) -> Contents:
    """Write a backup to a file that only its owner can read, whole or not at all; what is in it.

    Raises MailstackError for a file that is there, unless it is to be replaced.
    """
    _refuse_another(file, replace=replace)
    try:
        with _whole(file, replace=replace) as stream:
            return write(directory, environment, stream, packed=file.suffix in {".gz", ".tgz"}, besides=file)
    except OSError as error:
        raise MailstackError(f"{error.filename or file}: {os_reason(error)}; no backup was written") from None


def _refuse_another(file: Path, *, replace: bool) -> None:
    if not replace and os.path.lexists(file):
        raise MailstackError(f"{file}: already exists; choose another name, or use --replace")


@contextlib.contextmanager
def _whole(file: Path, *, replace: bool) -> Iterator[BinaryIO]:
    _remove_unfinished(file.parent)
    handle, temporary = _unfinished(file.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(handle)
            _refuse_another(file, replace=replace)
            temporary.replace(file)
        parent = os.open(file.parent, os.O_RDONLY)
        try:
            os.fsync(parent)
        finally:
            os.close(parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _unfinished(directory: Path) -> tuple[int, Path]:
    """A new file that is locked until it is complete, which tells it from what a killed backup has left."""
    while True:
        handle, name = tempfile.mkstemp(dir=directory, prefix=_UNFINISHED)
        # Some network file systems have no locks.
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        # Another backup may have removed it before it was locked.
        if os.fstat(handle).st_nlink:
            return handle, Path(name)
        os.close(handle)


def _remove_unfinished(directory: Path) -> None:
    """Remove what a backup of this user has left that was killed; whoever writes one holds its lock."""
    for one in sorted(directory.glob(f"{_UNFINISHED}*")):
        with contextlib.suppress(OSError):
            handle = os.open(one, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                status = os.fstat(handle)
                if stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid():
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    one.unlink()
                    console.progress(f"{one}: removed; a backup that was killed had left it")
            finally:
                os.close(handle)


def write(
    directory: Path,
    environment: Mapping[str, str],
    stream: BinaryIO,
    *,
    packed: bool = False,
    besides: Path | None = None,
) -> Contents:
    """Write a backup to a stream; what is in it. besides is where the stream leads, which must be no part of it."""
    before = written.read(directory)
    if before.project is None:
        raise MailstackError(f"{directory}: nothing was built here; run: mailstack build")
    client = connection.connect()
    # The image has Python, and is there if the site was ever started.
    image = before.images.get(dmarc.SERVICE.name, "")
    if not images.exists(client, image):
        raise EngineError(f"image {image} does not exist, and reads the volumes; run: mailstack build")
    composed = checker.configuration(directory, before.content)
    chosen = plan(directory, environment, composed)
    inside = [one for one in (*chosen.files, *chosen.mounted) if besides and _is_below(besides.absolute(), one)]
    if inside:
        raise MailstackError(f"{besides}: is in {inside[0]}, which is part of the backup; choose another place")
    real = {
        name: str(composed.get("volumes", {}).get(name, {}).get("name", f"{before.project}_{name}")) for name in KEPT
    }
    there = set(volumes.existing(client, real.values()))
    for name, one in real.items():
        # The others are of settings that a site need not have.
        if name in {"queue", "mail"} & composed.get("volumes", {}).keys() and one not in there:
            console.warn(f"there is no volume {one}, so the backup has no {_HELD[name]}")
    real = {name: one for name, one in real.items() if one in there}
    about = About(before.project, version(), datetime.now(UTC).isoformat(timespec="seconds"), real, chosen.left_out)
    writer = Writer(stream, about, packed=packed)
    with written.locked(directory):
        _add_parents(writer, directory, (*chosen.files, *chosen.mounted))
        for path in chosen.files:
            _add(writer, directory, path)
    with volumes.taken(client, before.project, image, _mounts(directory, chosen.mounted, real)) as members:
        for info, content in members:
            if info.issym() and not allowed.stays_inside(info.name, info.linkname):
                console.warn(f"{info.name}: is a link that leads elsewhere, and no part of the backup")
            else:
                writer.add(info, content)
    writer.end()
    return writer.contents


def _mounts(directory: Path, paths: Iterable[Path], names: Mapping[str, str]) -> list[Mounted]:
    found = [Mounted(str(one), "bind", f"{allowed.SITE}/{one.relative_to(directory)}", "later") for one in paths]
    for name, real in names.items():
        when = "listed" if KEPT[name].final else "held"
        found.append(Mounted(real, "volume", f"{allowed.VOLUMES}/{name}", when, KEPT[name].files))
    return found


def plan(directory: Path, environment: Mapping[str, str], composed: Mapping[str, Any]) -> _Plan:
    """What of a site's directory belongs into a backup; composed is what docker compose makes of it."""
    variables = sources(directory, environment)
    files = [Path(".env"), *_PARTS, *(Path(one) for one in variables.values() if one not in {".env", "environment"})]
    if override := checker.override(directory):
        files += [override, *_named_in(directory, override)]
    given = [*composed.get("secrets", {}).values(), *composed.get("configs", {}).values()]
    files += [Path(one["file"]) for one in given if "file" in one]
    services = composed.get("services", {}).values()
    files += [Path(one["build"]["context"]) for one in services if "context" in (one.get("build") or {})]
    binds = [mount for one in services for mount in one.get("volumes", []) if mount["type"] == "bind"]
    mounted = {Path(one["source"]) for one in binds if not _is_below(Path(one["source"]), directory / SITE)}
    paths = {Path(os.path.normpath(directory / one)) for one in files} | mounted
    below = {one for one in paths if one != directory and one.is_relative_to(directory)}
    made = {one for one in below if _is_made(one.relative_to(directory).parts[0])}
    below -= made
    there = {one for one in below if os.path.lexists(one)} - {one for one in mounted if not one.exists()}
    # A directory once, and not again what is in it.
    tops = sorted(one for one in there if not there & {*one.parents})
    left_out = [f"{one}: is not below {directory}" for one in sorted(paths - below - made)]
    left_out += [f"{one}: has the name of what a build makes" for one in sorted(made)]
    left_out += [f"{one}: does not exist, or cannot be seen" for one in sorted((mounted & below) - there)]
    left_out += [f"volume {one}: of a service of your own" for one in composed.get("volumes", {}) if one not in VOLUMES]
    left_out += [f"{name}: set in the environment" for name, one in variables.items() if one == "environment"]
    return _Plan(
        tuple(one for one in tops if one not in mounted), tuple(one for one in tops if one in mounted), tuple(left_out)
    )


def _named_in(directory: Path, override: Path) -> list[Path]:
    """What compose reads because of the override, such as env_file, include and extends, and directories of images.

    A comment may name what belongs to others, such as a README.md beside the site.
    """
    text = _COMMENT.sub("", override.read_text(errors="replace"))
    words = {one for one in _WORD.findall(text) if any(map(str.isalnum, one))}
    paths = {Path(os.path.normpath(directory / one)) for one in words if not one.startswith("/")}
    ours = (one for one in paths if directory in one.parents and not _is_made(one.relative_to(directory).parts[0]))
    return sorted(one for one in ours if one.is_file() or (one / "Dockerfile").is_file())


def _is_made(name: str) -> bool:
    """Whether a name in the site's directory is that of what a build makes."""
    return name == COMPOSE or name.startswith(SITE)


def _is_below(path: Path, parent: Path) -> bool:
    return Path(os.path.normpath(path)).is_relative_to(parent)


def _add_parents(writer: Writer, directory: Path, tops: Iterable[Path]) -> None:
    """Add the directories in which these lie."""
    for one in sorted({parent for top in tops for parent in top.parents if parent.is_relative_to(directory)}):
        if one != directory:
            _add_one(writer, directory, one)


def _add(writer: Writer, directory: Path, path: Path, above: frozenset[str] = frozenset()) -> None:
    """Add a file, by its content if it is a link, or a directory with all files below it.

    What has two names comes under both. above has the directories that this is in.
    """
    _add_one(writer, directory, path)
    if not path.is_dir():
        return
    within = above | {os.path.realpath(path)}
    for one in sorted(path.iterdir()):
        if one.is_dir() and os.path.realpath(one) in within:
            console.warn(f"{one}: is a link to a directory that it is in, and no part of the backup")
        # Not a file of ours that is just being written.
        elif one.is_dir() or not one.name.startswith(".mailstack-"):
            _add(writer, directory, one, within)


def _add_one(writer: Writer, directory: Path, path: Path) -> None:
    info = tarfile.TarInfo(f"{allowed.SITE}/{path.relative_to(directory).as_posix()}")
    try:
        status = path.stat()
    except OSError as error:
        if error.errno not in {errno.ENOENT, errno.ELOOP}:
            raise
        if path.is_symlink():
            console.warn(f"{path}: is a link that leads nowhere, and no part of the backup")
        return
    info.mode, info.mtime = stat.S_IMODE(status.st_mode), int(status.st_mtime)
    if stat.S_ISDIR(status.st_mode):
        info.type = tarfile.DIRTYPE
        writer.add(info)
    elif stat.S_ISREG(status.st_mode):
        content = path.read_bytes()
        info.size = len(content)
        writer.add(info, io.BytesIO(content))
    else:
        console.warn(f"{path}: is neither file nor directory, and no part of the backup")
