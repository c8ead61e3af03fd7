"""The directory of certificates, before Postfix's container sees it."""

from pathlib import Path

import pytest

from mailstack.errors import SettingsError
from mailstack.keys.certificates import prepare


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
