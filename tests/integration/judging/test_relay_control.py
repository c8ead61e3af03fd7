"""Who may send what to where: relaying, unknown recipients, submission."""

import re

import pytest

from integration.mailbox_server import MailboxServer
from mailstack.world.containers import Machine
from mailstack.world.site import Site, parse
from support import Client, address_of, message, send, subject

FOREIGN_SENDERS = [
    "someone@listed.example",
    "user@bravo.example",
    "root@mail.bravo.example",
    "user@sub.bravo.example",
    "",
]


@pytest.mark.parametrize("sender", FOREIGN_SENDERS)
@pytest.mark.parametrize("recipient", ["x@listed.example", "user@alpha.example", "x@sub.bravo.example"])
def test_no_relaying(sender: str, recipient: str, outsider: Machine, bravo: Site) -> None:
    """A recipient elsewhere gets 554 from outside, whatever the envelope sender."""
    reply = send(
        outsider, address_of(bravo), sender, recipient, message("a@listed.example", recipient, subject("relay"))
    )
    assert (reply.code, reply.text.split()[0]) == (554, "5.7.1")


@pytest.mark.parametrize("recipient", ["postmaster@[127.0.0.1]", "MAILER-DAEMON@[127.0.0.1]", "root@[127.0.0.1]"])
def test_no_mail_for_address_literals(recipient: str, outsider: Machine, bravo: Site) -> None:
    """Nothing is delivered to users of the container itself, and nothing of the kind is queued."""
    content = message("a@listed.example", recipient, subject("literal"))
    assert 500 <= send(outsider, address_of(bravo), "someone@listed.example", recipient, content).code < 600


@pytest.mark.parametrize("sender", FOREIGN_SENDERS)
def test_unknown_recipient(sender: str, outsider: Machine, bravo: Site) -> None:
    """A recipient of ours that does not exist gets 550, whatever the envelope sender."""
    content = message("a@listed.example", "nobody@bravo.example", subject("nobody"))
    reply = send(outsider, address_of(bravo), sender, "nobody@bravo.example", content)
    assert (reply.code, reply.text.split()[0]) == (550, "5.1.1")


def test_submission_is_for_trusted_networks(outsider: Machine, bravo: Site) -> None:
    """Port 587 tells clients that are not listed so in place of a greeting, and disconnects them: none waits there."""
    # From the host itself: the relay hands on the end of a connection only after 30 seconds.
    said = outsider.run("timeout", "20", "socat", "-u", f"TCP4:{address_of(bravo)}:587", "STDOUT")
    assert re.fullmatch(r"521 5\.7\.1 <\S+>: Client host rejected: this port is for trusted networks\r\n", said)


def test_gateway_asks_the_mailbox_server(outsider: Machine, echo: Site, mailbox_server: MailboxServer) -> None:
    """Without a list of mailboxes the mailbox server decides: 550 for whom it does not know, at RCPT."""
    content = message("someone@listed.example", "nobody@echo.example", subject("nobody"))
    reply = send(outsider, address_of(echo), "someone@listed.example", "nobody@echo.example", content)
    assert (reply.code, reply.text.split()[0]) == (550, "5.1.1")
    about = subject("by LMTP")
    content = message("someone@listed.example", "user@echo.example", about)
    assert send(outsider, address_of(echo), "someone@listed.example", "user@echo.example", content).code == 250
    assert parse(mailbox_server.wait_for(about))["Received-SPF"].startswith("Pass")


def test_a_message_that_is_too_large(outsider: Machine, bravo: Site) -> None:
    """The size limit is announced, and refused at MAIL FROM when the client says the size."""
    with Client(outsider, address_of(bravo)) as client:
        client.ehlo()
        assert client.esmtp_features["size"] == str(bravo.stack.message_size)
        code, text = client.mail("someone@listed.example", [f"SIZE={bravo.stack.message_size + 1}"])
        assert (code, text.split()[0]) == (552, b"5.3.4")
