"""Mailbox servers behind: one for each domain, which address was used, and mailboxes and servers that come and go."""

import ipaddress
from collections.abc import Iterator

import pytest
from aiosmtpd.smtp import SMTP

from integration.conftest import site
from integration.mailbox_server import MailboxServer
from mailstack.world.containers import Machine, wait_for
from mailstack.world.internet import Internet
from mailstack.world.site import Site, parse
from place import EDGE
from support import JUNK, Client, address_of, delivered, message, send, subject


@pytest.fixture(scope="module")
def smtp_server(world: Internet) -> Iterator[MailboxServer]:
    with MailboxServer(ipaddress.IPv4Address(EDGE[1]), {"user@romeo.example"}, kind=SMTP, port=2425) as server:
        yield server


LMTP_PORT = 2426
SENDER = "someone@none.example"


def lmtp_server() -> MailboxServer:
    return MailboxServer(ipaddress.IPv4Address(EDGE[1]), {"user@rialto.example"}, port=LMTP_PORT)


@pytest.fixture(scope="module")
def romeo(world: Internet, smtp_server: MailboxServer) -> Site:
    """A gateway by SMTP, to other servers for some domains, and with Maildirs for one.

    One server knows its addresses itself, one by a list here, and one is not in DNS.
    """
    return site(
        world,
        "mail.romeo.example",
        "romeo.example,rialto.example,rumba.example,rondo.example,rogue.example",
        DELIVERY=f"smtp:{smtp_server.address}:{smtp_server.port} rialto.example=lmtp:{smtp_server.address}:{LMTP_PORT} "
        "rondo.example=maildir rogue.example=lmtp:no-such-host.example",
        MAILBOXES="user@rondo.example,user@rumba.example",
        ALIASES="sales@romeo.example=user@romeo.example,gone@rondo.example=nobody@romeo.example,"
        "far@rondo.example=gone@rondo.example",
    )


@pytest.mark.parametrize(("gateway", "server"), [("echo", "mailbox_server"), ("romeo", "smtp_server")])
def test_the_address_that_was_used(
    gateway: str, server: str, outsider: Machine, request: pytest.FixtureRequest
) -> None:
    """Each copy has the address of its own envelope in X-Original-To, alias or not, above what a sender wrote there."""
    stack, mailboxes = request.getfixturevalue(gateway), request.getfixturevalue(server)
    about, domain = subject("used"), stack.stack.domains[0]
    used = [f"user@{domain}", f"sales@{domain}", f"user+tag@{domain}"]
    mailboxes.mailboxes.add(used[-1])
    content = message("someone@none.example", "list@none.example", about, extra=["X-Original-To: forged@none.example"])
    with Client(outsider, address_of(stack)) as client:
        assert client.sendmail("someone@none.example", used, content) == {}

    def copies() -> list[bytes]:
        wanted = f"Subject: {about}\r\n".encode()
        found = [bytes(one.content) for one in mailboxes.received if wanted in bytes(one.content)]
        return found if len(found) == len(used) else []

    arrived = wait_for(copies, "not every recipient has a copy")
    tops = [parse(one).get_all("X-Original-To") for one in arrived]
    assert sorted(tops) == sorted([one, "forged@none.example"] for one in used)
    for one, (own, _) in zip(arrived, tops, strict=True):
        assert [each for each in used if each != own and each.encode() in one] == []


def test_a_mailbox_that_is_made_after_a_refusal(outsider: Machine, echo: Site, mailbox_server: MailboxServer) -> None:
    """What the mailbox server did not know is asked about again within two minutes."""
    recipient, sender = "new@echo.example", "someone@none.example"
    content = message(sender, recipient, subject("new"))
    assert send(outsider, address_of(echo), sender, recipient, content).code == 550
    mailbox_server.mailboxes.add(recipient)
    wait_for(
        lambda: send(outsider, address_of(echo), sender, recipient, content).code == 250,
        "the new mailbox stays unknown",
        120,
    )


