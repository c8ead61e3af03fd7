"""Keys of other programs: found as they lie, taken byte for byte, refused by name."""

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from mailstack.cli.app import main
from mailstack.keys import dkim, others

KEYS = [rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2)]
TOO_SHORT = subprocess.run(["openssl", "genrsa", "512"], check=True, capture_output=True).stdout.decode()
PKCS1, PKCS8 = serialization.PrivateFormat.TraditionalOpenSSL, serialization.PrivateFormat.PKCS8


def pem(key: Any = KEYS[0], form: serialization.PrivateFormat = PKCS1, password: bytes | None = None) -> str:
    hidden = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return str(key.private_bytes(serialization.Encoding.PEM, form, hidden).decode())


def genkey(selector: str, domain: str = "", comment: str = "example.com") -> str:
    """The record as opendkim-genkey writes it, without and with -a."""
    name = f"{selector}._domainkey" + (f".{domain}." if domain else "")
    return (
        f'{name}\tIN\tTXT\t( "v=DKIM1; h=sha256; k=rsa; "\n\t  "p=MIIB" )  ; ----- DKIM key {selector} for {comment}\n'
    )


TABLE = "mail._domainkey.example.com example.com:mail:/etc/opendkim/keys/example.com/mail.private\n"
# Files below the directory that is named, and the names of the keys in it.
LAYOUTS: Mapping[str, tuple[Mapping[str, str], list[str]]] = {
    "opendkim-genkey": ({"s1.private": pem(), "s1.txt": genkey("s1")}, ["s1._domainkey.example.com"]),
    "opendkim-genkey with -a": (
        {"s1.private": pem(form=PKCS8), "s1.txt": genkey("s1", "example.net", "other.example")},
        ["s1._domainkey.example.net"],
    ),
    "docker-mailserver with OpenDKIM": (
        {
            "opendkim/KeyTable": TABLE,
            "opendkim/SigningTable": "*@example.com mail._domainkey.example.com\n",
            "opendkim/keys/example.com/mail.private": pem(),
            "opendkim/keys/example.com/mail.txt": genkey("mail"),
            "opendkim/keys/example.net/mail.private": pem(KEYS[1]),
            "opendkim/keys/example.net/mail.txt": genkey("mail", comment="example.net"),
        },
        ["mail._domainkey.example.com", "mail._domainkey.example.net"],
    ),
    "docker-mailserver with rspamd": (
        {
            "rspamd/dkim/rsa-2048-mail-example.com.private.txt": pem(form=PKCS8),
            "rspamd/dkim/rsa-2048-mail-example.com.public.txt": "-----BEGIN PUBLIC KEY-----\n",
            "rspamd/dkim/rsa-2048-mail-example.com.public.dns.txt": "v=DKIM1; k=rsa; p=MIIB\n",
        },
        ["mail._domainkey.example.com"],
    ),
    "a KeyTable alone": (
        {"KeyTable": TABLE.replace("mail.private", "key"), "keys/example.com/key": pem()},
        ["mail._domainkey.example.com"],
    ),
    "bokysan": (
        {"example.com.private": pem(), "example.com.txt": genkey("mail")},
        ["mail._domainkey.example.com"],
    ),
    "Mailu": ({"example.com.dkim.key": pem()}, ["dkim._domainkey.example.com"]),
    "mailcow": (
        {"keys": f"dkim.example.com\n{pem(form=PKCS8)}\ndkim.example.net\n{pem(KEYS[1], PKCS8)}"},
        ["dkim._domainkey.example.com", "dkim._domainkey.example.net"],
    ),
}


@pytest.fixture(autouse=True)
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "site"
    place.mkdir()
    monkeypatch.chdir(place)
    for name in [one for one in os.environ if one.startswith("MAILSTACK_")]:
        monkeypatch.delenv(name)
    (place / ".env").write_text(
        "MAILSTACK_HOSTNAME=mail.example.com\nMAILSTACK_DOMAINS=example.com,example.net\n"
        "MAILSTACK_MAILBOXES=user@example.com\nMAILSTACK_DKIM_KEYS=per-domain\n"
    )
    return place


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, list(map(str, arguments)), catch_exceptions=False)


def lay(place: Path, files: Mapping[str, str]) -> Path:
    for name, content in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(content)
    return place


@pytest.mark.parametrize(("files", "names"), LAYOUTS.values(), ids=LAYOUTS.keys())
def test_layouts(tmp_path: Path, site: Path, files: Mapping[str, str], names: list[str]) -> None:
    """Each key is taken under its name, with the record that it had; a second time nothing changes."""
    source = lay(tmp_path / "other", files)
    done = run("dkim", "import", source)
    assert done.exit_code == 0, done.stderr
    taken = {path.stem: path for path in (site / dkim.DIRECTORY).glob("*.pem")}
    assert sorted(taken) == sorted(names)
    secrets = "".join(files.values())
    for name, path in taken.items():
        selector, _, domain = name.partition("._domainkey.")
        key, _ = dkim.read(site, domain, selector)
        own = KEYS[domain == "example.net" and len(names) > 1]
        public = own.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        assert dkim.brought(pem(own).encode(), domain, selector, "").record == key.record
        assert len(public) > 256
        assert path.read_text() in f"{secrets}\n"
        assert path.stat().st_mode & 0o777 == 0o600
        assert f"{name}, 2048 bits: imported (" in done.stderr
    before = {one: one.read_bytes() for one in taken.values()}
    again = run("dkim", "import", source)
    assert again.exit_code == 0
    assert again.stderr.count("was here already") == len(names)
    assert {one: one.read_bytes() for one in (site / dkim.DIRECTORY).glob("*.pem")} == before


