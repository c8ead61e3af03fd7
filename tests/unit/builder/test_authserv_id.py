"""The secret authserv-id: made once, kept, never shown."""

import hashlib
import stat

import pytest

from mailstack.errors import SecretError
from mailstack.keys import authserv_id


def ensure(directory):
    """What a build does."""
    authserv_id.make(directory)
    return authserv_id.read(directory)


def test_made_once(tmp_path):
    """It is made for its owner alone, is another one in every directory, and stays."""
    digest, warnings = ensure(tmp_path)
    path = tmp_path / authserv_id.FILE
    assert warnings == []
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert ensure(tmp_path) == (digest, [])
    assert ensure(tmp_path / "elsewhere")[0] != digest


def test_reading_makes_nothing(tmp_path):
    """One that is still to be made is not made by who reads it."""
    with pytest.raises(SecretError, match="does not exist; run: mailstack build"):
        authserv_id.read(tmp_path)
    assert not authserv_id.is_made(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content", ["", "\n", "short\n", "mail.example.com\n", "x" * 32 + "; dkim=pass\n", "x" * 32 + "\n\n", "X" * 40]
)
def test_what_is_no_secret_is_refused(tmp_path, content):
    """What could be guessed, or would be more than one word in a header, is refused with the remedy, and not shown."""
    ensure(tmp_path)
    path = tmp_path / authserv_id.FILE
    path.write_text(content)
    with pytest.raises(SecretError, match="remove it, and 'mailstack build' makes a new one") as caught:
        ensure(tmp_path)
    assert str(path) in str(caught.value)
    assert not content.strip() or content.strip() not in str(caught.value)
    with pytest.raises(SecretError):
        authserv_id.read(tmp_path)
    path.unlink()
    assert len(ensure(tmp_path)[0]) == 64


def test_others_can_read_it(tmp_path):
    """Loose modes are warned about with the command that mends them."""
    ensure(tmp_path)
    (tmp_path / authserv_id.FILE).chmod(0o644)
    _, (warning,) = authserv_id.read(tmp_path)
    assert warning.endswith("can be read by users other than its owner; run: chmod go= secrets/authserv-id")


def test_cannot_be_written(tmp_path):
    """A file in the way of the directory ends in an error that names the path."""
    (tmp_path / "secrets").write_text("")
    with pytest.raises(SecretError, match="secrets: cannot be written: File exists; something else has this name"):
        ensure(tmp_path)
