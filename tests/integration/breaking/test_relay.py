"""Mail by relay hosts, of all senders and of some domains: logins on 465 and 587, a wrong one, another certificate."""

import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from certificates import Authority, Pair
from integration.conftest import site
from integration.mailbox_server import Receiver
from mailstack.world.containers import Machine, wait_for
from mailstack.world.internet import Internet
from mailstack.world.site import Site
from place import EDGE
from support import address_of, independent_dkim, message, send, subject

NAME = "relay.provider.example"
HOSTNAME = "mail.golf.example"
USER, PASSWORD = "golf@provider.example", "correct horse: battery, staple"
# By TLS from the start aiosmtpd sees no TLS.
pytestmark = pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS:UserWarning")
SENDER, RECIPIENT = "user@golf.example", "user@elsewhere.example"
ALIAS, STRANGER = "out@golf.example", "someone@listed.example"
# Domains with relay hosts of their own, and their logins.
LOGINS = {
    "gulf.example": ("gulf@provider.example", "gulf: #s3cret"),
    "grid.example": ("grid@provider.example", "s3=cret"),
}


class Provider(Receiver):
    """A server that takes mail after a login only, which it offers by TLS only."""

    def __init__(self, pair: Pair, directory: Path, port: int) -> None:
        file = directory / f"{pair.serial}.pem"
        file.write_bytes(pair.chain + pair.key)
        self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._tls.load_cert_chain(file)
        self._wrapped = port == 465
        self.tries: list[LoginPassword] = []
        # Who sent each message, by login and by envelope.
        self.senders: list[tuple[str, str | None]] = []
        super().__init__(EDGE[1], port, self._tls if self._wrapped else None)

    def factory(self) -> SMTP:
        # By TLS from the start aiosmtpd knows of no TLS, and would not offer a login.
        return SMTP(
            self.handler,
            hostname=NAME,
            auth_required=True,
            auth_require_tls=not self._wrapped,
            require_starttls=not self._wrapped,
            tls_context=None if self._wrapped else self._tls,
            authenticator=self._authenticate,
        )

    def _authenticate(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: object
    ) -> AuthResult:
        assert isinstance(data, LoginPassword)
        self.tries.append(data)
        right = (data.login.decode(), data.password.decode()) in {(USER, PASSWORD), *LOGINS.values()}
        return AuthResult(success=right, handled=False, auth_data=data.login.decode())

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        self.senders.append((session.auth_data, envelope.mail_from))
        return await super().handle_DATA(server, session, envelope)


