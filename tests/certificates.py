"""Certificates as an authority issues them, and as the programs that fetch them lay them down."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

_Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True)
class Pair:
    """A certificate with those of its authorities above, and its key, all as PEM."""

    certificate: bytes
    above: bytes
    key: bytes

    @property
    def chain(self) -> bytes:
        return self.certificate + self.above

    @property
    def serial(self) -> int:
        return x509.load_pem_x509_certificate(self.certificate).serial_number


class Authority:
    """A root, and an intermediate authority that issues."""

    def __init__(self) -> None:
        root_key, self._key = key(), key()
        root = _certificate("Test root", root_key, "Test root", root_key, authority=True)
        self._issuer = "Test issuer"
        between = _certificate(self._issuer, self._key, "Test root", root_key, authority=True)
        self.root, self._between = _pem(root), _pem(between)

    def issue(
        self, *names: str, days: tuple[float, float] = (-1, 90), own: _Key | None = None, signed: bool = True
    ) -> Pair:
        """A pair for host names, valid between two days counted from now; not signed: by itself."""
        own = own or key()
        issuer, by = (self._issuer, self._key) if signed else (names[0], own)
        made = _certificate(names[0], own, issuer, by, names=names, days=days)
        return Pair(_pem(made), self._between if signed else b"", private(own))


def key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def private(own: _Key, password: bytes | None = None) -> bytes:
    hidden = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return own.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, hidden)


def _certificate(
    subject: str,
    own: _Key,
    issuer: str,
    by: _Key,
    *,
    names: Sequence[str] = (),
    days: tuple[float, float] = (-1, 90),
    authority: bool = False,
) -> x509.Certificate:
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(own.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + dt.timedelta(days=days[0]))
        .not_valid_after(now + dt.timedelta(days=days[1]))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    )
    if names:
        made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName(one) for one in names]), critical=False)
    return made.sign(by, hashes.SHA256())


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common[:64])])


def _pem(one: x509.Certificate) -> bytes:
    return one.public_bytes(serialization.Encoding.PEM)
