"""Mail that leaves by an alias: its envelope sender is rewritten (SRS), and nothing else; bounces find home."""

import base64
import hashlib
import hmac
import re
import time

import pytest

from integration.conftest import LONG_LABEL, LONG_NAME
from mailstack.keys import srs_key
from mailstack.services.ids import IDS
from mailstack.world.containers import Machine, wait_for
from mailstack.world.internet import Internet
from mailstack.world.site import Site, parse
from support import (
    JUNK,
    Client,
    Reply,
    address_of,
    count,
    delivered,
    dkim_results,
    dmarc_result,
    independent_spf,
    message,
    properties,
    send,
    spf_result,
    subject,
)

OUT, HOST = "out@delta.unsigned.example", "mail.delta.unsigned.example"
SENDER, BRAVO, DELTA, ALPHA = (
    "Some+one@listed.example",
    "user@bravo.example",
    "user@delta.unsigned.example",
    "user@alpha.example",
)
BASE32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"


def return_path(content: bytes) -> str:
    """The envelope sender of a delivered message."""
    return str(parse(content)["Return-Path"]).strip("<>")


def srs_address(site: Site, original: str, days: int = 0) -> str:
    """The SRS address that a site made for a sender so many days ago (libsrs2; Mail::SRS has the format)."""
    day = int(time.time()) // 86400 - days
    stamp = BASE32[day >> 5 & 31] + BASE32[day & 31]
    local, _, domain = original.partition("@")
    key = (site.directory / srs_key.FILE).read_bytes().strip()
    octets = f"{stamp}{domain}{local}".lower().encode()
    digest = base64.b64encode(hmac.new(key, octets, hashlib.sha1).digest()).decode()
    return f"SRS0={digest[:6]}={stamp}={domain}={local}@{site.stack.hostname}"


def forwarded(sender: str, about: str, machine: Machine, delta: Site, bravo: Site, recipient: str = OUT) -> bytes:
    """A message from outside as bravo delivers it, by an alias of delta."""
    content = message(sender, recipient, about)
    assert send(machine, address_of(delta), sender, recipient, content).code == 250
    return delivered(bravo, BRAVO, about)


def bounce(recipient: str, about: str, machine: Machine, site: Site, sender: str = "") -> Reply:
    """What a server answers to a bounce, or to a message of somebody."""
    author = sender or "MAILER-DAEMON@listed.example"
    return send(machine, address_of(site), sender, recipient, message(author, recipient, about))


def test_spf_passes_elsewhere(world: Internet, outsider: Machine, delta: Site, bravo: Site) -> None:
    """The next server finds an SPF pass of the forwarding host; the message is what came, with one hop more.

    Postfix adds no field that it lacks, and completes no address.
    """
    about = subject("handed on")
    content = f"From: {SENDER}\r\nTo: out\r\nSubject: {about}\r\n\r\nhello\r\n".encode()
    assert send(outsider, address_of(delta), SENDER, OUT, content).code == 250
    arrived = delivered(bravo, BRAVO, about)
    assert return_path(arrived) == srs_address(delta, SENDER)
    found = spf_result(arrived, bravo)
    assert (found.result, properties(found)["smtp.mailfrom"].rpartition("@")[2]) == ("pass", HOST)
    assert independent_spf(address_of(delta), return_path(arrived), HOST, world.names) == "pass"
    assert arrived.replace(b"\r\n", b"\n").endswith(content.replace(b"\r\n", b"\n"))
    assert parse(arrived)["DKIM-Signature"] is None
    hops = [re.sub(r"\s+", " ", one) for one in parse(arrived).get_all("Received")]
    assert [f"by {host} " in hop for hop, host in zip(hops, (bravo.stack.hostname, HOST), strict=True)] == [True, True]
    assert b".invalid" not in arrived


def test_a_copy_here_keeps_its_sender(outsider: Machine, delta: Site, bravo: Site) -> None:
    """Only what leaves is rewritten."""
    about = subject("here and there")
    there = forwarded(SENDER, about, outsider, delta, bravo, "both@delta.unsigned.example")
    assert return_path(there) == srs_address(delta, SENDER)
    assert return_path(delivered(delta, DELTA, about)) == SENDER


