"""Files that people name, read with an end: no device, pipe or directory holds a command up."""

import errno
from pathlib import Path

# More than any list of addresses or key that somebody means.
MAX_OCTETS = 16 * 1024 * 1024


def content(path: Path) -> bytes:
    """A regular file's content. Raises OSError, with the remedy in its words, for anything else."""
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "not a regular file; name a text file", str(path))
    with path.open("rb") as stream:
        found = stream.read(MAX_OCTETS + 1)
    if len(found) > MAX_OCTETS:
        raise OSError(errno.EFBIG, f"is larger than {MAX_OCTETS >> 20} MiB; check that it is the right file", str(path))
    return found


def text(path: Path) -> str:
    """A regular file's text, UTF-8 with or without the mark that some editors put first."""
    return content(path).decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
