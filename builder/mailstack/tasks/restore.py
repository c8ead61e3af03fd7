"""Put a backup into a directory that has no site, and into volumes that are new.

The site's files are first written to STAGING, then the volumes are made and filled, and last the files are moved to
their places, .env after all others, since nothing can be built without it. Where that fails, it is taken back.

Nothing is removed that this restore has not made itself. One that was killed leaves what it had made; nobody can tell
whether a site uses that by now, so the next one removes nothing but STAGING, and names the rest.
"""

import contextlib
import os
import secrets
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, BinaryIO

from mailstack.engine import connection, volumes
from mailstack.engine.connection import Client
from mailstack.errors import MailstackError, os_reason
from mailstack.render.compose import COMPOSE, SITE
from mailstack.tasks import allowed, archive, written
from mailstack.tasks.allowed import BrokenBackupError
from mailstack.tasks.archive import Contents

STAGING = ".mailstack-restore"
_PIECE = 1 << 20
_MOST_NAMED = 3


def contents(file: Path) -> Contents:
    """What is in a backup, which is read as a whole. Raises MailstackError for a file that is none."""
    with _opened(file) as stream:
        return archive.check(stream, str(file))


def restore(directory: Path, file: Path) -> Contents:
    """Restore a backup, whole or not at all; what is in it.

    Raises MailstackError for a backup that is not whole, and if anything of a site is there already: its files in the
    directory, or its containers or volumes in the engine.
    """
    with written.locked(directory), _opened(file) as stream:
        client = connection.connect()
        room = {allowed.SITE: shutil.disk_usage(directory).free, allowed.VOLUMES: volumes.free_space(client)}
        try:
            found = archive.check(stream, str(file), room)
        except BrokenBackupError as error:
            raise BrokenBackupError(f"{error}. Nothing was restored") from None
        _refuse_what_is_there(client, directory, found)
        _remove_staging(directory)
        try:
            _restore(client, directory, stream, found)
        except OSError as error:
            raise MailstackError(f"{error.filename or file}: {os_reason(error)}; nothing was restored") from None
        except archive.DAMAGE as error:
            # A path that this system cannot write, too.
            raise MailstackError(f"{file}: changed while it was read ({error}); nothing was restored") from None
    return found


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
        killed = f", perhaps by a restore that was killed and left {STAGING}" if _has_staging(directory) else ""
        raise MailstackError(
            f"{directory}: has {_some(there)} already{killed}; restore into a directory without a site, or move these "
            "away. Nothing was restored"
        )
    containers, labelled = volumes.of_project(client, project)
    if containers:
        raise MailstackError(
            f"{project} has containers already: {_some(sorted(containers))}; to remove them, run: "
            f"docker compose -p {project} down. Nothing was restored"
        )
    if filler := volumes.filler(client, project):
        raise MailstackError(
            f"another restore of {project} is running, or was killed; wait for its end. If none is running, run: "
            f"docker rm {filler}. Nothing was restored"
        )
    present = sorted({*labelled, *volumes.existing(client, found.about.volumes.values())})
    if present:
        raise MailstackError(
            f"{project} has volumes already: {_some(present)}; a restore does not mix their mail with the backup's. If "
            f"nobody needs what is in them, run: docker volume rm {' '.join(present)}. Nothing was restored"
        )


def _tops(found: Contents) -> list[str]:
    """What comes into the site's directory itself, .env last."""
    return sorted(found.tops(), key=lambda one: (one == ".env", one))


def _has_staging(directory: Path) -> bool:
    return os.path.lexists(directory / STAGING)


def _remove_staging(directory: Path) -> None:
    """Remove the files that a restore has left that was killed; they are in the backup."""
    staging = directory / STAGING
    if not _has_staging(directory):
        return
    if staging.is_symlink() or not staging.is_dir() or {one.name for one in staging.iterdir()} - {allowed.SITE}:
        raise MailstackError(
            f"{staging}: is not what a restore leaves, but has the name of its directory; move it away. Nothing was "
            "restored"
        )
    shutil.rmtree(staging)


def _some(names: list[str]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _restore(client: Client, directory: Path, stream: BinaryIO, found: Contents) -> None:
    """Restore all, or take back what was made."""
    staging, word = directory / STAGING, secrets.token_hex(8)
    about = found.about
    with contextlib.ExitStack() as undo:
        staging.mkdir(mode=0o700)
        undo.callback(shutil.rmtree, staging)
        _write_files(staging, archive.members(stream, allowed.SITE))
        _give_to_owner(staging, directory)
        undo.callback(volumes.remove, client, word)
        volumes.create(client, about.project, about.volumes, word)
        if about.volumes:
            places = {f"{allowed.VOLUMES}/{name}": real for name, real in about.volumes.items()}
            volumes.fill(client, about.project, places, _tar(archive.members(stream, allowed.VOLUMES)))
        for name in _tops(found):
            place, source = directory / name, staging / allowed.SITE / name
            if os.path.lexists(place):
                raise MailstackError(f"{place}: was written by another program meanwhile; nothing was restored")
            source.rename(place)
            undo.callback(place.rename, source)
        undo.pop_all()
    shutil.rmtree(staging)


def _write_files(staging: Path, members: Iterator[tuple[tarfile.TarInfo, IO[bytes] | None]]) -> None:
    """Write the site's files, and then give the directories their modes."""
    directories = [(staging / allowed.SITE, 0o700)]
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


def _give_to_owner(staging: Path, directory: Path) -> None:
    """Let the files belong to whom the site's directory belongs to, who could not work with those of root."""
    if os.geteuid():
        return
    owner = directory.stat()
    for parent, directories, names in os.walk(staging / allowed.SITE):
        for name in (*directories, *names):
            os.chown(Path(parent, name), owner.st_uid, owner.st_gid, follow_symlinks=False)


def _tar(members: Iterator[tuple[tarfile.TarInfo, IO[bytes] | None]]) -> Iterator[bytes]:
    for info, content in members:
        yield from archive.octets(info, content)
    yield archive.END_OF_TAR
