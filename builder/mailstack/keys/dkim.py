"""DKIM keys below secrets/dkim: made once, checked at every build, never overwritten.

Beside each private key, NAME.pem, lies NAME.txt with the record's value as it was to be published. It tells a lost
private key (to be restored from a backup) from one that was never made, and a replaced one from the published one.
"""

import base64
import re
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from mailstack import reading
from mailstack.errors import DkimKeyError, os_reason
from mailstack.keys.files import loose_modes, remove_unfinished, secret_directory, write_new
from mailstack.values.mail import GOOD_KEY_BITS, MIN_KEY_BITS

DIRECTORY = Path("secrets/dkim")
_PUBLIC = re.compile(rb"-----BEGIN ([A-Z ]*PUBLIC KEY)-----.*?-----END \1-----\s*", re.DOTALL)
_REMEDY = (
    "Restore the key from a backup; or move this file and its .txt away, and 'mailstack build' says what is possible"
)


@dataclass(frozen=True)
class DkimKey:
    """A key pair as the rest of the program may know it: the private half is only a path."""

    domain: str
    selector: str
    path: Path
    bits: int
    record: str

    @property
    def name(self) -> str:
        """The key record's owner name without the final dot (RFC 6376 section 3.6.2.1)."""
        return f"{self.selector}._domainkey.{self.domain}"

    @property
    def public(self) -> str:
        """The public key as the record has it: base64 of a SubjectPublicKeyInfo."""
        return self.record.rpartition("p=")[2]


def make(directory: Path, domain: str, selector: str, bits: int) -> None:
    """Make a domain's key below directory if there never was one, and keep the record of one that was brought along.

    Raises DkimKeyError as read() does, and for a key that cannot be written.
    """
    path, published, where = _places(directory, domain, selector)
    try:
        if never_made(directory, domain, selector):
            _make(directory / path, bits)
        if not (directory / published).exists():
            key, _ = _checked(directory, domain, selector)
            write_new(directory / published, f"{key.record}\n".encode(), 0o644)
    except OSError as error:
        raise DkimKeyError(f"{where}: {error.filename or path}: {os_reason(error)}") from None


def read(directory: Path, domain: str, selector: str) -> tuple[DkimKey, list[str]]:
    """A domain's key below directory, with warnings. Writes nothing.

    Raises DkimKeyError with domain, selector and path for a key that is missing, empty, truncated, public, not RSA,
    too short, or not the one whose record was to be published, and for one that cannot be read.
    """
    path, _, where = _places(directory, domain, selector)
    if never_made(directory, domain, selector):
        raise DkimKeyError(f"{where}: there is no key yet; run: mailstack build")
    try:
        return _checked(directory, domain, selector)
    except OSError as error:
        raise DkimKeyError(f"{where}: {error.filename or path}: {os_reason(error)}") from None


def brought(pem: bytes, domain: str, selector: str, where: str) -> DkimKey:
    """A private key that another program made, as a domain's; errors name where it lies. Raises as read() does."""
    private = _usable(pem, where, "Name another key; or let 'mailstack build' make one", known=False)
    return DkimKey(domain, selector, path(domain, selector), private.key_size, _record(private))


def keep(directory: Path, key: DkimKey, pem: bytes) -> None:
    """Write a private key that brought() has found good. Raises DkimKeyError if it cannot be written."""
    try:
        _write(directory / key.path, pem)
    except OSError as error:
        raise DkimKeyError(f"{directory / key.path}: {os_reason(error)}") from None


def path(domain: str, selector: str) -> Path:
    """Where a private key lies in a site."""
    return DIRECTORY / f"{selector}._domainkey.{domain}.pem"


def revoked(domain: str, selector: str) -> DkimKey:
    """A key of which nothing is left but its record, without a key (RFC 6376 section 3.6.1)."""
    return DkimKey(domain, selector, path(domain, selector), 0, "v=DKIM1; p=")


def destroy(directory: Path, domain: str, selector: str) -> None:
    """Remove a private key and the text of its record, if they are there. Raises DkimKeyError if that fails."""
    path, published, where = _places(directory, domain, selector)
    try:
        (directory / path).unlink(missing_ok=True)
        (directory / published).unlink(missing_ok=True)
        # It may be a whole key.
        remove_unfinished(directory / DIRECTORY)
    except OSError as error:
        raise DkimKeyError(f"{where}: {error.filename or path}: {os_reason(error)}") from None


