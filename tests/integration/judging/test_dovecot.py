"""docs/dovecot.md, tried: a Dovecot beside a stack checks logins, takes mail, and files what is quarantined."""

import contextlib
import imaplib
import re
import smtplib
import socket
import ssl
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import replace
from email import message_from_bytes
from pathlib import Path
from typing import Any

import docker
import pytest

from certificates import Authority
from integration.conftest import INSIDER
from integration.judging.test_documents import DOVECOT, run
from mailstack.cli.status import status_text
from mailstack.errors import MailstackError
from mailstack.tasks.status import why_not_well
from mailstack.world.containers import Machine, wait_for
from mailstack.world.internet import Internet
from mailstack.world.site import Site, parse
from support import (
    Client,
    address_of,
    delivered,
    dkim_results,
    dmarc_result,
    independent_dkim,
    message,
    raw_results,
    send,
    signed_part,
    subject,
    verdicts,
)

# Another stack of the world has example.com.
PAGE = [replace(one, text=one.text.replace("example.com", "sierra.example")) for one in DOVECOT]
START = "mailstack build && docker compose up -d --wait"
NAME, USER = "mail.sierra.example", "user@sierra.example"
(PASSWORD,) = {found for one in PAGE for found in re.findall(r"openssl passwd -6 '(.*)'", one.text)}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Path:
    """The page's files and a certificate, and what its commands do before the start."""
    directory = tmp_path_factory.mktemp("page")
    pair = authority.issue(NAME)
    files = {one.file: one.text for one in PAGE if one.file}
    files |= {"tls/fullchain.pem": pair.chain.decode(), "tls/privkey.pem": pair.key.decode()}
    for name, text in files.items():
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_text(text)
    commands = [one.text for one in PAGE if not one.file]
    assert commands.pop() == START
    for command in commands:
        done = run(directory, command)
        assert done.returncode == 0, done.stdout
    return directory


@pytest.fixture(scope="module")
def sierra(world: Internet, page: Path) -> Iterator[Site]:
    """The page's site; one host may send without a login, beside it."""
    settings = dict(line.split("=", 1) for line in (page / ".env").read_text().splitlines())
    settings["MAILSTACK_TRUSTED_NETWORKS"] = str(INSIDER)
    settings["MAILSTACK_LIMIT_USER_RECIPIENTS"] = "50"
    settings["MAILSTACK_LIMIT_USER_SESSIONS"] = "3"
    world.names.set("judged.example", "A", "192.0.2.1")
    world.names.set("_dmarc.judged.example", "TXT", '"v=DMARC1; p=quarantine"')
    sierra = world.site(settings, (page / "compose.override.yaml").read_text(), page)
    yield sierra
    sierra.down()


@pytest.fixture(scope="module")
def tls(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=authority.root.decode())


@contextlib.contextmanager
def session(machine: Machine, site: Site, tls: ssl.SSLContext, port: int = 465) -> Iterator[Client]:
    """A session under TLS."""
    with Client(machine, address_of(site), port, tls=tls if port == 465 else None, name=NAME) as client:
        if port != 465:
            client.encrypt(tls, NAME)
        client.ehlo()
        yield client


def code_of(client: Client, sender: str, recipient: str, content: bytes) -> tuple[int, str]:
    """The reply to a message, or the first one that is not positive."""
    try:
        client.sendmail(sender, recipient, content)
    except smtplib.SMTPSenderRefused as error:
        return error.smtp_code, str(error.smtp_error)
    except smtplib.SMTPRecipientsRefused as error:
        ((code, text),) = error.recipients.values()
        return code, str(text)
    except smtplib.SMTPResponseException as error:
        return error.smtp_code, str(error.smtp_error)
    return 250, ""


class Imap(imaplib.IMAP4):
    """The user's mail, read from a host of the world."""

    def __init__(self, machine: Machine, host: str, tls: ssl.SSLContext) -> None:
        self._machine, self._tls = machine, tls
        super().__init__(host, 993, timeout=30)
        self.login(USER, PASSWORD)

    def _create_socket(self, timeout: float | None) -> socket.socket:
        link = self._machine.connect(self.host, self.port, timeout or 30)
        return self._tls.wrap_socket(link, server_hostname=NAME)

    def mail(self, folder: str) -> list[bytes]:
        """The messages of a folder."""
        assert self.select(folder, readonly=True)[0] == "OK"
        numbers = self.search(None, "ALL")[1][0].split()
        found: list[Any] = self.fetch(b",".join(numbers), "(BODY.PEEK[])")[1] if numbers else []
        return [one[1] for one in found if isinstance(one, tuple)]