def test_own_senders_stay(delta: Site, bravo: Site) -> None:
    """Own mail leaves by an alias as it is and signed once; and so does whatever leaves without an alias."""
    for sender, recipient in ((DELTA, OUT), ("someone@none.example", BRAVO)):
        about = subject("own")
        content = message(DELTA, recipient, about).replace(b"\r\n", b"\n")
        delta.sendmail(content, "-t", "-f", sender)
        arrived = delivered(bravo, BRAVO, about)
        assert return_path(arrived) == sender
        assert len(parse(arrived).get_all("DKIM-Signature")) == 1
        assert [one.result for one in dkim_results(arrived, bravo)] == ["pass"]


def test_senders_below_our_domains(outsider: Machine, delta: Site, bravo: Site) -> None:
    """SPF of a sub-domain is not ours to publish, so its senders are rewritten."""
    sender = "user@sub.delta.unsigned.example"
    about = subject("a sub-domain")
    delta.sendmail(message(DELTA, OUT, about).replace(b"\r\n", b"\n"), "-t", "-f", sender)
    arrived = delivered(bravo, BRAVO, about)
    assert return_path(arrived) == srs_address(delta, sender)
    assert [one.result for one in dkim_results(arrived, bravo)] == ["pass"]


@pytest.mark.parametrize("author", ["user@{domain}", "user@news.{domain}"], ids=["ours", "below ours"])
@pytest.mark.parametrize("null", [False, True], ids=["somebody", "null sender"])
@pytest.mark.parametrize("site", ["alpha", "delta", "echo"])
def test_forged_mail_is_not_forwarded(
    site: str, null: bool, author: str, outsider: Machine, request: pytest.FixtureRequest
) -> None:
    """What uses our domain does not leave by our host, for which SPF passes, whatever the site does about it else.

    A pass of another's SPF, which saves it elsewhere from being rejected, is none for our domain.
    """
    forwarding: Site = request.getfixturevalue(site)
    domain = forwarding.stack.domains[0]
    recipient = {"alpha": "away", "delta": "Out+tag", "echo": "keep"}[site]
    content = message(author.format(domain=domain), f"{recipient}@{domain}", subject("forged"))
    # The host name of the client has an SPF pass as well.
    sender = "" if null else SENDER
    reply = send(outsider, address_of(forwarding), sender, f"{recipient}@{domain}", content, helo="listed.example")
    assert (reply.code, reply.text.partition(" ")[0]) == (550, "5.7.1"), reply
    assert null or reply.text.endswith("without an SPF or DKIM pass for it, so it is not forwarded")


# How a client may write an address (RFC 5321 section 4.1.2, and what Postfix takes beside it).
SPELLINGS = [
    "{local}@{domain}.",
    "@relay.example:{local}@{domain}",
    "{local}@{domain} (a comment)",
    "{local} @ {domain}",
    '"{local}"@{domain}',
    '"\\{local}"@{domain}',
    "\\{local}@{domain}",
    "{local}%{domain}",
    "{domain}!{local}",
    "{local}%{domain}@[127.0.0.1]",
    '"{local}@{domain}"@[127.0.0.1]',
]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_other_spellings_of_recipients(spelling: str, outsider: Machine, delta: Site) -> None:
    """Forged mail is not forwarded, and quarantined mail is filed, however a client writes the recipient."""
    out = spelling.format(local="out", domain="delta.unsigned.example")
    reply = send(outsider, address_of(delta), SENDER, out, message(DELTA, OUT, subject("spelled")))
    assert reply.code in {501, 550, 553, 554}, reply
    box, about = spelling.format(local="box", domain="disco.unsigned.example"), subject("spelled")
    content = message("someone@quarantined.example", box, about)
    reply = send(outsider, address_of(delta), SENDER, box, content)
    if reply.code == 250:
        delivered(delta, "box@disco.unsigned.example", about, JUNK)
        assert count(delta, "box@disco.unsigned.example", about) == 1
    else:
        assert reply.code in {501, 553, 554}, reply


