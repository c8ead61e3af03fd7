"""What strangers cannot make a host do: write to third parties, start deliveries, find out who lives there."""

import json

import pytest

from integration.conftest import INSIDER
from integration.mailbox_server import MailboxServer
from mailstack.world.containers import Machine, wait_for
from mailstack.world.site import Site
from support import Client, address_of, delivered, message, send, subject


def parameters(client: Client) -> dict[str, str]:
    client.ehlo()
    return client.esmtp_features


def test_notices_and_queue_runs_are_for_trusted_clients(outsider: Machine, insider: Machine, alpha: Site) -> None:
    """DSN (RFC 3461) and ETRN (RFC 1985) are announced to trusted clients alone; XCLIENT and the like to nobody."""
    with Client(outsider, address_of(alpha)) as client:
        assert not {"dsn", "etrn", "vrfy", "expn", "xverp", "xclient", "xforward"} & parameters(client).keys()
    for port in (25, 587):
        with Client(insider, address_of(alpha), port) as client:
            assert {"dsn", "etrn"} <= parameters(client).keys()
            assert not {"vrfy", "expn", "xclient", "xforward"} & client.esmtp_features.keys()


# After EHLO, or HELO: what the last command is, and what stands before it.
MAIL, RCPT = "MAIL FROM:<someone@listed.example>", "RCPT TO:<user@bravo.example>"
ASKED = {
    "success notice": (MAIL, f"{RCPT} NOTIFY=SUCCESS"),
    "all notices": (MAIL, f"{RCPT} NOTIFY=SUCCESS,FAILURE,DELAY"),
    "no notices": (MAIL, f"{RCPT} NOTIFY=NEVER"),
    "original recipient": (MAIL, f"{RCPT} ORCPT=rfc822;x@list.example"),
    "what to return": (f"{MAIL} RET=FULL",),
    "envelope id": (f"{MAIL} ENVID=x",),
    "a bounce for each recipient": (f"{MAIL} XVERP",),
    "queue run": ("ETRN bravo.example",),
    "queue run of a site": ("ETRN #bravo.example",),
    "verification": ("VRFY user@bravo.example",),
    "expansion": ("EXPN sales@bravo.example",),
    "another client's name": (f"XCLIENT ADDR={INSIDER} NAME=insider.example",),
    "another client's message": (f"XFORWARD ADDR={INSIDER}",),
}


@pytest.mark.parametrize("hello", ["EHLO", "HELO"])
@pytest.mark.parametrize("case", ASKED)
def test_refused(case: str, hello: str, outsider: Machine, bravo: Site) -> None:
    """A stranger who asks all the same is refused for good."""
    *before, last = ASKED[case]
    with Client(outsider, address_of(bravo)) as client:
        client.docmd(hello, "outsider.example")
        assert [client.docmd(one)[0] for one in before] == [250] * len(before)
        assert 500 <= client.docmd(last)[0] < 600


def test_queue_runs_of_a_gateway(outsider: Machine, echo: Site) -> None:
    """Where mail goes on to a mailbox server, no stranger starts its delivery."""
    with Client(outsider, address_of(echo)) as client:
        client.ehlo()
        assert client.docmd("ETRN echo.example")[0] == 554


def test_a_trusted_client_gets_notices(insider: Machine, alpha: Site, bravo: Site) -> None:
    """Its notice of success is written by alpha, since bravo promises none to a stranger, as alpha is there."""
    about, sender = subject("notify"), "user@alpha.example"
    content = message(sender, "user@bravo.example", about)
    with Client(insider, address_of(alpha), 587) as client:
        client.ehlo()
        assert client.mail(sender, ["RET=HDRS", "ENVID=one"])[0] == 250
        assert client.rcpt("user@bravo.example", ["NOTIFY=SUCCESS"])[0] == 250
        assert client.data(content)[0] == 250
    delivered(bravo, "user@bravo.example", about)
    wait_for(
        lambda: [one for one in alpha.mail(sender) if about.encode() in one and b"Action: relayed" in one],
        "alpha does not tell its user",
    )


@pytest.mark.parametrize(
    "extra",
    [
        "Return-Receipt-To: user@alpha.example",
        "Disposition-Notification-To: user@alpha.example",
        "Errors-To: user@alpha.example",
        # Of a loop, if it were believed: a bounce to whoever the envelope names.
        "Delivered-To: user@bravo.example",
        "Delivered-To: user@echo.example",
    ],
)
@pytest.mark.parametrize("way", ["Maildir", "LMTP"])
def test_no_field_makes_us_write(
    extra: str, way: str, outsider: Machine, alpha: Site, bravo: Site, echo: Site, mailbox_server: MailboxServer
) -> None:
    """No field that asks for a receipt, or looks like a loop, is answered with mail; the message is delivered."""
    about, site = subject(f"{extra} by {way}"), bravo if way == "Maildir" else echo
    recipient, sender = f"user@{site.stack.domains[0]}", f"n{about.rpartition('#')[2]}@none.example"
    content = message(sender, recipient, about, extra=[extra])
    assert send(outsider, address_of(site), sender, recipient, content).code == 250
    if way == "Maildir":
        delivered(bravo, recipient, about)
    else:
        mailbox_server.wait_for(about)
    assert not [line for line in site.log("postfix") if f"to=<{sender}>" in line]


def test_strangers_get_no_delay_warnings(outsider: Machine, insider: Machine, alpha: Site) -> None:
    """Who submits by 587 or sendmail learns of mail that waits; a stranger's sender, who may be forged, does not."""
    sender = "user@alpha.example"

    alpha.run("postfix", "postsuper", "-d", "ALL")

    def queued() -> str | None:
        """The message that is in the queue; there is one at a time."""
        entries = alpha.run("postfix", "postqueue", "-j").splitlines()
        if len(entries) != 1:
            return None
        (entry,) = entries
        queue_id = json.loads(entry)["queue_id"]
        text = alpha.run("postfix", "postcat", "-q", queue_id).decode(errors="replace")
        alpha.run("postfix", "postsuper", "-d", queue_id)
        return text

    outside = message("someone@none.example", "late@alpha.example", subject("waits"))
    assert send(outsider, address_of(alpha), "someone@none.example", "late@alpha.example", outside).code == 250
    assert "warning_message_time:" not in wait_for(queued, "it is not in the queue")
    submitted = message(sender, "user@late.example", subject("waits"))
    assert send(insider, address_of(alpha), sender, "user@late.example", submitted, port=587).code == 250
    assert "warning_message_time:" in wait_for(queued, "it is not in the queue")
    alpha.sendmail(submitted.replace(b"\r\n", b"\n"), "-i", "-f", sender, "user@late.example")
    assert "warning_message_time:" in wait_for(queued, "it is not in the queue")
