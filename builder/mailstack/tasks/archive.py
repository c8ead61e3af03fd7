"""The file that a backup is: a tar of what a site holds, checked as a whole before any of it is believed.

Its first member, MANIFEST, says what it is, the last one, END, how many members lie between them and what digest these
have. A file of the site is site/<path from its directory>, a file of a volume is volumes/<name of the volume>/<path>.
"""

import gzip
import hashlib
import io
import json
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import PurePosixPath
from typing import IO, Any, BinaryIO

from mailstack.errors import shown
from mailstack.services import KEPT
from mailstack.tasks.allowed import END_OF_TIME, NAME, SITE, VOLUMES, BrokenBackupError, Names, mode, plain

FORMAT = 1
MANIFEST, END = "mailstack.json", "end.json"
_PIECE = 1 << 20
# More than either of our own members has.
_MAX_OWN = 1 << 22
# Of a header with all that belongs to it; two paths at most, and what other programs add.
_MAX_HEADER = 1 << 16
# Of what lies in a site's directory itself.
_MAX_ITEMS = 10_000


@dataclass(frozen=True)
class About:
    """What a backup says of itself: the compose project, mailstack's version, when it was made (UTC).

    volumes has the engine's name of each volume; left_out, for a person, what else the site uses.
    """

    project: str
    version: str
    made: str
    volumes: Mapping[str, str]
    left_out: tuple[str, ...] = ()


@dataclass
class Item:
    """How much there is of a file or directory of the site, or of a volume.

    messages is None for what holds none; places has how many of them are in each directory of the queue.
    """

    name: str
    files: int = 0
    octets: int = 0
    messages: int | None = None
    places: dict[str, int] = field(default_factory=dict)

    def add(self, path: str, size: int) -> None:
        self.files += 1
        self.octets += size
        if self.messages is None:
            return
        parts = PurePosixPath(path).parts
        if len(parts) > 1 and parts[-2] in {"new", "cur"}:
            self.messages += 1
        elif _QUEUES.get(parts[0]):
            self.messages += 1
            self.places[parts[0]] = self.places.get(parts[0], 0) + 1


_QUEUES = KEPT["queue"].files or {}


@dataclass
class Contents:
    """What is in a backup, by item."""

    about: About
    items: dict[str, Item] = field(default_factory=dict)

    def add(self, info: tarfile.TarInfo) -> None:
        """Count a member. Raises BrokenBackupError where there are too many to name."""
        kind, _, path = info.name.partition("/")
        top, _, rest = path.partition("/")
        item = self.items.setdefault(f"{kind}/{top}", self._item(kind, top))
        if len(self.items) > _MAX_ITEMS:
            raise BrokenBackupError(f"has more than {_MAX_ITEMS} files and directories in the site's directory itself")
        if not info.isdir():
            item.add(rest, info.size)

    @staticmethod
    def _item(kind: str, top: str) -> Item:
        kept = KEPT[top] if kind == VOLUMES else None
        return Item(kept.what if kept else top, messages=0 if kept and (kept.final or kept.files) else None)

    def tops(self) -> list[str]:
        """What of it lies in the site's directory itself."""
        return [name.removeprefix(f"{SITE}/") for name in self.items if name.startswith(f"{SITE}/")]

    def data(self) -> dict[str, Any]:
        """The same as plain data."""
        return asdict(self.about) | {"items": [asdict(one) for one in self.items.values()]}


