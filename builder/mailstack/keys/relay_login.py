"""The login at a relay host, as a file that Postfix's container alone sees (postconf(5), smtp_sasl_password_maps).

Its name changes with what is in it, so that compose recreates the container. The name is made with the secret
authserv-id, so that nobody who reads compose.yaml can try passwords by it.
"""

import hashlib
import hmac
from pathlib import Path

from mailstack.errors import SecretError, os_reason
from mailstack.keys import authserv_id
from mailstack.keys.files import secret_directory, write_new

DIRECTORY = Path("secrets")
_NAME = "relay-login-"
_DIGITS = 16


def path(directory: Path, content: str) -> Path:
    """Where a login is to lie, from the site's directory; the authserv-id must be there."""
    key = (directory / authserv_id.FILE).read_bytes()
    return DIRECTORY / f"{_NAME}{hmac.new(key, content.encode(), hashlib.sha256).hexdigest()[:_DIGITS]}"


def make(directory: Path, content: str) -> None:
    """Write a login if it is not there. Raises SecretError if that fails."""
    file = directory / path(directory, content)
    try:
        if not file.exists():
            secret_directory(file.parent)
            write_new(file, content.encode(), 0o600)
    except OSError as error:
        raise SecretError(f"{error.filename or file}: cannot be written: {os_reason(error)}") from None


def remove_others(directory: Path, keep: str) -> None:
    """Remove the logins that a text, such as compose.yaml, does not name. Raises OSError."""
    for file in (directory / DIRECTORY).glob(f"{_NAME}{'[0-9a-f]' * _DIGITS}"):
        if file.name not in keep:
            file.unlink()