def never_made(directory: Path, domain: str, selector: str) -> bool:
    """Whether neither a domain's private key nor its record is there. Raises DkimKeyError where nobody can tell."""
    path, published, where = _places(directory, domain, selector)
    try:
        return not (directory / path).exists() and not (directory / published).exists()
    except OSError as error:
        raise DkimKeyError(f"{where}: {error.filename or path}: {os_reason(error)}") from None


def is_made(directory: Path, domain: str, selector: str) -> bool:
    """Whether make() made a domain's key, or took one that was there."""
    return (directory / _places(directory, domain, selector)[1]).exists()


def _places(directory: Path, domain: str, selector: str) -> tuple[Path, Path, str]:
    """The private key and the record below directory, and how errors name them."""
    private = path(domain, selector)
    return private, private.with_suffix(".txt"), f"DKIM key of {domain}, selector {selector}, {directory / private}"


def _checked(directory: Path, domain: str, selector: str) -> tuple[DkimKey, list[str]]:
    path, published, where = _places(directory, domain, selector)
    if not (directory / path).exists():
        raise DkimKeyError(
            f"{where}: the private key is missing. Restore it from a backup; or move {published} away, and "
            "'mailstack build' says what is possible"
        )
    warnings = loose_modes(directory, path, path.parent, path.parent.parent)
    private = _load(directory / path, where, known=(directory / published).exists())
    record = _record(private)
    if (directory / published).exists() and reading.content(directory / published).decode(
        errors="replace"
    ).strip() != record:
        raise DkimKeyError(
            f"{where}: the key does not match the record in {published}. Restore the key that belongs to it; "
            f"or remove {published} if the key was replaced on purpose, and publish the new record"
        )
    if private.key_size < GOOD_KEY_BITS:
        warnings.append(f"{where}: has {private.key_size} bits, which is weak; {GOOD_KEY_BITS} is the usual length")
    return DkimKey(domain, selector, path, private.key_size, record), warnings


def _make(path: Path, bits: int) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=bits)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    _write(path, pem)


def _write(path: Path, pem: bytes) -> None:
    secret_directory(path.parent.parent)
    secret_directory(path.parent)
    write_new(path, pem, 0o600)


def _load(path: Path, where: str, *, known: bool) -> rsa.RSAPrivateKey:
    """A key whose numbers belong together.

    Of a known one the library does not ask again whether its primes are: that takes 40 ms for each key of a build.
    """
    return _usable(reading.content(path), where, _REMEDY, known=known)


def _usable(pem: bytes, where: str, remedy: str, *, known: bool) -> rsa.RSAPrivateKey:
    if not pem.strip():
        raise DkimKeyError(f"{where}: the file is empty. {remedy}")
    if b"PUBLIC KEY" in pem and b"PRIVATE KEY" not in pem:
        raise DkimKeyError(f"{where}: is a public key. Put the private key there")
    # Some programs write the public half in front.
    pem = _PUBLIC.sub(b"", pem)
    unusable = f"{where}: is not a complete RSA private key of at least {MIN_KEY_BITS} bits in PEM form. {remedy}"
    try:
        key = serialization.load_pem_private_key(pem, password=None, unsafe_skip_rsa_key_validation=known)
    except TypeError:
        raise DkimKeyError(f"{where}: the key is encrypted. Store it without a passphrase") from None
    except (ValueError, UnsupportedAlgorithm):
        raise DkimKeyError(unusable) from None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise DkimKeyError(f"{where}: is not an RSA key. Put an RSA private key there")
    if not _whole(key.private_numbers()):
        raise DkimKeyError(unusable)
    if key.key_size < MIN_KEY_BITS:
        raise DkimKeyError(f"{where}: has {key.key_size} bits; verifiers reject less than {MIN_KEY_BITS}. {remedy}")
    return key


def _whole(key: rsa.RSAPrivateNumbers) -> bool:
    """Whether all numbers of a key belong to its modulus and exponent (RFC 8017 section 3.2)."""
    n, e = key.public_numbers.n, key.public_numbers.e
    return (
        1 < key.p < n
        and key.p * key.q == n
        and key.d * e % (key.p - 1) == 1
        and key.d * e % (key.q - 1) == 1
        and key.dmp1 == key.d % (key.p - 1)
        and key.dmq1 == key.d % (key.q - 1)
        and key.iqmp * key.q % key.p == 1
    )


def _record(key: rsa.RSAPrivateKey) -> str:
    """The key record's value (RFC 6376 section 3.6.1)."""
    public = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return f"v=DKIM1; h=sha256; k=rsa; p={base64.b64encode(public).decode()}"
