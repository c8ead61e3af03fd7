"""Nothing in a header is changed before its signatures are verified; what must not stay is removed afterwards."""

import dkim
import pytest

from mailstack.world.containers import Machine
from mailstack.world.internet import Internet
from mailstack.world.site import Site, parse
from support import (
    address_of,
    delivered,
    dkim_results,
    independent_dkim,
    published_key,
    send,
    subject,
)


@pytest.fixture(scope="module")
def key(world: Internet) -> bytes:
    """The key of signer.example whose selector is "covers"."""
    return published_key(world.names, "covers", "signer.example")


# What Postfix drops by default (postconf(5), message_drop_headers), and what it would add or write in its own way.
COVERED = {
    "Bcc": "Bcc: someone@list.example",
    "Bcc twice": "Bcc: someone@list.example\r\nbcc: another@list.example",
    "Resent-Bcc": "Resent-Bcc: someone@list.example",
    "Content-Length": "Content-Length: 8",
    "Return-Path": "Return-Path: <someone@list.example>",
    "all four": "Bcc: a@list.example\r\nResent-Bcc: b@list.example\r\nContent-Length: 8\r\nReturn-Path: <>",
    "an address without a domain": "To: user, Root <root>\r\nReply-To: other",
    "odd quotes, routes and comments": 'To: (a) <@b.example:user@bravo.example> (c), "x"@list.example\r\nSender:  s@d.example',
    "an address that ends in a dot": "Cc: someone@list.example.",
    "UUCP and percent signs": "Cc: host!user, user%list.example@host",
    "Delivered-To, X-Original-To": "Delivered-To: user@bravo.example\r\nX-Original-To: x@list.example",
    "Errors-To, Return-Receipt-To": "Errors-To: x@list.example\r\nReturn-Receipt-To: x@list.example",
    "neither Date nor Message-ID nor To": "X-Other: field",
}
NAMES = (b"date", b"message-id", b"to", b"cc", b"reply-to", b"sender", b"mime-version", b"content-type")


@pytest.mark.parametrize("canonicalization", [b"relaxed", b"simple"])
@pytest.mark.parametrize("case", COVERED)
def test_signature_covers(case: str, canonicalization: bytes, outsider: Machine, bravo: Site, key: bytes) -> None:
    """The signature passes, as it covers the fields that came and the absence of others; one Return-Path stays."""
    about, extra = subject(f"covers {case}"), COVERED[case]
    content = f"From: someone@signer.example\r\nSubject: {about}\r\n{extra}\r\n\r\nA body.\r\n".encode()
    present = [line.partition(":")[0].lower().encode() for line in extra.split("\r\n")]
    signer = dkim.DKIM(content)
    # What RFC 6376 section 5.4.1 advises against is just what is tried.
    signer.should_not_sign = set()
    covered = [b"from", b"subject", *present, *NAMES]
    made = signer.sign(
        b"covers", b"signer.example", key, canonicalize=(canonicalization, b"simple"), include_headers=covered
    )
    reply = send(outsider, address_of(bravo), "someone@none.example", "user@bravo.example", made + content)
    assert reply.code == 250
    arrived = delivered(bravo, "user@bravo.example", about)
    assert [one.result for one in dkim_results(arrived, bravo)] == ["pass"]
    assert parse(arrived).get_all("Return-Path") == ["<someone@none.example>"]


@pytest.mark.parametrize("way", ["587", "25", "sendmail"])
def test_hidden_recipients_do_not_leave(way: str, world: Internet, insider: Machine, alpha: Site, bravo: Site) -> None:
    """Bcc and its like are removed from submitted mail, before it is signed, however often they stand there."""
    about, sender, recipient = subject(f"hidden, by {way}"), "user@alpha.example", "user@bravo.example"
    hidden = ["Bcc: x@list.example", "BCC: y@list.example", "Resent-Bcc: z@list.example", "Content-Length: 3"]
    head = [f"From: {sender}", f"Subject: {about}", *hidden, "Return-Path: <x@list.example>"]
    content = "\r\n".join([*head, "", "A body.", ""]).encode()
    if way == "sendmail":
        alpha.sendmail(content.replace(b"\r\n", b"\n"), "-i", "-f", sender, recipient)
    else:
        assert send(insider, address_of(alpha), sender, recipient, content, port=int(way)).code == 250
    arrived = delivered(bravo, recipient, about)
    assert b"list.example" not in arrived
    assert parse(arrived)["Content-Length"] is None
    assert [one.result for one in dkim_results(arrived, bravo)] == ["pass"]
    assert independent_dkim(arrived, world.names)


def test_recipients_from_the_header(alpha: Site, bravo: Site) -> None:
    """With "sendmail -t" who stands in Bcc gets the message, and nobody sees the field."""
    about = subject("sendmail -t")
    content = f"From: user@alpha.example\nBcc: user@bravo.example\nSubject: {about}\n\nA body.\n".encode()
    alpha.sendmail(content, "-t", "-i", "-f", "user@alpha.example")
    assert parse(delivered(bravo, "user@bravo.example", about))["Bcc"] is None
