"""mailstack_auth.runtime.deferrals: since when messages wait for DNS."""

import json

import pytest

from mailstack_auth.runtime.deferrals import Deferrals

HOUR = 3600


class Clock:
    """A clock that is set by hand."""

    def __init__(self):
        self.now = 1_800_000_000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_from_the_first_deferral_on(tmp_path, clock):
    """Waiting begins with the first one, whatever comes in between, and is over after its time."""
    waits = Deferrals(tmp_path / "waits", 4 * HOUR, clock)
    assert not waits.over("192.0.2.1", "a.example")
    for hours, over in [(1, False), (3.9, False), (4, True), (9, True)]:
        clock.now = 1_800_000_000 + hours * HOUR
        assert waits.over("192.0.2.1", "a.example") == over


def test_by_network_and_author(tmp_path, clock):
    """A sender may come back from another host of its network; others wait for their own time."""
    waits = Deferrals(tmp_path / "waits", HOUR, clock)
    for client in ("192.0.2.1", "2001:db8::1"):
        waits.over(client, "a.example")
    clock.now += HOUR
    assert waits.over("192.0.2.200", "a.example")
    assert waits.over("2001:db8::ffff:1", "a.example")
    for client, author in [("192.0.3.1", "a.example"), ("2001:db8:0:1::1", "a.example"), ("192.0.2.1", "b.example")]:
        assert not waits.over(client, author)


def test_a_later_message_waits_again(tmp_path, clock):
    """After half a day without a deferral it is another message, and DNS was well in between."""
    waits = Deferrals(tmp_path / "waits", HOUR, clock)
    waits.over("192.0.2.1", "a.example")
    clock.now += 12 * HOUR + 1
    assert not waits.over("192.0.2.1", "a.example")
    clock.now += HOUR
    assert waits.over("192.0.2.1", "a.example")


def test_another_worker_goes_on(tmp_path, clock):
    """What one has noted the next one knows; a file that is damaged is as good as none."""
    Deferrals(tmp_path / "waits", HOUR, clock).over("192.0.2.1", "a.example")
    clock.now += HOUR
    assert Deferrals(tmp_path / "waits", HOUR, clock).over("192.0.2.1", "a.example")
    for content in ("", "{", "[]", '{"192.0.2.0/24": 1}', '{"192.0.2.0/24": {"a.example": "x"}}', "\x00"):
        (tmp_path / "waits").write_text(content)
        assert not Deferrals(tmp_path / "waits", HOUR, clock).over("192.0.2.1", "a.example")


def test_nobody_crowds_others_out(tmp_path, clock):
    """Who makes up authors loses his own; and the file stays small."""
    waits = Deferrals(tmp_path / "waits", HOUR, clock)
    waits.over("192.0.2.1", "a.example")
    for at in range(1000):
        waits.over("198.51.100.1", f"a{at}.example")
    for at in range(200):
        waits.over(f"10.{at}.0.1", "a.example")
    clock.now += HOUR
    assert waits.over("192.0.2.1", "a.example")
    for network in range(150):
        for at in range(64):
            waits.over(f"11.{network}.0.1", f"{at}.{'long.' * 40}example")
    clock.now += 2
    waits.over("192.0.2.1", "a.example")
    assert 8000 < sum(map(len, json.loads((tmp_path / "waits").read_text()).values())) <= 8192
    # Beside its successor it fills less than the place of 1 MB that others have to share.
    assert (tmp_path / "waits").stat().st_size < 400 * 1024


def test_a_full_disk(tmp_path, clock):
    """Nothing half-written stays and takes up room."""
    (tmp_path / "waits").mkdir()  # which no file replaces
    assert not Deferrals(tmp_path / "waits", HOUR, clock).over("192.0.2.1", "a.example")
    assert [one.name for one in tmp_path.iterdir()] == ["waits"]


def test_a_disk_that_cannot_be_written(tmp_path, clock):
    """What this worker knows still counts."""
    waits = Deferrals(tmp_path / "missing" / "waits", HOUR, clock)
    assert not waits.over("192.0.2.1", "a.example")
    clock.now += HOUR
    assert waits.over("192.0.2.1", "a.example")