@pytest.fixture(scope="module")
def mailbox(
    world: Internet, sierra: Site, outsider: Machine, tls: ssl.SSLContext, engine_client: docker.DockerClient
) -> Imap:
    networks = engine_client.api.inspect_container(sierra.container("dovecot"))["NetworkSettings"]["Networks"]
    return Imap(outsider, networks[world.edge.name]["IPAddress"], tls)


def arrived(mailbox: Imap, about: str, folder: str = "INBOX") -> bytes:
    """Wait for the message with this subject in a folder."""
    return wait_for(
        lambda: next((one for one in mailbox.mail(folder) if message_from_bytes(one)["Subject"] == about), None),
        f"{about} is not in {folder}",
    )


@pytest.mark.parametrize("port", [465, 587])
def test_right_password(
    sierra: Site, bravo: Site, outsider: Machine, tls: ssl.SSLContext, world: Internet, port: int
) -> None:
    """Mail of a user who is logged in is relayed, signed once and not judged; who it was stands in the log alone."""
    about = subject(f"login, {port}")
    content = message(USER, "user@bravo.example", about)
    with session(outsider, sierra, tls, port) as client:
        client.login(USER, PASSWORD)
        assert code_of(client, USER, "user@bravo.example", content)[0] == 250
    found = delivered(bravo, "user@bravo.example", about)
    assert [(one.result, one.properties[0].value) for one in dkim_results(found, bravo)] == [("pass", "sierra.example")]
    assert dmarc_result(found, bravo).result == "pass"
    assert independent_dkim(signed_part(found), world.names)
    assert len(parse(found).get_all("DKIM-Signature", [])) == 1
    assert [one for one in raw_results(found) if one.startswith(NAME)] == []
    assert len(parse(found).get_all("Received-SPF", [])) == 1
    assert parse(content)["Message-ID"] not in [one["message_id"] for one in verdicts(sierra)]
    assert not re.search(
        rb"(?i)authenticated sender|auth(_|=)|sasl", found.partition(b"\n\n")[0].replace(b"dkim=", b"")
    )
    service = {465: "submissions", 587: "submission"}[port]
    lines = [one for one in sierra.log("postfix") if f"postfix/{service}/smtpd" in one and ", sasl_username=" in one]
    assert f"client=unknown[{outsider.address}]" in lines[-1] or f"[{outsider.address}], sasl_method=" in lines[-1]
    assert lines[-1].endswith(f"sasl_username={USER}")


def test_a_user_of_too_many_recipients(sierra: Site, outsider: Machine, tls: ssl.SSLContext) -> None:
    """The reply says the limit and for how long; nothing is sent, and the log names the user."""
    content = message(USER, "list@bravo.example", subject("too many"))
    recipients = [f"user+{at}@bravo.example" for at in range(30)]
    with session(outsider, sierra, tls) as client:
        client.login(USER, PASSWORD)
        client.sendmail(USER, recipients, content)
        with pytest.raises(smtplib.SMTPDataError) as refused:
            client.sendmail(USER, recipients, content)
    said = "a user may send to 50 recipients in 60 minutes, please retry in "
    assert refused.value.smtp_code == 450
    assert bytes(refused.value.smtp_error).startswith(f"4.7.1 {said}".encode())
    wait_for(
        lambda: any(f"action=defer user='{USER}' reason='{said}" in one for one in sierra.log("dmarc")),
        "the log does not name the user",
    )