class Writer:
    """Writes a backup to a stream, member by member; contents has what was written.

    What no restore would take ends it, unless it is not checked.
    """

    def __init__(self, stream: BinaryIO, about: About, *, packed: bool, checked: bool = True) -> None:
        self.contents = Contents(about)
        self._packed = gzip.GzipFile(fileobj=stream, mode="wb", compresslevel=6, mtime=0) if packed else None
        self._stream = self._packed or stream
        self._sum = _Sum()
        self._names = Names(about.volumes) if checked else None
        self._own(MANIFEST, {"format": FORMAT, **asdict(about)})

    def add(self, info: tarfile.TarInfo, content: IO[bytes] | None = None) -> None:
        """Write a directory, a link or a file. Raises OSError, or BrokenBackupError for what no restore would take."""
        if self._names:
            info.mode &= mode(info)
            # A disk may know times that no header does.
            info.mtime = min(max(0, info.mtime), END_OF_TIME - 1)
            info = plain(info)
            self._names.check(info)
        self._sum.begin(info)
        for piece in octets(info, content, self._sum):
            self._stream.write(piece)
        self.contents.add(info)

    def _own(self, name: str, data: Mapping[str, Any]) -> None:
        content = json.dumps(data).encode()
        info = tarfile.TarInfo(name)
        info.size, info.mode = len(content), 0o600
        for piece in octets(info, io.BytesIO(content)):
            self._stream.write(piece)

    def end(self) -> None:
        """Write what tells a complete backup. Raises OSError."""
        self._own(END, self._sum.data())
        self._stream.write(END_OF_TAR)
        if self._packed:
            self._packed.close()


class _Sum:
    """The number and digest of members."""

    def __init__(self) -> None:
        self.closed = False
        self._members = 0
        self._digest = hashlib.sha256()

    def begin(self, info: tarfile.TarInfo) -> None:
        """Add a member, whose content comes next. Raises ValueError behind the end."""
        if self.closed:
            raise ValueError("more comes behind its end")
        self._members += 1
        about = (info.name, info.type.decode("latin-1"), info.mode, info.uid, info.gid, info.size, info.linkname)
        self._digest.update("\0".join(map(str, about)).encode(errors="surrogateescape") + b"\n")

    def update(self, content: bytes) -> None:
        self._digest.update(content)

    def close(self, said: object) -> None:
        """End it. Raises ValueError if a backup says something else of its members."""
        if said != self.data():
            raise ValueError("its digest is another one")
        self.closed = True

    def data(self) -> dict[str, Any]:
        return {"members": self._members, "sha256": self._digest.hexdigest()}


# Two blocks of zeros (pax(1)).
END_OF_TAR = bytes(2 * tarfile.BLOCKSIZE)


def octets(info: tarfile.TarInfo, content: IO[bytes] | None, total: _Sum | None = None) -> Iterator[bytes]:
    """A member as it stands in a tar; its content is added to a sum. Raises OSError if the content is too short."""
    yield info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
    left = info.size
    while content and left:
        piece = content.read(min(left, _PIECE))
        if not piece:
            raise OSError(f"{info.name}: became shorter while it was read")
        if total:
            total.update(piece)
        left -= len(piece)
        yield piece
    yield bytes(-info.size % tarfile.BLOCKSIZE)


# What reading raises where octets are missing or others.
DAMAGE = (EOFError, tarfile.TarError, zlib.error, gzip.BadGzipFile, ValueError, OverflowError, RecursionError)


def check(stream: BinaryIO, name: str, room: Mapping[str, int | None] | None = None) -> Contents:
    """Read a whole backup and believe nothing of it; what is in it.

    name is how errors call it, room how many octets there is place for, in SITE and in VOLUMES. Raises
    BrokenBackupError.
    """
    total = _Sum()
    found: Contents | None = None
    names = Names(())
    taken: Counter[str] = Counter()
    try:
        for info, content in _members(stream):
            if found is None:
                found = Contents(_about(info, content))
                names = Names(found.about.volumes)
            elif info.name == END:
                total.close(json.loads(content.read(_MAX_OWN) if content else b""))
            else:
                names.check(info)
                found.add(info)
                _check_room(room or {}, taken, info)
                total.begin(info)
                while content and (piece := content.read(_PIECE)):
                    total.update(piece)
    except DAMAGE as error:
        if found is None:
            raise BrokenBackupError(f"{name}: is not a backup of mailstack ({error})") from None
        raise BrokenBackupError(f"{name}: is damaged or cut off ({error}); use another backup") from None
    except BrokenBackupError as error:
        raise BrokenBackupError(f"{name}: {error}") from None
    if found and total.closed:
        return found
    what = "is cut off: its end is missing; use another backup" if found else "is not a backup of mailstack"
    raise BrokenBackupError(f"{name}: {what}")


