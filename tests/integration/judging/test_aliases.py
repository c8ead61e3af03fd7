"""Aliases: several targets, here and on other servers, a copy that stays, and what no other address takes."""

from collections.abc import Sequence

import pytest

from integration.mailbox_server import MailboxServer
from mailstack.world.containers import Machine, wait_for
from mailstack.world.site import Site, parse
from support import JUNK, address_of, count, delivered, message, send, subject

USER, CAUGHT, BOX = "user@delta.unsigned.example", "caught@delta.unsigned.example", "box@disco.unsigned.example"
# The recipient, and where it is delivered.
FORMS = {
    "several targets": ("team@disco.unsigned.example", [USER, BOX]),
    "a copy that stays": ("keep@disco.unsigned.example", ["keep@disco.unsigned.example", USER]),
    "with an extension": ("keep+tag@disco.unsigned.example", ["keep@disco.unsigned.example", USER]),
    "a catch-all": ("Anybody+tag@disco.unsigned.example", [CAUGHT]),
    "a mailbox beside a catch-all": (BOX, [BOX]),
    "its extension": ("box+tag@disco.unsigned.example", [BOX]),
    "postmaster beside a catch-all": ("postmaster@disco.unsigned.example", [USER]),
}


def send_to(recipient: str, author: str, about: str, outsider: Machine, site: Site) -> None:
    """Send a message from outside, and wait until all of its copies are delivered."""
    reply = send(outsider, address_of(site), "someone@listed.example", recipient, message(author, recipient, about))
    assert reply.code == 250
    queue_id = reply.text.rsplit(maxsplit=1)[-1]
    wait_for(lambda: any(f"{queue_id}: removed" in line for line in site.log("postfix")), "it stays in the queue")


def boxes(site: Site, about: str, folder: str) -> list[str]:
    """The mailboxes in whose folder a message lies, once for each copy."""
    return [one for one in site.stack.mailboxes for copy in site.mail(one, folder) if parse(copy)["Subject"] == about]


@pytest.mark.parametrize("form", FORMS)
def test_forms(form: str, outsider: Machine, delta: Site) -> None:
    """Each target has one copy, which shows the address that was used, and nobody else has one."""
    (recipient, targets), about = FORMS[form], subject(form)
    send_to(recipient, "someone@listed.example", about, outsider, delta)
    assert sorted(boxes(delta, about, "")) == sorted(targets)
    for one in targets:
        assert parse(delivered(delta, one, about))["X-Original-To"].lower() == recipient.lower()


def test_no_catch_all(outsider: Machine, delta: Site) -> None:
    """The catch-all of one domain is none of another."""
    recipient = "anybody@delta.unsigned.example"
    content = message("someone@listed.example", recipient, subject("nobody"))
    assert send(outsider, address_of(delta), "someone@listed.example", recipient, content).code == 550


@pytest.mark.parametrize("form", ["several targets", "a copy that stays", "a catch-all", "its extension"])
def test_quarantine(form: str, outsider: Machine, delta: Site) -> None:
    """What is quarantined lies in the Junk of each target."""
    (recipient, targets), about = FORMS[form], subject(f"quarantine {form}")
    send_to(recipient, "someone@quarantined.example", about, outsider, delta)
    assert sorted(boxes(delta, about, JUNK)) == sorted(targets)
    assert boxes(delta, about, "") == []


@pytest.mark.parametrize("name", ["keep", "keep+tag"])
def test_a_copy_that_stays_at_a_mailbox_server(
    name: str, outsider: Machine, echo: Site, mailbox_server: MailboxServer, bravo: Site
) -> None:
    """One copy goes to the mailbox server, which alone knows its addresses, and one to another server."""
    about, recipient = subject("kept"), f"{name}@echo.example"
    mailbox_server.mailboxes.add(recipient)
    send_to(recipient, "someone@listed.example", about, outsider, echo)
    assert parse(mailbox_server.wait_for(about))["X-Original-To"] == recipient
    delivered(bravo, "user@bravo.example", about)
    copies: Sequence[bytes] = [bytes(one.content) for one in mailbox_server.received]
    assert sum(f"Subject: {about}\r\n".encode() in one for one in copies) == 1
    assert count(bravo, "user@bravo.example", about) == 1