def test_what_fails_by_its_own_policy_is_forwarded(outsider: Machine, delta: Site, bravo: Site) -> None:
    """Quarantined mail of others leaves: it fails DMARC at the next server as it does here."""
    about, author = subject("quarantined"), "someone@quarantined.example"
    assert send(outsider, address_of(delta), SENDER, OUT, message(author, OUT, about)).code == 250
    arrived = delivered(bravo, BRAVO, about, JUNK)
    assert return_path(arrived) == srs_address(delta, SENDER)
    assert dmarc_result(arrived, bravo).result == "fail"


def test_a_null_sender_stays(outsider: Machine, delta: Site, bravo: Site) -> None:
    """A bounce that is handed on stays one."""
    about = subject("a bounce")
    assert bounce(OUT, about, outsider, delta).code == 250
    assert return_path(delivered(bravo, BRAVO, about)) == ""


def test_a_bounce_of_ours_comes_home(insider: Machine, alpha: Site, bravo: Site, delta: Site) -> None:
    """What the next server rejects comes back to the original sender: one notice, signed by the forwarding host."""
    about = subject("to nobody")
    content = message(ALPHA, "gone@delta.unsigned.example", about)
    assert send(insider, address_of(alpha), ALPHA, "gone@delta.unsigned.example", content, port=587).code == 250

    def notices() -> list[bytes]:
        return [
            one
            for one in alpha.mail(ALPHA)
            if parse(one).get_content_type() == "multipart/report" and about.encode() in one
        ]

    (notice,) = wait_for(notices, "no bounce came home")
    assert b"nobody@bravo.example" in notice
    assert [(one.result, properties(one)["header.d"]) for one in dkim_results(notice, alpha)] == [("pass", HOST)]
    wait_for(lambda: delta.run("postfix", "postqueue", "-j") == b"", "something is left in the queue")
    assert len(notices()) == 1


@pytest.mark.parametrize("spelling", [str, str.lower], ids=["as it was", "in lower case"])
@pytest.mark.parametrize("sender", ["", SENDER], ids=["null sender", "somebody"])
def test_a_later_bounce_comes_home(
    spelling: type[str], sender: str, outsider: Machine, insider: Machine, alpha: Site, delta: Site, bravo: Site
) -> None:
    """So does what comes to the SRS address later, once, whoever sends it; what is no bounce gets an SRS sender."""
    about = subject("before")
    content = message(ALPHA, OUT, about)
    assert send(insider, address_of(alpha), ALPHA, OUT, content, port=587).code == 250
    address = return_path(delivered(bravo, BRAVO, about))
    about = subject("later")
    assert bounce(spelling(address), about, outsider, delta, sender).code == 250
    home = delivered(alpha, ALPHA, about)
    assert return_path(home) == (srs_address(delta, sender) if sender else "")
    assert spf_result(home, alpha).result == "pass"
    wait_for(lambda: delta.run("postfix", "postqueue", "-j") == b"", "something is left in the queue")
    assert count(alpha, ALPHA, about) == 1


def test_times(outsider: Machine, delta: Site) -> None:
    """An SRS address is valid for three weeks, and not before its day."""
    with Client(outsider, address_of(delta)) as client:
        client.ehlo()
        client.mail("")
        codes = {days: client.rcpt(srs_address(delta, ALPHA, days))[0] for days in (0, 1, 21, 22, 400, -2)}
    assert codes == {0: 250, 1: 250, 21: 250, 22: 550, 400: 550, -2: 550}


ALTERATIONS = {
    "another user": ("user@", "user2@", True),
    "another domain": ("alpha.example", "bravo.example", False),
    "another hash": (r"SRS0=..", "SRS0=zz", False),
    "a shorter hash": (r"SRS0=..", "SRS0=", False),
    "no hash": (r"SRS0=[^=]*", "SRS0=", False),
    "another day": (r"=..=alpha", "=AA=alpha", False),
    "nothing": (r"=.*@", "=@", False),
    "SRS1": (r"SRS0=", "SRS1=", False),
    "another separator": (r"SRS0=", "SRS0+", False),
}


@pytest.mark.parametrize("alteration", ALTERATIONS)
def test_forged(alteration: str, outsider: Machine, delta: Site) -> None:
    """An address that postsrsd has not made is no address, for a bounce and for a message."""
    old, new, user = ALTERATIONS[alteration]
    address = srs_address(delta, ALPHA)
    forged = address.replace("=user@", "=user2@") if user else re.sub(old, new, address, count=1)
    assert forged != address
    for sender in ("", SENDER):
        reply = bounce(forged, subject("forged"), outsider, delta, sender)
        assert reply.code == 550, reply


