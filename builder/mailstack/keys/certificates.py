"""The directory of certificates and their keys. Others fill it, and Postfix's container takes what is right."""

import os
from pathlib import Path

from mailstack.errors import Fault, SettingsError, os_reason

_VARIABLE = "MAILSTACK_TLS_DIRECTORY"


def prepare(site: Path, name: str) -> tuple[str, ...]:
    """Make the directory if it is one of the site's own; a warning while it is empty.

    Raises SettingsError for one elsewhere that does not exist, or that is no directory.
    """
    directory = Path(os.path.normpath(site / name))
    secret = site / "secrets"
    if directory == secret or secret in directory.parents or directory in secret.parents:
        remedy = "would show Postfix what lies in secrets/; write a directory that holds certificates and keys only"
        raise SettingsError([Fault(_VARIABLE, name, remedy)])
    try:
        if directory.is_relative_to(site) and not directory.exists():
            directory.mkdir(mode=0o700, parents=True)
        if not directory.is_dir():
            fault = "is a file" if directory.exists() else "does not exist"
            raise SettingsError([Fault(_VARIABLE, name, f"{fault}; write the directory that has your certificates")])
        empty = not any(directory.iterdir())
    except PermissionError:
        # Postfix's container reads it as root.
        return ()
    except OSError as error:
        raise SettingsError([Fault(_VARIABLE, name, f"cannot be used: {os_reason(error)}")]) from None
    warning = (
        f"{directory} is empty, so Postfix makes a self-signed certificate, which encrypts but proves nothing; put a "
        "certificate for the host name and its private key there"
    )
    return (warning,) if empty else ()
