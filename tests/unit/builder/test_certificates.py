"""The directory of certificates, before Postfix's container sees it."""

from pathlib import Path

import pytest
from cryptography.x509 import load_pem_x509_certificate

from certificates import Authority
from mailstack.errors import SettingsError
from mailstack.keys.certificates import of_host, prepare


def test_it_is_made(tmp_path: Path) -> None:
    """The site's own is made, closed to others; while it is empty, a warning says what that means."""
    (warning,) = prepare(tmp_path, "tls")
    assert "self-signed" in warning
    assert (tmp_path / "tls").stat().st_mode & 0o777 == 0o700
    (tmp_path / "tls" / "x.pem").touch()
    assert prepare(tmp_path, "tls") == ()


@pytest.mark.parametrize("name", ["../certificates", "file", "file/below"])
def test_one_that_is_not_there(name: str, tmp_path: Path) -> None:
    """One outside the site is not made, and a file is none."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "file").touch()
    with pytest.raises(SettingsError, match="MAILSTACK_TLS_DIRECTORY"):
        prepare(site, name)
    assert [one.name for one in tmp_path.iterdir()] == ["site"]


@pytest.mark.parametrize("name", ["secrets", "secrets/dkim", "tls/../secrets", "../site", ".."])
def test_secrets_are_not_shown(name: str, tmp_path: Path) -> None:
    """Nothing that holds the site's secrets, or lies among them."""
    site = tmp_path / "site"
    (site / "secrets" / "dkim").mkdir(parents=True)
    with pytest.raises(SettingsError, match="would show Postfix what lies in secrets"):
        prepare(site, name)
    with pytest.raises(SettingsError, match="would show Postfix what lies in secrets"):
        prepare(site, str(site))


def test_those_of_the_host(authority: Authority, tmp_path: Path) -> None:
    """The valid ones for the name come first, the newest at the head, then their issuers; whatever else lies there."""
    old, new = authority.issue("mail.example.com", days=(-30, 60)), authority.issue("*.example.com", days=(-2, 88))
    (tmp_path / "a.pem").write_bytes(old.chain + old.key)
    (tmp_path / "below").mkdir()
    (tmp_path / "below/fullchain.pem").write_bytes(new.chain)
    (tmp_path / "expired.pem").write_bytes(authority.issue("mail.example.com", days=(-90, -1)).chain)
    (tmp_path / "another.pem").write_bytes(authority.issue("www.example.com").chain)
    (tmp_path / "broken.pem").write_bytes(old.certificate[:200])
    (tmp_path / "key.pem").write_bytes(new.key)
    for name in ("loop", "another loop"):
        (tmp_path / "below" / name).symlink_to(tmp_path)
    found = [one.serial_number for one in of_host(tmp_path, "mail.example.com")]
    assert found[:1] == [new.serial]
    issuer = load_pem_x509_certificate(new.above).serial_number
    assert {*found} == {new.serial, old.serial, issuer}
    assert found.index(issuer) > found.index(old.serial)
    assert of_host(tmp_path / "nowhere", "mail.example.com") == []
