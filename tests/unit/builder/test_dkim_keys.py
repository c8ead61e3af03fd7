"""mailstack.keys.dkim: a private key is made once, never changed, and used only if it is whole and the right one."""

import base64
import os
import subprocess
import tempfile
import traceback
from functools import partial
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from mailstack.errors import DkimKeyError
from mailstack.keys import dkim

NAME = "s1._domainkey.example.com"
PEM, TXT = dkim.DIRECTORY / f"{NAME}.pem", dkim.DIRECTORY / f"{NAME}.txt"
PUBLIC = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
OLD_FORM = serialization.PrivateFormat.TraditionalOpenSSL


def ensure(directory, bits=1024, domain="example.com", selector="s1"):
    """What a build does."""
    dkim.make(directory, domain, selector, bits)
    return dkim.read(directory, domain, selector)


def pem_of(key, passphrase=None, form=serialization.PrivateFormat.PKCS8):
    encryption = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, form, encryption)


def rsa_key(bits=1024):
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def state(directory):
    """Everything that would show a change: content, modes, times, inodes."""
    return {
        path: (stat.st_mode, stat.st_mtime_ns, stat.st_ino, path.is_file() and path.read_bytes())
        for path in [directory, *directory.rglob("*")]
        for stat in [path.lstat()]
    }


def put(directory, content, mode=0o600):
    """A private key that somebody has put there, with the modes that are asked for."""
    (directory / PEM).parent.mkdir(parents=True, mode=0o700)
    (directory / "secrets").chmod(0o700)
    (directory / PEM).write_bytes(content)
    (directory / PEM).chmod(mode)


def mode(path):
    return path.stat().st_mode & 0o7777


@pytest.mark.parametrize("bits", [1024, 2048])
def test_key_is_made(tmp_path, bits):
    """A new key has the asked length, lies below directories of its owner alone, and its record is its public half."""
    key, warnings = ensure(tmp_path, bits)
    private = loaded((tmp_path / PEM).read_bytes())
    public = private.public_key().public_bytes(serialization.Encoding.DER, PUBLIC[1])
    assert (key.domain, key.selector, key.path, key.name) == ("example.com", "s1", PEM, NAME)
    assert key.bits == private.key_size == bits
    assert key.record == f"v=DKIM1; h=sha256; k=rsa; p={base64.b64encode(public).decode()}"
    assert (tmp_path / TXT).read_text() == f"{key.record}\n"
    assert [mode(tmp_path / path) for path in ("secrets", dkim.DIRECTORY, PEM)] == [0o700, 0o700, 0o600]
    assert len(warnings) == (bits < 2048)
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == {tmp_path / PEM, tmp_path / TXT}


def test_second_call_changes_nothing(tmp_path):
    """A key that is there is used as it is, whatever length is asked for now."""
    first, _ = ensure(tmp_path)
    before = state(tmp_path)
    assert ensure(tmp_path, 2048)[0] == first
    assert state(tmp_path) == before


def test_reading_makes_nothing(tmp_path):
    """A key that was never made is no key, one that somebody has put there is one, and nothing is written."""
    with pytest.raises(DkimKeyError, match="there is no key yet; run: mailstack build"):
        dkim.read(tmp_path, "example.com", "s1")
    assert list(tmp_path.iterdir()) == []
    put(tmp_path, pem_of(rsa_key(2048)))
    before = state(tmp_path)
    assert dkim.read(tmp_path, "example.com", "s1")[0].bits == 2048
    assert state(tmp_path) == before


def test_each_domain_and_selector_has_its_own(tmp_path):
    """Keys of other domains and selectors are other keys in other files."""
    keys = [
        ensure(tmp_path, domain=domain, selector=selector)[0]
        for domain, selector in [("example.com", "s1"), ("example.net", "s1"), ("example.com", "s2")]
    ]
    assert len({key.record for key in keys}) == len({key.path for key in keys}) == 3


