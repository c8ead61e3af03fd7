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
from mailstack.services.opendkim import AUTHSERV_ID

FILE = Path(AUTHSERV_ID.file)
_OCTETS = 20
# A token, so that it stands in a field without quotes; long enough that nobody guesses it.
_FORM = re.compile(rb"[a-z0-9-]{32,64}\n?")


def make(directory: Path) -> None:
    """Make it if it is not there. Raises SecretError if it cannot be written."""
    try:
        if not is_made(directory):
            secret_directory(directory / FILE.parent)
            write_new(directory / FILE, f"mailstack-{secrets.token_hex(_OCTETS)}\n".encode(), 0o600)
    except OSError as error:
        raise SecretError(f"{error.filename or directory / FILE}: cannot be written: {os_reason(error)}") from None


def read(directory: Path) -> tuple[str, list[str]]:
    """The SHA-256 of the file in hexadecimal, and warnings. Writes nothing.

    Raises SecretError for a file that is not there, holds something else, or cannot be read.
    """
    path = directory / FILE
    try:
        if not is_made(directory):
            raise SecretError(f"{path}: does not exist; run: mailstack build")
        content = reading.content(path)
        warnings = loose_modes(directory, FILE)
    except OSError as error:
        raise SecretError(f"{path}: cannot be read: {os_reason(error)}") from None
    if not _FORM.fullmatch(content):
        raise SecretError(f"{path}: is damaged; remove it, and 'mailstack build' makes a new one")
    return hashlib.sha256(content).hexdigest(), warnings


def is_made(directory: Path) -> bool:
    """Whether it is there."""
    return (directory / FILE).exists()