def test_what_is_to_be_done(tmp_path: Path, site: Path) -> None:
    """The settings that would use an imported key are said; with them it signs."""
    source = lay(tmp_path / "other", LAYOUTS["Mailu"][0])
    assert "MAILSTACK_DKIM_SELECTOR=dkim" in run("dkim", "import", source).stderr
    settings = {"MAILSTACK_DKIM_SELECTOR": "dkim", "MAILSTACK_DKIM_KEYS": "shared"}
    dkim.make(site, "example.com", "dkim", 2048)
    (site / "secrets/authserv-id").write_text("0" * 32)
    rows = json.loads(CliRunner().invoke(main, ["dkim", "list", "--json"], env=settings).stdout)
    assert [(one["record"], one["signs_for"]) for one in rows] == [
        ("dkim._domainkey.example.com", ["example.com", "example.net", "mail.example.com"])
    ]
    assert "2048" in CliRunner().invoke(main, ["dkim", "list"], env=settings).stdout


@pytest.mark.parametrize(
    ("files", "options", "words"),
    [
        ({"x.pem": pem()}, [], "x.pem: does not say for which name it is; add --domain and --selector"),
        ({"x.pem": pem()}, ["--domain", "example.com"], "add --selector"),
        ({"example.com.private": pem()}, [], "add --selector"),
        ({"s.private": pem(), "s.txt": genkey("s", comment="other.example")}, [], "is for other.example, which is no"),
        ({"example.com.dkim.key": pem()[:300]}, [], "has no private key in PEM form"),
        ({"example.com.dkim.key": pem().replace("M", "N", 3)}, [], "is not a complete RSA private key"),
        ({"example.com.dkim.key": TOO_SHORT}, [], "1024"),
        ({"example.com.dkim.key": pem(password=b"x", form=PKCS8)}, [], "the key is encrypted"),
        ({"example.com.dkim.key": pem(ed25519.Ed25519PrivateKey.generate(), PKCS8)}, [], "is not an RSA key"),
        ({"a.txt": "nothing"}, [], "has no private key in PEM form"),
        (
            {"a/example.com.dkim.key": pem(), "b/example.com.dkim.key": pem(KEYS[1])},
            [],
            "is another key for dkim._domainkey.example.com than",
        ),
        ({"x.pem": pem()}, ["--domain", "example.com", "--selector", "a b"], "x.pem: is for a b._domainkey"),
    ],
)
def test_what_is_refused(tmp_path: Path, site: Path, files: Mapping[str, str], options: list[str], words: str) -> None:
    """The file is named, and nothing is written."""
    done = run("dkim", "import", lay(tmp_path / "other", files), *options)
    assert done.exit_code != 0
    assert words in done.stderr
    assert not (site / dkim.DIRECTORY).exists()
    assert "-----" not in done.stderr


def test_one_bad_key_among_good_ones(tmp_path: Path, site: Path) -> None:
    """None is taken."""
    files = {"example.com.dkim.key": pem(), "example.net.dkim.key": pem(password=b"x", form=PKCS8)}
    assert run("dkim", "import", lay(tmp_path / "other", files)).exit_code != 0
    assert not (site / dkim.DIRECTORY).exists()


def test_a_name_that_another_key_has(tmp_path: Path, site: Path) -> None:
    """The key that is there stays."""
    dkim.make(site, "example.com", "dkim", 2048)
    path = site / dkim.DIRECTORY / "dkim._domainkey.example.com.pem"
    before = path.read_bytes()
    done = run("dkim", "import", lay(tmp_path / "other", LAYOUTS["Mailu"][0]))
    assert done.exit_code != 0
    assert "another key is dkim._domainkey.example.com here" in done.stderr
    assert path.read_bytes() == before


def test_options_name_a_key(tmp_path: Path, site: Path) -> None:
    """What a file does not say is given by options; what it says stays."""
    source = lay(tmp_path / "other", {"x.pem": pem()}) / "x.pem"
    done = run("dkim", "import", source, "--domain", "Example.com", "--selector", "S1")
    assert done.exit_code == 0, done.stderr
    assert [path.stem for path in (site / dkim.DIRECTORY).glob("*.pem")] == ["s1._domainkey.example.com"]


def test_directories_without_end(tmp_path: Path) -> None:
    """Links are not followed, large files are not read, and a directory that cannot be listed is an error."""
    place = lay(tmp_path / "other", LAYOUTS["Mailu"][0])
    (place / "loop").symlink_to(place)
    (place / "large.key").write_text(pem() + "x" * 100_000)
    os.mkfifo(place / "pipe")
    assert [one.domain for one in others.find(place)] == ["example.com"]