@pytest.mark.parametrize("form", [serialization.PrivateFormat.PKCS8, OLD_FORM])
def test_key_from_elsewhere_is_adopted(tmp_path, form):
    """A private key that somebody put there is used, its file stays as it is, and its record is kept beside it."""
    put(tmp_path, pem_of(rsa_key(2048), form=form))
    before = state(tmp_path)[tmp_path / PEM]
    key, warnings = ensure(tmp_path)
    assert (key.bits, warnings) == (2048, [])
    assert (tmp_path / TXT).read_text() == f"{key.record}\n"
    assert state(tmp_path)[tmp_path / PEM] == before


def test_weak_key_from_elsewhere_is_warned_about(tmp_path):
    """A key of 1024 bits is used and warned about, even if longer ones are asked for."""
    put(tmp_path, pem_of(rsa_key(1024)))
    key, warnings = ensure(tmp_path, 2048)
    assert key.bits == 1024
    assert [one for one in warnings if "1024" in one]


@pytest.mark.parametrize(
    ("path", "loose"),
    [(PEM, 0o644), (PEM, 0o640), (dkim.DIRECTORY, 0o755), (dkim.DIRECTORY.parent, 0o711)],
)
def test_loose_modes_are_warned_about(tmp_path, path, loose):
    """A key file or directory that others may enter is named, with the command that closes it; it is not changed."""
    ensure(tmp_path)
    (tmp_path / path).chmod(loose)
    (warning,) = [one for one in ensure(tmp_path)[1] if "weak" not in one]
    assert str(tmp_path / path) in warning
    assert f"chmod go= {path}" in warning
    assert mode(tmp_path / path) == loose


def weak_pem():
    """A key that is shorter than cryptography makes them."""
    return subprocess.run(["openssl", "genrsa", "512"], check=True, capture_output=True).stdout


def loaded(pem):
    return serialization.load_pem_private_key(pem, None)


def public_pem(pem):
    return loaded(pem).public_key().public_bytes(*PUBLIC)


