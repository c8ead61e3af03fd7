"""A Tree: the files that a rendering consists of, as values."""

import errno
import hashlib
import io
import os
import tarfile
import tempfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath


@dataclass(frozen=True)
class File:
    """A file's content and permission bits."""

    content: bytes
    mode: int = 0o644


class Tree(Mapping[str, File]):
    """Relative POSIX path → File, in sorted order, so that equal trees have equal digests."""

    def __init__(self, files: Mapping[str, File]) -> None:
        for path in files:
            inside = PurePosixPath(path)
            # One spelling for each path, so that what write() finds on disk can be looked up.
            if inside.is_absolute() or ".." in inside.parts or inside.as_posix() != path or path == ".":
                raise ValueError(f"not a path inside a tree: {path!r}")
        self._files = dict(sorted(files.items()))

    def __getitem__(self, path: str) -> File:
        return self._files[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def under(self, prefix: str) -> "Tree":
        """The same files, one directory deeper."""
        return Tree({f"{prefix}/{path}": file for path, file in self.items()})

    def __or__(self, other: "Tree") -> "Tree":
        both = self.keys() & other.keys()
        if both:
            raise ValueError(f"two files of one name: {sorted(both)}")
        return Tree({**self._files, **other})

    def digest(self) -> str:
        """SHA-256 over paths, modes and contents, in hexadecimal."""
        total = hashlib.sha256()
        for path, file in self.items():
            content = hashlib.sha256(file.content).hexdigest()
            total.update(f"{path}\0{file.mode:o}\0{content}\n".encode())
        return total.hexdigest()

    def tar(self) -> bytes:
        """An uncompressed tar of the tree that depends on nothing but the tree."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for path, file in self.items():
                info = tarfile.TarInfo(path)
                info.size, info.mode = len(file.content), file.mode
                archive.addfile(info, io.BytesIO(file.content))
        return buffer.getvalue()

    def differs(self, root: Path) -> bool:
        """Whether write() would change a file below root."""
        return any(not _right(root / path, file) for path, file in self.items())

    def write(self, root: Path, *, owned: str | None = None, keep: Collection[str] = ()) -> list[str]:
        """Bring the files below root to this state and return the paths that were written.

        A file that is right already is not touched. With owned, files below that directory of root which the tree
        does not hold are removed, but for the paths to keep and what is below them: the directory belongs to the tree
        alone. Raises OSError with the path of the tree.
        """
        if owned is not None and (root / owned).is_symlink():
            remedy = "it is a symbolic link, and what it leads to would be emptied; remove the link"
            raise NotADirectoryError(errno.ENOTDIR, remedy, str(root / owned))
        changed = [path for path, file in self.items() if _put(root / path, file)]
        if owned is not None:
            self._remove_others(root, owned, keep)
        return changed

    def _remove_others(self, root: Path, owned: str, keep: Collection[str]) -> None:
        for found in sorted((root / owned).rglob("*"), reverse=True):
            path = PurePosixPath(found.relative_to(root))
            if found.is_dir() and not found.is_symlink():
                if not any(found.iterdir()):
                    found.rmdir()
            elif str(path) not in self and not any(path.is_relative_to(one) for one in keep):
                found.unlink()


def _right(path: Path, file: File) -> bool:
    try:
        return path.read_bytes() == file.content and path.stat().st_mode & 0o7777 == file.mode
    except OSError:
        # Not there, or in the way of it; writing says what is wrong.
        return False


def _put(path: Path, file: File) -> bool:
    if _right(path, file):
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".mailstack-")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(file.content)
            Path(temporary).chmod(file.mode)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        # A full disk is told without a path, and nobody knows the temporary one.
        raise OSError(error.errno, error.strerror, str(path)) from None
    return True