def test_a_user_in_too_many_sessions(sierra: Site, bravo: Site, outsider: Machine, tls: ssl.SSLContext) -> None:
    """One more may not send, until another one ends; other users are none the worse."""
    content = message(USER, "user@bravo.example", subject("sessions"))
    with contextlib.ExitStack() as open_ones:
        clients = [open_ones.enter_context(session(outsider, sierra, tls)) for _ in range(4)]
        for client in clients:
            client.login(USER, PASSWORD)
        codes = [code_of(client, USER, "user@bravo.example", content) for client in clients]
        assert [code for code, _ in codes] == [250, 250, 250, 450]
        assert "4.7.1 a user may send in 3 sessions at a time, please retry in a minute" in codes[-1][1]
        clients[0].quit()
        # The milter's session ends a moment after the client's.
        wait_for(lambda: code_of(clients[3], USER, "user@bravo.example", content)[0] == 250, "the session does not end")


def test_wrong_password(sierra: Site, forwarder: Machine, tls: ssl.SSLContext) -> None:
    """It is refused, and logged as fail2ban's filter "postfix" (mode auth) reads it; nothing is accepted after it."""
    wrong = b64encode(f"\0{USER}\0wrong".encode()).decode()
    # Dovecot lets a host wait that was wrong before: not the one that the other tests use.
    with session(forwarder, sierra, tls) as client:
        assert client.docmd("AUTH", f"PLAIN {wrong}")[0] == 535
        assert client.mail(USER)[0] == 530
    pattern = rf"submissions/smtpd\[\d+\]: warning: \S+\[{forwarder.address}\]: SASL PLAIN authentication failed: "
    wait_for(lambda: [one for one in sierra.log("postfix") if re.search(pattern, one)], "the log does not say it")


def test_login_only_under_tls(sierra: Site, outsider: Machine, tls: ssl.SSLContext) -> None:
    """In clear, and on port 25, no login is offered, and an AUTH command is refused before it has a password."""
    with Client(outsider, address_of(sierra), 587) as client:
        client.ehlo()
        assert not client.has_extn("auth")
        assert client.docmd("AUTH", "PLAIN")[0] == 503
    with Client(outsider, address_of(sierra)) as client:
        client.ehlo()
        assert not client.has_extn("auth")
    with session(outsider, sierra, tls, 25) as client:
        assert not client.has_extn("auth")
        assert client.docmd("AUTH", "PLAIN")[0] == 503


@pytest.mark.parametrize("port", [465, 587])
def test_without_a_login(sierra: Site, outsider: Machine, insider: Machine, tls: ssl.SSLContext, port: int) -> None:
    """A stranger is told to log in; a host of the trusted networks need not."""
    content = message(USER, USER, subject("no login"))
    with session(outsider, sierra, tls, port) as client:
        assert client.esmtp_features["auth"].split() == ["PLAIN", "LOGIN"]
        assert code_of(client, USER, USER, content)[0] == 530
    with session(insider, sierra, tls, port) as client:
        assert code_of(client, USER, USER, content)[0] == 250


@pytest.mark.parametrize(
    ("sender", "author", "wrong"),
    [
        ("info@sierra.example", "info@sierra.example", ""),
        ("user@sub.sierra.example", "user@sub.sierra.example", ""),
        ("", USER, ""),
        (USER, "user@bravo.example", "From"),
        ("user@bravo.example", USER, "MAIL FROM"),
        ("user@bravo.example", "user@bravo.example", "From and MAIL FROM"),
    ],
)
def test_senders(sierra: Site, outsider: Machine, tls: ssl.SSLContext, sender: str, author: str, wrong: str) -> None:
    """A user may write from every address of our domains, and from no other one."""
    with session(outsider, sierra, tls) as client:
        client.login(USER, PASSWORD)
        code, text = code_of(client, sender, USER, message(author, USER, subject("sender")))
    assert code == (550 if wrong else 250)
    assert f"5.7.1 the domain in {wrong} is not one of" in text or not wrong


def test_delivery(sierra: Site, outsider: Machine, mailbox: Imap) -> None:
    """Mail from outside reaches the mailbox by LMTP, and Junk if it is quarantined; an unknown address is refused."""
    about = subject("delivered")
    content = message("someone@listed.example", USER, about)
    assert send(outsider, address_of(sierra), "someone@listed.example", USER, content).code == 250
    assert "X-Mailstack-Quarantine" not in parse(arrived(mailbox, about))
    about = subject("quarantined")
    content = message("someone@judged.example", USER, about)
    assert send(outsider, address_of(sierra), "someone@listed.example", USER, content).code == 250
    assert "X-Mailstack-Quarantine" in parse(arrived(mailbox, about, "Junk"))
    reply = send(outsider, address_of(sierra), "someone@listed.example", "nobody@sierra.example", content)
    assert reply.code == 550
    assert "the mailbox server does not confirm it" in reply.text