def damaged_pem(pem, number):
    """A key with a bit turned over in one of its private numbers."""
    key = loaded(pem)
    octets = bytearray(key.private_bytes(serialization.Encoding.DER, OLD_FORM, serialization.NoEncryption()))
    value = getattr(key.private_numbers(), number)
    whole = value.to_bytes((value.bit_length() + 7) // 8, "big")
    octets[octets.index(whole) + len(whole) // 2] ^= 4
    form = b"-----%b RSA PRIVATE KEY-----\n"
    return form % b"BEGIN" + base64.encodebytes(octets) + form % b"END"


# What has become of a key → from the whole key's file, and what the message says.
BROKEN = {
    "empty": (lambda pem: b"", "is empty"),
    "blank": (lambda pem: b"\n \n", "is empty"),
    "cut after 200 bytes": (lambda pem: pem[:200], "is not a complete RSA private key"),
    "cut in its last line": (lambda pem: pem[:-40], "is not a complete RSA private key"),
    "not text": (lambda pem: bytes(range(256)), "is not a complete RSA private key"),
    "public": (public_pem, "is a public key"),
    "another algorithm": (lambda pem: pem_of(ec.generate_private_key(ec.SECP256R1())), "is not an RSA key"),
    "encrypted": (lambda pem: pem_of(loaded(pem), b"passphrase"), "is encrypted"),
    "encrypted as of old": (lambda pem: pem_of(loaded(pem), b"passphrase", OLD_FORM), "is encrypted"),
    **{
        f"damaged {number}": (partial(damaged_pem, number=number), "is not a complete RSA private key")
        for number in ("d", "p", "q", "dmp1", "dmq1", "iqmp")
    },
    "512 bits": (lambda pem: weak_pem(), "1024"),
    "replaced": (lambda pem: pem_of(rsa_key()), "does not match the record"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_key_is_refused(tmp_path, kind):
    """The error names domain, selector, path and fault, shows nothing of the key, and all files stay as they are."""
    ensure(tmp_path)
    whole = (tmp_path / PEM).read_bytes()
    make, fault = BROKEN[kind]
    broken = make(whole)
    (tmp_path / PEM).write_bytes(broken)
    before = state(tmp_path)
    with pytest.raises(DkimKeyError) as caught:
        ensure(tmp_path)
    assert str(caught.value).startswith(f"DKIM key of example.com, selector s1, {tmp_path / PEM}: ")
    assert fault in str(caught.value)
    # With --debug a person sees the traceback, and sends it on.
    shown = "".join(traceback.format_exception(caught.value))
    secrets = [line[:16] for pem in (whole, broken) for line in pem.decode("latin-1").split("\n") if len(line) > 32]
    assert not [one for one in secrets if one in shown]
    assert state(tmp_path) == before


@pytest.mark.parametrize("kind", sorted(BROKEN.keys() - {"replaced"}))
def test_broken_key_from_elsewhere_is_refused(tmp_path, kind):
    """A key that never was a good one is refused too, and no record is written for it."""
    put(tmp_path, BROKEN[kind][0](pem_of(rsa_key())))
    before = state(tmp_path)
    with pytest.raises(DkimKeyError, match=r"example\.com, selector s1"):
        ensure(tmp_path)
    assert state(tmp_path) == before


def test_lost_key_is_not_made_anew(tmp_path):
    """Where a record was to be published, a missing private key is an error and nothing takes its place."""
    ensure(tmp_path)
    (tmp_path / PEM).unlink()
    before = state(tmp_path)
    with pytest.raises(DkimKeyError, match="private key is missing") as caught:
        ensure(tmp_path)
    assert str(tmp_path / PEM) in str(caught.value)
    assert str(TXT) in str(caught.value)
    assert state(tmp_path) == before
    (tmp_path / TXT).unlink()
    assert ensure(tmp_path)[0].path == PEM


@pytest.mark.parametrize("content", [b"", b"v=DKIM1; h=sha256; k=rsa; p=AAAA\n", b"\xff\xfe"])
def test_record_of_another_key(tmp_path, content):
    """A record beside the key that is not the key's own is an error, whatever it holds."""
    ensure(tmp_path)
    (tmp_path / TXT).write_bytes(content)
    with pytest.raises(DkimKeyError, match="does not match the record"):
        ensure(tmp_path)


@pytest.mark.parametrize("obstacle", ["secrets", "secrets/dkim", str(PEM)])
def test_key_that_cannot_be_made_or_read(tmp_path, obstacle):
    """Where there is no place for a key (here: a file for a directory, or the reverse), the error names the key."""
    path = tmp_path / obstacle
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix:
        path.mkdir()
    else:
        path.write_text("in the way")
    with pytest.raises(DkimKeyError, match=r"example\.com, selector s1"):
        ensure(tmp_path)


def test_directory_that_is_read_only():
    """Where no key is and none can be written, the error names domain, selector and path."""
    # pytest's own directories are closed to other users, and root, whom no mode stops, becomes one for a moment.
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o555)
        root = os.geteuid() == 0
        if root:
            os.seteuid(65534)
        try:
            with pytest.raises(DkimKeyError, match=r"example\.com, selector s1.*Permission denied") as caught:
                ensure(directory)
        finally:
            if root:
                os.seteuid(0)
        assert str(directory / PEM) in str(caught.value)
        assert list(directory.iterdir()) == []
        directory.chmod(0o700)


def test_public_half_in_the_same_file(tmp_path):
    """A file with both halves is a private key; the public one, in front or behind, is passed over."""
    private = rsa_key()
    for at, content in enumerate(
        [
            private.public_key().public_bytes(*PUBLIC) + pem_of(private),
            pem_of(private) + private.public_key().public_bytes(*PUBLIC),
        ]
    ):
        directory = tmp_path / str(at)
        put(directory, content)
        assert ensure(directory)[0].bits == 1024
