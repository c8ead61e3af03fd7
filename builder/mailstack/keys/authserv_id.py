"""The secret authserv-id: what OpenDKIM finds stands under it, and dmarc believes no other (RFC 8601 section 5).

It is made once and kept. Losing it costs nothing: a new one is made, and both services are recreated.
"""

import hashlib
import re
import secrets
from pathlib import Path

from mailstack import reading
from mailstack.errors import SecretError, os_reason
from mailstack.keys.files import loose_modes, secret_directory, write_new

FILE = Path("secrets/authserv-id")
_OCTETS = 20
# A token, so that it stands in a field without quotes; long enough that nobody guesses it.
_FORM = re.compile(rb"[a-z0-9-]{32,64}\n?")


def ensure(directory: Path) -> tuple[str, list[str]]:
    """Make it if it is not there; the SHA-256 of the file in hexadecimal, and warnings.

    Raises SecretError for a file that holds something else, and for one that cannot be read or written.
    """
    try:
        if not is_made(directory):
            secret_directory(directory / FILE.parent)
            write_new(directory / FILE, f"mailstack-{secrets.token_hex(_OCTETS)}\n".encode(), 0o600)
    except OSError as error:
        raise SecretError(f"{error.filename or directory / FILE}: cannot be written: {os_reason(error)}") from None
    return _checked(directory)


def is_made(directory: Path) -> bool:
    """Whether it is there."""
    return (directory / FILE).exists()


def look(directory: Path) -> list[str]:
    """Warnings, without writing anything. Raises SecretError as ensure() does."""
    return _checked(directory)[1] if is_made(directory) else []


def _checked(directory: Path) -> tuple[str, list[str]]:
    path = directory / FILE
    try:
        content = reading.content(path)
        warnings = loose_modes(directory, FILE)
    except OSError as error:
        raise SecretError(f"{path}: cannot be read: {os_reason(error)}") from None
    if not _FORM.fullmatch(content):
        raise SecretError(f"{path}: is damaged; remove it, and 'mailstack build' makes a new one")
    return hashlib.sha256(content).hexdigest(), warnings