def test_dovecot_that_is_down(
    sierra: Site,
    outsider: Machine,
    insider: Machine,
    tls: ssl.SSLContext,
    mailbox: Imap,
    engine_client: docker.DockerClient,
) -> None:
    """Logins are refused for the time being, trusted hosts go on, mail waits; when it is back all arrives, once."""
    server = str(sierra.stack.sasl)
    assert f"SASL       {server}, answers" in status_text(sierra.status())
    content = message("someone@listed.example", USER, subject("known"))
    assert send(outsider, address_of(sierra), "someone@listed.example", USER, content).code == 250
    sierra.compose("stop", "--timeout", "2", "dovecot")

    status = sierra.status()
    assert not status["well"]
    assert f"SASL       {server}, {status['sasl']['fault']}\n" in status_text(status)
    assert f"nobody can log in, because {server} (MAILSTACK_SASL) does not answer" in why_not_well(status)
    for port in (465, 587):
        with session(outsider, sierra, tls, port) as client:
            with pytest.raises(smtplib.SMTPAuthenticationError) as refused:
                client.login(USER, PASSWORD)
            assert refused.value.smtp_code == 454
    about = [subject("waits, from inside"), subject("waits, from outside")]
    with session(insider, sierra, tls, 587) as client:
        assert code_of(client, USER, USER, message(USER, USER, about[0]))[0] == 250
    content = message("someone@listed.example", USER, about[1])
    assert send(outsider, address_of(sierra), "someone@listed.example", USER, content).code == 250

    def said() -> str:
        health = engine_client.api.inspect_container(sierra.container("postfix"))["State"]["Health"]
        return str(health["Log"][-1]["Output"])

    wait_for(lambda: f"nobody can log in at {server}: " in said(), "the health check does not say it")
    assert not any("throttling" in line or "fatal: " in line for line in sierra.log("postfix"))

    sierra.compose("up", "--detach", "dovecot")
    wait_for(lambda: not sierra.run("postfix", "ask-dovecot", server, "now"), "Dovecot does not answer")
    with session(outsider, sierra, tls) as client:
        assert client.login(USER, PASSWORD)[0] == 235
    sierra.run("postfix", "postqueue", "-f")
    again = Imap(outsider, mailbox.host, tls)
    for one in about:
        arrived(again, one)
    assert sorted(str(parse(one)["Subject"]) for one in again.mail("INBOX") if parse(one)["Subject"] in about) == about


def test_too_many_logins(sierra: Site, backup_mx: Machine, tls: ssl.SSLContext) -> None:
    """A client that tries again and again is told to wait, whatever it says, and for how long."""
    replies = []
    for _ in range(4):
        with session(backup_mx, sierra, tls) as client:
            replies += [client.docmd("AUTH", "NONSENSE") for _ in range(9)]
    assert {code for code, _ in replies[:30]} == {535}
    assert {code for code, _ in replies[30:]} == {450}
    assert b"a client may log in 30 times in a minute, please retry in a minute" in replies[-1][1]


def test_no_signature_for_strangers(sierra: Site) -> None:
    """An override that opens a submission port, where all mail is signed, is not built."""
    opened = sierra.directory / "overrides/postfix/master.cf"
    opened.parent.mkdir(parents=True)
    opened.write_text(
        "submission inet n - y - - smtpd\n  -o smtpd_milter_maps=cidr:/etc/postfix/submission_milters\n"
        "  -o { smtpd_relay_restrictions = permit_mynetworks, permit_sasl_authenticated, reject_unauth_destination }\n"
    )
    try:
        with pytest.raises(MailstackError, match="port 587 accepts mail without a login and signs it: put 'permit_my"):
            sierra.build(sierra.environment)
    finally:
        opened.unlink()