def test_where_the_mailbox_server_is_asked(outsider: Machine, echo: Site) -> None:
    """Where no mailboxes are listed, an SRS address exists if it is right, and not by what that server says."""
    address = srs_address(echo, ALPHA)
    answers = [
        bounce(one, subject("by a gateway"), outsider, echo).code for one in (address, address.replace("=u", "=v"))
    ]
    assert answers == [250, 550]


def test_rewritten_elsewhere_before(outsider: Machine, delta: Site, bravo: Site) -> None:
    """An SRS address of another forwarder becomes a short one that leads back to it (SRS1)."""
    about = subject("the second forwarder")
    arrived = forwarded("SRS0=abcd=ef=first.example=user@listed.example", about, outsider, delta, bravo)
    local, _, domain = return_path(arrived).partition("@")
    assert re.fullmatch(r"SRS1=.{6}=listed\.example==abcd=ef=first\.example=user", local)
    assert domain == HOST
    address = f"{local}@{HOST}"
    with Client(outsider, address_of(delta)) as client:
        client.ehlo()
        client.mail("")
        answers = [client.rcpt(one)[0] for one in (address, address.replace("=listed.", "=listened."))]
    assert answers == [250, 550]


@pytest.mark.parametrize("sender", ['"a b"@none.example', '"a@b"@none.example'])
def test_senders_with_quotes(sender: str, outsider: Machine, delta: Site, bravo: Site) -> None:
    """They stay: an SRS address of theirs would lead nowhere."""
    about = subject("quotes")
    content = message("someone@none.example", OUT, about)
    assert send(outsider, address_of(delta), sender, OUT, content).code == 250
    assert f"Return-Path: <{sender}>".encode() in delivered(bravo, BRAVO, about)


def test_long_senders(outsider: Machine, delta: Site, bravo: Site) -> None:
    """A long sender's SRS address is longer than most; a sender for which there can be no valid one stays."""
    for domain, rewritten in ((LONG_LABEL, True), (LONG_NAME, False)):
        sender = f"{'x' * 64}@{domain}"
        arrived = forwarded(sender, subject("long"), outsider, delta, bravo)
        assert return_path(arrived) == (srs_address(delta, sender) if rewritten else sender)


def test_the_second_pass_is_for_itself(outsider: Machine, delta: Site) -> None:
    """Nobody outside reaches the port by which mail passes once more, or the mark of a recipient."""
    greetings = []
    for port in (25, 10024):
        with outsider.connect(address_of(delta), port) as link:
            greetings.append(link.recv(3))
    assert greetings == [b"220", b""]
    reply = bounce("user@bravo.example.srs.invalid", subject("marked"), outsider, delta)
    assert (reply.code, reply.text.partition(";")[0][:5]) == (554, "5.7.1")


def test_postsrsd_is_confined(delta: Site) -> None:
    """It runs as a user of its own without any capability, and alone can read the key."""
    status = delta.run("postsrsd", "cat", "/proc/1/status").decode()
    lines = dict(line.split(":\t") for line in status.splitlines() if ":\t" in line)
    assert set(lines["Uid"].split()) == {str(IDS.postsrsd)}
    assert {int(lines[f"Cap{name}"], 16) for name in ("Eff", "Prm", "Inh", "Amb", "Bnd")} == {0}
    assert lines["NoNewPrivs"] == "1"
    key = (delta.directory / srs_key.FILE).read_bytes().strip()
    shown = delta.run("postsrsd", "stat", "-c", "%u %a", "/run/postsrsd", "/run/postsrsd/key").decode().splitlines()
    assert shown == [f"{IDS.postsrsd} 700", f"{IDS.postsrsd} 600"]
    for service in delta.containers().keys() - {"postsrsd"}:
        assert delta.run(service, "sh", "-c", "ls /run/secrets 2> /dev/null | grep srs || true") == b""
        assert key not in delta.run(service, "sh", "-c", "cat /proc/[0-9]*/cmdline /etc/postfix/* 2> /dev/null || true")
    assert not [line for line in delta.log() if key.decode() in line]
