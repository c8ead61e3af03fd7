"""A mailbox server behind: which address was used for a message, and mailboxes that come and go there."""

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
from support import Client, address_of, message, send, subject


@pytest.fixture(scope="module")
def smtp_server(world: Internet) -> Iterator[MailboxServer]:
    with MailboxServer(ipaddress.IPv4Address(EDGE[1]), {"user@romeo.example"}, kind=SMTP, port=2425) as server:
        yield server


@pytest.fixture(scope="module")
def romeo(world: Internet, smtp_server: MailboxServer) -> Site:
    """A gateway by SMTP."""
    return site(
        world,
        "mail.romeo.example",
        "romeo.example",
        DELIVERY=f"smtp:{smtp_server.address}:{smtp_server.port}",
        ALIASES="sales@romeo.example=user@romeo.example",
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
