"""The directory of certificates and their keys. Others fill it, and Postfix's container takes what is right."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from mailstack.errors import Fault, SettingsError, os_reason

_VARIABLE = "MAILSTACK_TLS_DIRECTORY"
# As Postfix's container takes them (take-certificates).
_MOST_FILES, _MOST_OCTETS = 1000, 2**23


def check(site: Path, name: str) -> Path:
    """The directory, which a build makes if it is one of the site's own. Raises SettingsError as prepare() does."""
    directory = Path(os.path.normpath(site / name))
    secret = site / "secrets"
    if directory == secret or secret in directory.parents or directory in secret.parents:
        remedy = "would show Postfix what lies in secrets/; write a directory that holds certificates and keys only"
        raise SettingsError([Fault(_VARIABLE, name, remedy)])
    try:
        there = directory.exists()
        if there and not directory.is_dir():
            fault = "is a file"
        elif not there and not directory.is_relative_to(site):
            fault = "does not exist"
        else:
            return directory
    except PermissionError:
        return directory
    except OSError as error:
        raise SettingsError([Fault(_VARIABLE, name, f"cannot be used: {os_reason(error)}")]) from None
    raise SettingsError([Fault(_VARIABLE, name, f"{fault}; write the directory that has your certificates")])


def prepare(site: Path, name: str) -> tuple[str, ...]:
    """Make the directory if it is one of the site's own; a warning while it is empty.

    Raises SettingsError for one elsewhere that does not exist, or that is no directory.
    """
    directory = check(site, name)
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
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


def of_host(directory: Path, hostname: str) -> list[x509.Certificate]:
    """The valid certificates for a host name, the newest first, and then what else their files hold: their issuers.

    What cannot be read is not there: a private directory belongs to root.
    """
    now = datetime.now(UTC)
    own, issuers = list[x509.Certificate](), list[x509.Certificate]()
    for first, *rest in _chains(directory):
        if first.not_valid_before_utc <= now < first.not_valid_after_utc and _covers(first, hostname):
            own.append(first)
            issuers += rest
    return [*sorted(own, key=lambda one: one.not_valid_before_utc, reverse=True), *issuers]


def _chains(directory: Path) -> Iterator[list[x509.Certificate]]:
    """The certificates of each file, by whatever links it is found, once."""
    files, known = 0, set[str]()
    for path, below, names in os.walk(directory, followlinks=True):
        known.add(os.path.realpath(path))
        below[:] = [one for one in sorted(below) if os.path.realpath(Path(path, one)) not in known]
        for name in sorted(names):
            files += 1
            if files > _MOST_FILES:
                return
            file = Path(path, name)
            try:
                if file.is_file() and file.stat().st_size <= _MOST_OCTETS:
                    yield x509.load_pem_x509_certificates(file.read_bytes())
            except (OSError, ValueError):
                continue


def _covers(certificate: x509.Certificate, hostname: str) -> bool:
    """Whether it is for a host, by its name or by a wildcard for one label (RFC 9525 section 6.3)."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        known = {one.lower() for one in names.get_values_for_type(x509.DNSName)}
    except (x509.ExtensionNotFound, ValueError):
        return False
    return not known.isdisjoint({hostname, f"*.{hostname.partition('.')[2]}"})
