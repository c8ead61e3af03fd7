"""The secret authserv-id and the key of SRS: made once, kept, never shown."""

import hashlib
import stat
from dataclasses import replace

import pytest

from mailstack.errors import SecretError
from mailstack.keys import authserv_id, srs_key
from mailstack.tasks.load import is_made, make_secrets, stack_of
from unit.sites import settings


@pytest.fixture(params=[authserv_id, srs_key], ids=["authserv-id", "srs-key"])
def token(request):
    return request.param


def ensure(token, directory):
    """What a build does."""
    token.make(directory)
    return token.read(directory)


def test_made_once(token, tmp_path):
    """It is made for its owner alone, is another one in every directory, and stays."""
    digest, warnings = ensure(token, tmp_path)
    path = tmp_path / token.FILE
    assert warnings == []
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert ensure(token, tmp_path) == (digest, [])
    assert ensure(token, tmp_path / "elsewhere")[0] != digest


def test_reading_makes_nothing(token, tmp_path):
    """One that is still to be made is not made by who reads it."""
    with pytest.raises(SecretError, match="does not exist; run: mailstack build"):
        token.read(tmp_path)
    assert not token.is_made(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content", ["", "\n", "short\n", "mail.example.com\n", "x" * 32 + "; dkim=pass\n", "x" * 32 + "\n\n", "X" * 40]
)
def test_what_is_no_secret_is_refused(token, tmp_path, content):
    """What could be guessed, or would be more than one word in a header, is refused with the remedy, and not shown."""
    ensure(token, tmp_path)
    path = tmp_path / token.FILE
    path.write_text(content)
    with pytest.raises(SecretError, match="remove it, and 'mailstack build' makes a new one") as caught:
        ensure(token, tmp_path)
    assert str(path) in str(caught.value)
    assert not content.strip() or content.strip() not in str(caught.value)
    with pytest.raises(SecretError):
        token.read(tmp_path)
    path.unlink()
    assert len(ensure(token, tmp_path)[0]) == 64


def test_others_can_read_it(token, tmp_path):
    """Loose modes are warned about with the command that mends them."""
    ensure(token, tmp_path)
    (tmp_path / token.FILE).chmod(0o644)
    _, (warning,) = token.read(tmp_path)
    assert warning.endswith(f"can be read by users other than its owner; run: chmod go= {token.FILE}")


def test_cannot_be_written(token, tmp_path):
    """A file in the way of the directory ends in an error that names the path."""
    (tmp_path / "secrets").write_text("")
    with pytest.raises(SecretError, match="secrets: cannot be written: File exists; something else has this name"):
        ensure(token, tmp_path)


def test_a_key_of_srs_where_it_is_needed(tmp_path):
    """It is made with the first alias that leads to another server, and kept."""
    make_secrets(tmp_path, settings())
    assert is_made(tmp_path, settings())
    assert not srs_key.is_made(tmp_path)
    forwarding = settings(aliases="a@example.com=x@example.net")
    # Who only looks makes none.
    before, _ = stack_of(tmp_path, forwarding)
    assert not srs_key.is_made(tmp_path)
    make_secrets(tmp_path, forwarding)
    assert srs_key.is_made(tmp_path)
    after, _ = stack_of(tmp_path, forwarding)
    assert before.srs_key_digest
    assert before == replace(after, srs_key_digest=before.srs_key_digest) != after
