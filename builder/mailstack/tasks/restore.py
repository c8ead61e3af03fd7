"""Put a backup into a directory that has no site, and into volumes that are new.

The site's files are first written to STAGING, then the volumes are made, and last the files are moved to their places,
.env after all others, since nothing can be built without it. Where that ends early, the next restore removes what was
made: what lies in STAGING, the volumes that have its word, and the files that are not in STAGING any more.
"""

import contextlib
import json
import os
import secrets
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO

from mailstack.engine import connection, volumes
from mailstack.engine.connection import Client
from mailstack.errors import MailstackError, os_reason
from mailstack.render.compose import COMPOSE, SITE
from mailstack.tasks import archive, written
from mailstack.tasks.archive import BrokenBackupError, Contents

STAGING = ".mailstack-restore"
_WORD, _MOVED = "word", "moved.json"
_PIECE = 1 << 20
_MOST_NAMED = 3


@dataclass(frozen=True)
class Restored:
    """What a restore wrote, and what it removed before that an earlier one had left."""

    contents: Contents
    removed: tuple[str, ...]


def contents(file: Path) -> Contents:
    """What is in a backup, which is read as a whole. Raises MailstackError for a file that is none."""
    with _opened(file) as stream:
        return archive.check(stream, str(file))


def restore(directory: Path, file: Path) -> Restored:
    """Restore a backup, whole or not at all.

    Raises MailstackError for a backup that is not whole, and if anything of a site is there already: its files in the
    directory, or its containers or volumes in the engine.
    """
    with written.locked(directory), _opened(file) as stream:
        client = connection.connect()
        room = {archive.SITE: shutil.disk_usage(directory).free, archive.VOLUMES: volumes.free_space(client)}
        try:
            found = archive.check(stream, str(file), room)
        except BrokenBackupError as error:
            raise BrokenBackupError(f"{error}. Nothing was restored") from None
        removed = _remove_unfinished(client, directory)
        _refuse_what_is_there(client, directory, found)
        try:
            _restore(client, directory, stream, found)
        except BaseException as error:
            _remove_unfinished(client, directory)
            if isinstance(error, OSError):
                raise MailstackError(f"{error.filename or file}: {os_reason(error)}; nothing was restored") from None
            raise
    return Restored(found, tuple(removed))


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[BinaryIO]:
    if file.exists() and not file.is_file():
        raise MailstackError(f"{file}: is not a regular file; write the backup to one first")
    try:
        stream = file.open("rb")
    except OSError as error:
        raise MailstackError(f"{file}: cannot be read: {os_reason(error)}") from None
    with stream:
        yield stream


def _refuse_what_is_there(client: Client, directory: Path, found: Contents) -> None:
    project = found.about.project
    there = sorted(one for one in (COMPOSE, SITE, *_tops(found)) if os.path.lexists(directory / one))
    if there:
        raise MailstackError(
            f"{directory}: has {_some(there)} already; restore into a directory without a site, or move these away. "
            "Nothing was restored"
        )
    containers, labelled = volumes.of_project(client, project)
    if containers:
        raise MailstackError(
            f"{project} has containers already: {_some(sorted(containers))}; to remove them, run: "
            f"docker compose -p {project} down. Nothing was restored"
        )
    present = sorted({*labelled, *volumes.existing(client, found.about.volumes.values())})
    if present:
        raise MailstackError(
            f"{project} has volumes already: {_some(present)}; a restore does not mix their mail with the backup's. If "
            f"nobody needs what is in them, run: docker volume rm {' '.join(present)}. Nothing was restored"
        )


def _tops(found: Contents) -> list[str]:
    """What comes into the site's directory itself, .env last."""
    names = {one.partition("/")[0] for one in (*found.files, *found.directories)}
    return sorted(names, key=lambda one: (one == ".env", one))


def _some(names: list[str]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _restore(client: Client, directory: Path, stream: BinaryIO, found: Contents) -> None:
    staging, word = directory / STAGING, secrets.token_hex(8)
    staging.mkdir(mode=0o700)
    (staging / _WORD).write_text(word)
    _write_files(staging, archive.members(stream, archive.SITE))
    names = found.about.volumes
    volumes.create(client, found.about.project, names, word)
    places = {f"{archive.VOLUMES}/{name}": real for name, real in names.items()}
    if names:
        volumes.fill(client, places, word, _tar(archive.members(stream, archive.VOLUMES)))
    _move(directory, staging, found)


def _write_files(staging: Path, members: Iterator[tuple[tarfile.TarInfo, IO[bytes] | None]]) -> None:
    """Write the site's files, and then give the directories their modes."""
    directories = [(staging / archive.SITE, 0o700)]
    for info, content in members:
        path = staging / info.name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if info.isdir():
            path.mkdir(mode=0o700, exist_ok=True)
            directories.append((path, info.mode))
        elif info.issym():
            path.symlink_to(info.linkname)
        elif content:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            with os.fdopen(handle, "wb") as target:
                shutil.copyfileobj(content, target, _PIECE)
                os.fchmod(handle, info.mode)
                target.flush()
                os.fsync(handle)
            os.utime(path, (info.mtime, info.mtime))
    for path, mode in reversed(directories):
        # One that its owner may not write to could not be moved (rename(2)).
        path.chmod(mode | 0o700)


def _tar(members: Iterator[tuple[tarfile.TarInfo, IO[bytes] | None]]) -> Iterator[bytes]:
    for info, content in members:
        yield from archive.octets(info, content)
    yield archive.END_OF_TAR


def _move(directory: Path, staging: Path, found: Contents) -> None:
    """Move all to its place; what is noted first tells a later restore what that is."""
    names = _tops(found)
    note = staging / f"{_MOVED}.new"
    note.write_text(json.dumps(names))
    note.replace(staging / _MOVED)
    for name in names:
        if os.path.lexists(directory / name):
            raise MailstackError(f"{directory / name}: was written by another program meanwhile; nothing was restored")
        (staging / archive.SITE / name).rename(directory / name)
    _forget(staging)


def _forget(staging: Path) -> None:
    """Remove the notes, and first the word, so that the volumes stay wherever this ends."""
    (staging / _WORD).unlink(missing_ok=True)
    shutil.rmtree(staging)


def _remove_unfinished(client: Client, directory: Path) -> list[str]:
    """Remove what a restore has made that ended early; what that was."""
    staging = directory / STAGING
    if not os.path.lexists(staging):
        return []
    note = staging / _MOVED
    names = json.loads(note.read_text()) if note.exists() else []
    # What is still there was not moved; somebody else may have made a file of that name.
    moved = [name for name in names if not os.path.lexists(staging / archive.SITE / name)]
    removed: list[str] = []
    # Where all was moved, nothing but the notes is left over.
    if not names or moved != names:
        word = (staging / _WORD).read_text() if (staging / _WORD).exists() else ""
        removed += [f"volume {one}" for one in volumes.remove(client, word)] if word else []
        for name in moved:
            if os.path.lexists(directory / name):
                _remove(directory / name)
                removed.append(name)
    _forget(staging)
    return removed


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