def members(stream: BinaryIO, kind: str) -> Iterator[tuple[tarfile.TarInfo, IO[bytes] | None]]:
    """The members of SITE or of VOLUMES of a backup that was checked."""
    return ((info, content) for info, content in _members(stream) if info.name.startswith(f"{kind}/"))


def _members(stream: BinaryIO) -> Iterator[tuple[tarfile.TarInfo, IO[bytes] | None]]:
    stream.seek(0)
    packed = stream.read(2) == b"\x1f\x8b"
    stream.seek(0)
    source = _Source(gzip.GzipFile(fileobj=stream) if packed else stream)
    with tarfile.open(fileobj=source, mode="r|", encoding="utf-8") as archive:  # type: ignore[call-overload]
        for info in archive:
            if archive.pax_headers:
                raise ValueError("it has a header for several members")
            source.left = None
            member = plain(info)
            content = archive.extractfile(info) if info.isreg() else None
            yield member, content
            while content and content.read(_PIECE):
                pass
            # tarfile would remember them all.
            archive.members = []
            source.left = _MAX_HEADER
    # The checksum of a compressed file comes last.
    source.left = None
    while source.read(_PIECE):
        pass


class _Source:
    """What tarfile reads from; left is how much may be read until that is a header, which tarfile takes as a whole."""

    def __init__(self, stream: IO[bytes] | gzip.GzipFile) -> None:
        self._stream = stream
        self.left: int | None = _MAX_HEADER

    def read(self, size: int) -> bytes:
        piece = self._stream.read(size)
        if self.left is not None:
            self.left -= len(piece)
            if self.left < 0:
                raise ValueError("it has a header that is too large")
        return piece


def _about(info: tarfile.TarInfo, content: IO[bytes] | None) -> About:
    if info.name != MANIFEST or content is None:
        raise ValueError("it does not begin as one")
    data = json.loads(content.read(_MAX_OWN))
    try:
        if data["format"] > FORMAT:
            raise BrokenBackupError(
                f"was made by a newer mailstack, {shown(str(data['version']))}; use that version, or a newer one"
            )
        about = About(
            project=str(data["project"]),
            version=str(data["version"]),
            made=str(data["made"]),
            volumes={str(name): str(real) for name, real in data["volumes"].items()},
            left_out=tuple(map(str, data["left_out"])),
        )
    except (LookupError, TypeError, AttributeError):
        raise ValueError("what it says of itself is not complete") from None
    if unknown := sorted(about.volumes.keys() - KEPT.keys()):
        raise BrokenBackupError(f"{shown(unknown[0])} is no volume that this version of mailstack knows")
    for one in (about.project, *about.volumes.values()):
        if not NAME.fullmatch(one):
            raise BrokenBackupError(f"{shown(one)} is no name of a project or volume")
    if len(set(about.volumes.values())) < len(about.volumes):
        raise BrokenBackupError("two of its volumes have one name")
    return about


def _check_room(room: Mapping[str, int | None], taken: Counter[str], info: tarfile.TarInfo) -> None:
    """Add a member to the octets that are taken of each place."""
    kind = info.name.partition("/")[0]
    taken[kind] += info.size
    octets = room.get(kind)
    if octets is not None and taken[kind] > octets:
        where = "the disk of this directory" if kind == SITE else "the engine's disk"
        raise BrokenBackupError(
            f"holds more than fits on {where}, which has {octets >> 20} MiB left; make room there first"
        )