def test_each_domain_has_its_delivery(outsider: Machine, romeo: Site, smtp_server: MailboxServer) -> None:
    """Mail reaches the server, or the Maildir, of its recipient's domain; who does not exist there is refused at RCPT."""
    smtp_server.mailboxes.add("user@rumba.example")
    about = subject("each its own")
    recipients = [f"user@{domain}" for domain in romeo.stack.domains[:4]]
    content = message(SENDER, "user@romeo.example", about)
    with lmtp_server() as other, Client(outsider, address_of(romeo)) as client:
        assert client.sendmail(SENDER, recipients, content) == {}
        smtp_server.wait_for(about)
        other.wait_for(about)
        wait_for(lambda: len(to(smtp_server, about)) == 2, "not both have arrived")
        assert to(smtp_server, about) == {"user@romeo.example", "user@rumba.example"}
        assert to(other, about) == {"user@rialto.example"}
        assert about.encode() in delivered(romeo, "user@rondo.example", about)
        unknown = [f"nobody@{domain}" for domain in romeo.stack.domains[:4]]
        # An alias is as its target is, or that one's.
        for one in [*unknown, "gone@rondo.example", "far@rondo.example"]:
            assert send(outsider, address_of(romeo), SENDER, one, content).code == 550


def to(server: MailboxServer, about: str) -> set[str]:
    """Who got a message there."""
    wanted = f"Subject: {about}\r\n".encode()
    return {one.rcpt_tos[0] for one in server.received if wanted in bytes(one.content)}


def test_quarantine_where_there_is_a_junk(
    world: Internet, outsider: Machine, romeo: Site, smtp_server: MailboxServer
) -> None:
    """Of one message, the copy for a Maildir goes to its Junk, and the mailbox server gets its address as it was."""
    world.names.set("quarantine.example", "A", str(outsider.address))
    world.names.set("_dmarc.quarantine.example", "TXT", '"v=DMARC1; p=quarantine"')
    world.names.publish()
    about = subject("quarantined")
    recipients = ["user@romeo.example", "user@rondo.example"]
    with Client(outsider, address_of(romeo)) as client:
        content = message("someone@quarantine.example", recipients[0], about)
        assert client.sendmail("someone@listed.example", recipients, content) == {}
    assert parse(smtp_server.wait_for(about))["X-Mailstack-Quarantine"]
    assert to(smtp_server, about) == {"user@romeo.example"}
    assert parse(delivered(romeo, "user@rondo.example", about, JUNK))["X-Mailstack-Quarantine"]


@pytest.mark.parametrize("command", ["MAIL", "RCPT"])
def test_a_server_that_rejects_us(command: str, outsider: Machine, romeo: Site) -> None:
    """What it says of us, or of our sender, says nothing of a recipient, who may be there."""
    recipient = f"late-{command.lower()}@rialto.example"
    with lmtp_server() as server:
        server.rejections[command] = "550 5.7.1 not from you"
        content = message(SENDER, recipient, subject("rejected"))
        assert send(outsider, address_of(romeo), SENDER, recipient, content).code == 450


def test_a_server_that_is_down(outsider: Machine, romeo: Site) -> None:
    """Who is not known is asked to come back, who was known is taken; his mail waits, and is delivered once."""
    recipient = "user@rialto.example"
    with lmtp_server():
        content = message(SENDER, recipient, subject("before"))
        assert send(outsider, address_of(romeo), SENDER, recipient, content).code == 250
        wait_for(lambda: romeo.status()["queue"] == 0, "it is still in the queue")
    about = subject("while it is down")
    content = message(SENDER, recipient, about)
    assert send(outsider, address_of(romeo), SENDER, recipient, content).code == 250
    for one in ("other@rialto.example", "user@rogue.example"):
        assert send(outsider, address_of(romeo), SENDER, one, content).code == 450
    # A name that DNS does not have is no reason to return mail.
    romeo.sendmail(message("user@rondo.example", "user@rogue.example", subject("no such host")), "-t")
    wait_for(lambda: len(romeo.status()["waiting"]) == 2, "they do not wait")
    assert romeo.status()["queue"] == 2
    with lmtp_server() as back:
        romeo.run("postfix", "postqueue", "-f")
        back.wait_for(about)
        wait_for(lambda: romeo.status()["queue"] == 1, "it is still in the queue")
        assert len(back.received) == 1
    romeo.run("postfix", "postsuper", "-d", "ALL")
