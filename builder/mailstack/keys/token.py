"""Random secrets of a site, each a file that is made once and kept."""

import hashlib
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from mailstack import reading
from mailstack.errors import SecretError, os_reason
from mailstack.keys.files import loose_modes, secret_directory, write_new

_OCTETS = 20
# It stands in fields and files without quotes, and is long enough that nobody guesses it.
_FORM = re.compile(rb"[a-z0-9-]{32,64}\n?")


@dataclass(frozen=True)
class Token:
    """A random secret, by its path in the site."""

    file: Path

    def make(self, directory: Path) -> None:
        """Make it if it is not there. Raises SecretError if it cannot be written."""
        path = directory / self.file
        try:
            if not self.is_made(directory):
                secret_directory(path.parent)
                write_new(path, f"mailstack-{secrets.token_hex(_OCTETS)}\n".encode(), 0o600)
        except OSError as error:
            raise SecretError(f"{error.filename or path}: cannot be written: {os_reason(error)}") from None

    def read(self, directory: Path) -> tuple[str, list[str]]:
        """The SHA-256 of the file in hexadecimal, and warnings. Writes nothing.

        Raises SecretError for a file that is not there, holds something else, or cannot be read.
        """
        path = directory / self.file
        try:
            if not self.is_made(directory):
                raise SecretError(f"{path}: does not exist; run: mailstack build")
            content = reading.content(path)
            warnings = loose_modes(directory, self.file)
        except OSError as error:
            raise SecretError(f"{path}: cannot be read: {os_reason(error)}") from None
        if not _FORM.fullmatch(content):
            raise SecretError(f"{path}: is damaged; remove it, and 'mailstack build' makes a new one")
        return hashlib.sha256(content).hexdigest(), warnings

    def is_made(self, directory: Path) -> bool:
        """Whether it is there."""
        return (directory / self.file).exists()