@pytest.fixture(scope="module")
def golf(world: Internet, authority: Authority, insider: Machine, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A stack that sends by the relay host, and trusts the tests' authority as its site wants it."""
    world.names.set(NAME, "A", str(EDGE[1]))
    world.names.publish()
    authorities = tmp_path_factory.mktemp("authorities") / "authorities.pem"
    authorities.write_bytes(authority.root)
    override = f"""\
services:
  postfix:
    volumes:
      - {{type: bind, source: "{authorities}", target: /etc/ssl/certs/ca-certificates.crt, read_only: true}}
"""
    return site(
        world,
        HOSTNAME,
        ",".join(["golf.example", *LOGINS]),
        override,
        MAILBOXES=SENDER,
        ALIASES=f"{ALIAS}={RECIPIENT}",
        TRUSTED_NETWORKS=str(insider.address),
        **relay(465),
        **relays(587),
    )


def relay(port: int, password: str = PASSWORD) -> dict[str, str]:
    return {"RELAY_HOST": f"{NAME}:{port}", "RELAY_USER": USER, "RELAY_PASSWORD": password}


def relays(port: int, host: str = NAME, **passwords: str) -> dict[str, str]:
    """The relay hosts of the other domains; passwords has those that are to be wrong, by the domain's first label."""
    logins = {domain: (user, passwords.get(domain.split(".")[0], right)) for domain, (user, right) in LOGINS.items()}
    return {
        "RELAY_HOSTS": ",".join(f"{domain}={host}:{port}" for domain in LOGINS),
        "RELAY_LOGINS": "\n".join(f"{domain}={user}:{password}" for domain, (user, password) in logins.items()),
    }


def change(golf: Site, **settings: str) -> None:
    """Build with other settings, and let compose recreate what changed."""
    golf.build(golf.environment | {f"MAILSTACK_{name}": value for name, value in settings.items()})
    golf.up()


@contextmanager
def provider(pair: Pair, directory: Path, port: int) -> Iterator[Provider]:
    with Provider(pair, directory, port) as running:
        yield running


def submit(golf: Site, insider: Machine, about: str, sender: str = SENDER, recipient: str = RECIPIENT) -> None:
    content = message(sender or f"mailer-daemon@{HOSTNAME}", recipient, about)
    assert send(insider, address_of(golf), sender, recipient, content, port=587).code == 250


def waiting(golf: Site) -> list[dict[str, Any]]:
    """Why messages wait, by status."""
    found: list[dict[str, Any]] = wait_for(lambda: golf.status()["waiting"], "status says nothing of it")
    return found


@pytest.mark.parametrize(("port", "other"), [(465, 587), (587, 465)])
def test_login(
    port: int,
    other: int,
    world: Internet,
    authority: Authority,
    golf: Site,
    insider: Machine,
    outsider: Machine,
    tmp_path: Path,
) -> None:
    """Mail goes by the relay host, signed, after a login by TLS; that of other domains by theirs, with their logins.

    The passwords are in the secret files alone.
    """
    change(golf, **relay(port), **relays(other))
    pair = authority.issue(NAME)
    with provider(pair, tmp_path, port) as default, provider(pair, tmp_path, other) as own:
        about = subject(f"by the relay host on {port}")
        submit(golf, insider, about)
        assert independent_dkim(default.wait_for(about), world.names)
        senders = [f"user@{domain}" for domain in (*LOGINS, *LOGINS, *map(str.upper, LOGINS))]
        # A sub-domain, and a bounce, are as all others.
        for one in (*senders, "user@sub.gulf.example", ""):
            submit(golf, insider, subject("one of several"), one)
        # What an alias forwards has its sender's relay host: a stranger's has a sender of the host name (SRS).
        senders.append("user@gulf.example")
        submit(golf, insider, subject("forwarded"), senders[-1], ALIAS)
        content = message(STRANGER, ALIAS, subject("forwarded"))
        assert send(outsider, address_of(golf), STRANGER, ALIAS, content).code == 250
        wait_for(lambda: golf.status()["queue"] == 0, "they are still in the queue")
        assert sorted(own.senders) == sorted((LOGINS[one.split("@")[1].lower()][0], one) for one in senders)
        found = sorted((login, str(one).partition("=listed.")[2] or one) for login, one in default.senders)
        rewritten = f"example=someone@{HOSTNAME}"
        assert found == [(USER, one) for one in ("<>", rewritten, SENDER, "user@sub.gulf.example")]
        assert set(default.tries) == {LoginPassword(USER.encode(), PASSWORD.encode())}
    # Those of the build before are kept for a rollback.
    secrets = set((golf.directory / "secrets").glob("relay-login-*"))
    assert {golf.directory / str(one.login) for one in golf.stack.relays} <= secrets
    assert len(secrets) <= 2 * len(golf.stack.relays)
    assert {one.stat().st_mode & 0o777 for one in secrets} == {0o600}
    files = {one: one.read_bytes() for one in golf.directory.rglob("*") if one.is_file()}
    for password in (PASSWORD, *(one for _, one in LOGINS.values())):
        assert {one for one, content in files.items() if password.encode() in content} <= secrets
        assert not any(password in line for line in golf.log())


def test_wrong_password(authority: Authority, golf: Site, insider: Machine, tmp_path: Path) -> None:
    """Mail waits, status says why, and it goes by no other login; with the right password it goes, once."""
    change(golf, **relay(587, "wrong"), **relays(587, gulf="wrong"))
    with provider(authority.issue(NAME), tmp_path, 587) as running:
        about = subject("with a wrong password")
        for sender in (SENDER, "user@gulf.example", "user@grid.example"):
            submit(golf, insider, about, sender)
        wait_for(lambda: sum(one["recipients"] for one in waiting(golf)) == 2, "both wait")
        assert all("SASL authentication failed" in one["reason"] for one in waiting(golf))
        wait_for(lambda: running.senders == [(LOGINS["grid.example"][0], "user@grid.example")], "one goes")
        change(golf, **relay(587), **relays(587))
        golf.run("postfix", "postqueue", "-f")
        wait_for(lambda: golf.status()["queue"] == 0, "it is still in the queue")
        assert sorted(running.senders[1:]) == [(USER, SENDER), (LOGINS["gulf.example"][0], "user@gulf.example")]


@pytest.mark.parametrize("port", [465, 587])
def test_another_certificate(port: int, authority: Authority, golf: Site, insider: Machine, tmp_path: Path) -> None:
    """A server with a certificate of another name, or that nobody issued, gets no password and no mail."""
    change(golf, **relay(port))
    for at, pair in enumerate((authority.issue("elsewhere.example"), authority.issue(NAME, signed=False))):
        with ExitStack() as stack:
            running = stack.enter_context(provider(pair, tmp_path, port))
            about = subject(f"certificate {at}")
            submit(golf, insider, about)
            (one,) = waiting(golf)
            assert "Server certificate not " in one["reason"]
            assert not running.tries
            assert not running.received
            golf.run("postfix", "postsuper", "-d", "ALL")


@pytest.mark.parametrize("greeting", ["no such name", "554 5.3.2 not now"])
def test_a_relay_host_that_is_not_there(greeting: str, golf: Site, insider: Machine) -> None:
    """Mail waits, be the name wrong, or be the server not willing: nothing bounces that another setting would deliver."""
    host, port = ("no-such-relay.provider.example", 587) if greeting == "no such name" else (NAME, 2525)
    change(golf, RELAY_HOST=f"{host}:{port}", **relays(port, host))
    with ExitStack() as stack:
        if greeting != "no such name":
            stack.enter_context(refusing(greeting))
        for sender in (SENDER, "user@gulf.example"):
            submit(golf, insider, subject(greeting), sender)
        wait_for(lambda: sum(one["recipients"] for one in golf.status()["waiting"]) == 2, "they do not wait")
        golf.run("postfix", "postsuper", "-d", "ALL")


@contextmanager
def refusing(greeting: str) -> Iterator[None]:
    """A server on port 2525 that greets with this and closes."""

    class Greeting(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(f"{greeting}\r\n".encode())

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = True

    with Server((str(EDGE[1]), 2525), Greeting) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield
        server.shutdown()
