"""Secret files: created whole, for their owner alone."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

_TEMPORARY = ".mailstack-"


def secret_directory(path: Path) -> None:
    """Make a directory, closed to others."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.chmod(0o700)


def write_new(path: Path, content: bytes, mode: int) -> None:
    """Create a file whole or not at all; one that is there stays as it is."""
    _write(path, content, mode, os.link)


def replace(path: Path, content: bytes, mode: int) -> None:
    """Write a file whole or not at all, in the place of one that may be there."""
    _write(path, content, mode, os.replace)


def remove_unfinished(directory: Path) -> None:
    """Remove what somebody left in a directory who was killed while he wrote. Nobody may write there meanwhile."""
    for one in directory.glob(f"{_TEMPORARY}*"):
        one.unlink(missing_ok=True)


def _write(path: Path, content: bytes, mode: int, put: Callable[[str, Path], None]) -> None:
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=_TEMPORARY)
        try:
            with os.fdopen(handle, "wb") as stream:
                os.fchmod(handle, mode)
                stream.write(content)
                stream.flush()
                os.fsync(handle)
            put(temporary, path)
        finally:
            Path(temporary).unlink(missing_ok=True)
    except OSError as error:
        # Nobody knows the temporary file.
        error.filename = str(path)
        raise


def loose_modes(directory: Path, *paths: Path) -> list[str]:
    """A sentence for each path below directory that others than its owner can read."""
    return [
        f"{directory / one}: can be read by users other than its owner; run: chmod go= {one}"
        for one in paths
        if (directory / one).stat().st_mode & 0o077
    ]
