"""A certificate is renewed while mail comes in: by rename, by symlink, in place, and first by a half of one."""

import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import pytest

from certificates import Authority, Pair
from mailstack.world.containers import Machine, wait_for
from mailstack.world.site import Site
from support import Client, address_of, message, subject, subject_of

NAME = "mail.foxtrot.example"
MAILBOX = "user@foxtrot.example"
# What the requirement says.
SECONDS = 60
_PAUSE = 0.2


def in_place(directory: Path, pair: Pair) -> None:
    """Each file is cut to nothing, and written octet by octet."""
    for name, content in (("cert.pem", pair.chain), ("key.pem", pair.key)):
        with (directory / name).open("wb", buffering=0) as file:
            for octet in content:
                file.write(bytes([octet]))


def rename(directory: Path, pair: Pair) -> None:
    """Each file is written under another name, which takes its place."""
    for name, content in (("cert.pem", pair.chain), ("key.pem", pair.key)):
        (directory / ".new").write_bytes(content)
        (directory / ".new").replace(directory / name)


def symlink(directory: Path, pair: Pair) -> None:
    """Each name is a link to a file of this renewal."""
    for name, content in (("cert.pem", pair.chain), ("key.pem", pair.key)):
        version = f"{len(list(directory.iterdir()))}-{name}"
        (directory / version).write_bytes(content)
        (directory / "link").symlink_to(version)
        (directory / "link").replace(directory / name)


class Stream:
    """One message after the other by TLS, each in a session of its own, until it is told to end."""

    def __init__(self, machine: Machine, site: Site, tls: ssl.SSLContext) -> None:
        self.sent: list[str] = []
        self.serials: list[int] = []
        self.error: Exception | None = None
        self._machine, self._site, self._tls = machine, site, tls
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            while not self._ended.wait(_PAUSE):
                self.one()
        except Exception as error:  # noqa: BLE001
            # Whatever it is, the test shows it.
            self.error = error

    def one(self) -> None:
        about = subject("while it is renewed")
        with Client(self._machine, address_of(self._site)) as session:
            self.serials.append(session.encrypt(self._tls, NAME))
            session.sendmail("someone@listed.example", [MAILBOX], message("someone@listed.example", MAILBOX, about))
        self.sent.append(about)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


@pytest.fixture
def first(authority: Authority, outsider: Machine, foxtrot: Site) -> Iterator[Pair]:
    """The certificate with which foxtrot begins."""
    pair, directory = authority.issue(NAME, days=(-60, 30)), foxtrot.directory / "tls"
    rename(directory, pair)
    tls = ssl.create_default_context(cadata=authority.root.decode())

    def served() -> bool:
        with Client(outsider, address_of(foxtrot)) as session:
            try:
                return session.encrypt(tls, NAME) == pair.serial
            except ssl.SSLError:
                return False

    wait_for(served, "the first certificate is not served", SECONDS)
    yield pair
    for one in directory.iterdir():
        one.unlink()
    # As before the first one: what was taken would stay in use.
    foxtrot.run("postfix", "sh", "-c", "rm -r /var/lib/certificates/*")
    foxtrot.compose("restart", "postfix")
    foxtrot.wait_healthy(SECONDS)
    assert foxtrot.status()["certificates"]["faults"] == []


@pytest.mark.parametrize("renew", [rename, symlink, in_place], ids=lambda one: one.__name__)
def test_renewal(
    renew: Callable[[Path, Pair], None], first: Pair, authority: Authority, outsider: Machine, foxtrot: Site
) -> None:
    """Within a minute new sessions have the new certificate; no message is lost or in clear, and open sessions go on."""
    directory = foxtrot.directory / "tls"
    second = authority.issue(NAME)
    tls = ssl.create_default_context(cadata=authority.root.decode())
    with Client(outsider, address_of(foxtrot)) as before:
        assert before.encrypt(tls, NAME) == first.serial
        before.mail("someone@listed.example")
        with Stream(outsider, foxtrot, tls) as stream:
            renew(directory, second)
            wait_for(lambda: stream.error or stream.serials[-1:] == [second.serial], "it is not served", SECONDS)
        assert stream.error is None
        assert set(stream.serials) == {first.serial, second.serial}
        about = subject("in the session that began before")
        before.rcpt(MAILBOX)
        assert before.data(message("someone@listed.example", MAILBOX, about))[0] == 250
    sent = {*stream.sent, about}

    def arrived() -> list[str]:
        return [one for one in map(subject_of, foxtrot.mail(MAILBOX)) if one in sent]

    wait_for(lambda: len(arrived()) == len(sent), "not every message arrived once")
    assert set(arrived()) == sent


def test_half_renewed(first: Pair, authority: Authority, outsider: Machine, foxtrot: Site) -> None:
    """A half of a certificate and the key of the whole one: the old pair goes on, status and health say why."""
    directory, second = foxtrot.directory / "tls", authority.issue(NAME)
    rename(directory, Pair(second.certificate[:300], b"", second.key))
    fault = "tls/cert.pem is cut off: a part has no end"
    wait_for(lambda: fault in foxtrot.status()["certificates"]["faults"], "status says nothing of it")
    with Client(outsider, address_of(foxtrot)) as session:
        assert session.encrypt(ssl.create_default_context(cadata=authority.root.decode()), NAME) == first.serial
    assert fault in foxtrot.run("postfix", "healthcheck").decode()
    assert [one for one in foxtrot.log("postfix") if f"certificates: {fault}" in one]
