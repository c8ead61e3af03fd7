"""What a member of a backup may be: its path, its kind, its values, and all paths together."""

import hashlib
import re
import tarfile
from collections.abc import Container
from pathlib import PurePosixPath

from mailstack import services
from mailstack.errors import MailstackError, shown
from mailstack.render.compose import COMPOSE
from mailstack.render.compose import SITE as BUILT

SITE, VOLUMES = "site", "volumes"
# The highest user id that is none of the system's special ones.
_MAX_ID = 2**31
# The first time that does not fit in a header, in the year 2242 (pax(1): 11 octal digits).
END_OF_TIME = 2**33
# PATH_MAX, which counts a NUL at the end (limits.h).
_MAX_PATH = 4096
# Of the paths that must be remembered; each takes 110 octets. Nobody has as many messages in one backup.
_MAX_PATHS = 5_000_000
_REGULAR = (tarfile.REGTYPE, tarfile.AREGTYPE)
_KINDS = {*_REGULAR, tarfile.DIRTYPE, tarfile.SYMTYPE}
# What may be written by others, or gives away the rights of its owner, is no file of a site.
_SITE_MODE, _FILE_MODE, _DIRECTORY_MODE, _LINK_MODE = 0o755, 0o777, 0o3777, 0o777
# Names of compose and of the engine.
NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")


class BrokenBackupError(MailstackError):
    """A file that is no backup, or not a whole one, or that would write where it should not."""


def plain(info: tarfile.TarInfo) -> tarfile.TarInfo:
    """A member with nothing but what a backup has of it. Raises BrokenBackupError for what cannot be."""
    name = shown(info.name)
    if info.type not in _KINDS:
        raise BrokenBackupError(f"{name}: is no file, directory or symbolic link")
    # Octets that nobody has written take no room in a backup, and as much as they say on a disk.
    if info.issparse() or any(one.startswith("GNU.sparse.") for one in info.pax_headers):
        raise BrokenBackupError(f"{name}: is a sparse file, which no backup has")
    if any("\0" in one or len(one.encode(errors="surrogateescape")) >= _MAX_PATH for one in (info.name, info.linkname)):
        raise BrokenBackupError(f"{name}: has a name that no file can have, or leads to one")
    # Not a number compares with none.
    if not 0 <= info.mtime < END_OF_TIME or info.size < 0:
        raise BrokenBackupError(f"{name}: has a time or size that cannot be")
    found = tarfile.TarInfo(info.name)
    found.type, found.mode, found.uid, found.gid, found.mtime = info.type, info.mode, info.uid, info.gid, info.mtime
    if info.type in _REGULAR:
        found.size = info.size
    elif info.issym():
        found.linkname = info.linkname
    return found


class Names:
    """The paths of a backup: none leads out of its place, or through a link, and none comes twice.

    Only digests of them are kept, since a backup may have millions.
    """

    def __init__(self, volumes: Container[str]) -> None:
        self._volumes = volumes
        self._seen: dict[bytes, str] = {}

    def check(self, info: tarfile.TarInfo) -> None:
        path = PurePosixPath(info.name)
        kind, name = (*path.parts, "", "")[:2]
        # A volume is a directory itself.
        in_volume = kind == VOLUMES and name in self._volumes and (info.isdir() or str(path.parent) != kind)
        if not (in_volume or (kind == SITE and name)) or str(path) != info.name or ".." in path.parts:
            raise BrokenBackupError(f"{shown(info.name)}: is no path of a backup")
        if kind == SITE and (name == COMPOSE or name.startswith(BUILT)):
            raise BrokenBackupError(f"{shown(info.name)}: is made by a build, and no part of a backup")
        before = self._seen.get(_digest(path))
        if self._is_below_other(path) or before in {"directory", "other"} or (before and not info.isdir()):
            raise BrokenBackupError(f"{shown(info.name)}: is there twice, or below a file or link")
        _check_kind(info)
        self._seen[_digest(path)] = "directory" if info.isdir() else "other"
        if len(self._seen) > _MAX_PATHS:
            raise BrokenBackupError(f"has more than {_MAX_PATHS} paths, which is more than a backup can have")

    def _is_below_other(self, path: PurePosixPath) -> bool:
        """Whether a path leads through something else than directories, which are noted."""
        for parent in path.parents:
            if known := self._seen.get(_digest(parent)):
                # All above it was noted with it.
                return known == "other"
            self._seen[_digest(parent)] = "above"
        return False


def _digest(path: PurePosixPath) -> bytes:
    return hashlib.blake2b(str(path).encode(errors="surrogateescape"), digest_size=16).digest()


def _check_kind(info: tarfile.TarInfo) -> None:
    if info.issym() and not stays_inside(info.name, info.linkname):
        raise BrokenBackupError(f"{shown(info.name)}: is a link that leads out of the backup")
    if info.mode & ~mode(info):
        raise BrokenBackupError(f"{shown(info.name)}: has mode {info.mode:o}, which no backup gives it")
    if not (0 <= info.uid < _MAX_ID and 0 <= info.gid < _MAX_ID):
        raise BrokenBackupError(f"{shown(info.name)}: belongs to a user that cannot be")


def mode(info: tarfile.TarInfo) -> int:
    """The permission bits that a member may have."""
    if info.issym():
        return _LINK_MODE
    if info.name.startswith(f"{SITE}/"):
        return _SITE_MODE
    return _DIRECTORY_MODE if info.isdir() else _FILE_MODE


def stays_inside(name: str, target: str) -> bool:
    """Whether a symbolic link leads to a place in the same volume, or in the same directory of the site.

    It goes up first, and then only down: behind the name of another link, ".." would lead out of wherever that leads.
    """
    path = PurePosixPath(name)
    root = PurePosixPath(*path.parts[:2])
    if path == root or not target:
        return False
    steps, depth = PurePosixPath(target), len(path.parent.relative_to(root).parts)
    if steps.is_absolute():
        at = services.VOLUMES[path.parts[1]].at if path.parts[0] == VOLUMES else None
        if at is None or not steps.is_relative_to(at):
            return False
        steps, depth = steps.relative_to(at), 0
    up = steps.parts.count("..")
    return up <= depth and ".." not in steps.parts[up:]
