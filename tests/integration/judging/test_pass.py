"""Mail from stack to stack is believed: SPF and DKIM pass, asserted in the headers and by independent verifiers."""

from dataclasses import dataclass

import pytest

from mailstack.world.containers import Machine, wait_for
from mailstack.world.internet import Internet
from mailstack.world.site import Site, parse
from support import (
    address_of,
    count,
    delivered,
    dkim_results,
    dmarc_result,
    independent_dkim,
    independent_spf,
    message,
    own_results,
    properties,
    raw_results,
    received_spf,
    send,
    signed_part,
    spf_result,
    subject,
    verdict,
)


@dataclass(frozen=True)
class Case:
    """Who writes, with which envelope sender, and the d= that must have signed."""

    author: str
    sender: str
    signer: str


ALPHA = {
    "first domain": Case("user@alpha.example", "user@alpha.example", "alpha.example"),
    "second domain, key by CNAME": Case("user@alpine.example", "user@alpine.example", "alpine.example"),
    "sub-domain, signed by its parent": Case("user@sub.alpha.example", "user@alpha.example", "alpha.example"),
    "upper case": Case("User@ALPHA.Example", "user@alpha.example", "alpha.example"),
    "display name and angle brackets": Case('"A, B" <user@alpha.example>', "user@alpha.example", "alpha.example"),
    "the host name itself": Case("root@mail.alpha.example", "root@mail.alpha.example", "mail.alpha.example"),
}


def assert_believed(content: bytes, case: Case, origin: Site, target: Site, world: Internet) -> None:
    """What must hold for mail of one stack in a mailbox of the other."""
    client, host = address_of(origin), origin.stack.hostname
    identity = f"identity=mailfrom; client-ip={client}; helo={host}"
    assert received_spf(content).startswith(f"Pass (mailfrom) {identity};")
    assert independent_spf(client, case.sender, host, world.names) == "pass"

    (dkim,) = dkim_results(content, target)
    assert dkim.result == "pass"
    assert (dkim.header_d, dkim.header_s) == (case.signer, origin.stack.keys.signers[0].selector)
    (text,) = raw_results(content)
    domain = case.sender.rpartition("@")[2]
    start = f"{target.stack.hostname}; spf=pass smtp.mailfrom={domain}; dkim=pass (2048-bit key; secure) header.d="
    assert text.startswith(start)
    dmarc = dmarc_result(content, target)
    author = case.author or case.sender
    assert dmarc.result == "pass"
    assert properties(dmarc) == {"header.from": author.rpartition("@")[2].rstrip(">").lower(), "policy.dmarc": "none"}
    assert "dmarc=pass (p=none dis=none)" in text
    assert independent_dkim(content, world.names)


@pytest.mark.parametrize("case", ALPHA.values(), ids=ALPHA.keys())
def test_submission(case: Case, world: Internet, insider: Machine, alpha: Site, bravo: Site) -> None:
    """What a trusted client submits on 587 arrives signed and is believed."""
    about = subject("submitted")
    content = message(case.author, "user@bravo.example", about)
    reply = send(insider, address_of(alpha), case.sender, "user@bravo.example", content, port=587)
    assert reply.code == 250
    assert_believed(delivered(bravo, "user@bravo.example", about), case, alpha, bravo, world)


def test_trusted_client_on_port_25(world: Internet, insider: Machine, alpha: Site, bravo: Site) -> None:
    """A trusted client may use port 25 as well, and its mail is signed all the same."""
    case, about = ALPHA["first domain"], subject("port 25")
    content = message(case.author, "user@bravo.example", about)
    assert send(insider, address_of(alpha), case.sender, "user@bravo.example", content).code == 250
    assert_believed(delivered(bravo, "user@bravo.example", about), case, alpha, bravo, world)


def test_local_sendmail(world: Internet, alpha: Site, bravo: Site) -> None:
    """What root hands to sendmail in the container is signed and believed."""
    case, about = ALPHA["first domain"], subject("sendmail")
    content = message(case.author, "user@bravo.example", about).replace(b"\r\n", b"\n")
    alpha.sendmail(content, "-t", "-f", case.sender)
    assert_believed(delivered(bravo, "user@bravo.example", about), case, alpha, bravo, world)


def test_reply(world: Internet, insider: Machine, alpha: Site, bravo: Site) -> None:
    """The other way round it is the same."""
    case, about = Case("user@bravo.example", "user@bravo.example", "bravo.example"), subject("Re: submitted")
    content = message(case.author, "user@alpha.example", about)
    assert send(insider, address_of(bravo), case.sender, "user@alpha.example", content, port=587).code == 250
    assert_believed(delivered(alpha, "user@alpha.example", about), case, bravo, alpha, world)


def test_bounce(world: Internet, insider: Machine, alpha: Site, bravo: Site) -> None:
    """A bounce comes from the host name with a null sender: HELO passes SPF, the host's own key row signs."""
    about = subject("to nobody")
    content = message("user@bravo.example", "nobody@bravo.example", about)
    assert send(insider, address_of(alpha), "user@bravo.example", "nobody@bravo.example", content, port=587).code == 250

    bounce = bravo.wait_for_mail(
        "user@bravo.example",
        lambda one: one.get_content_type() == "multipart/report" and about in one.as_string(),
    )
    assert parse(bounce)["Return-Path"] == "<>"
    assert received_spf(bounce).startswith("Pass (helo) identity=helo;")
    assert independent_spf(address_of(alpha), "", "mail.alpha.example", world.names) == "pass"
    (dkim,) = dkim_results(bounce, bravo)
    assert (dkim.result, dkim.header_d) == ("pass", "mail.alpha.example")
    assert spf_result(bounce, bravo).result == dmarc_result(bounce, bravo).result == "pass"
    assert independent_dkim(bounce, world.names)


def test_key_for_each_domain(world: Internet, charlie: Site, bravo: Site) -> None:
    """With dkim_keys=per-domain each domain signs with a key of its own, which verifies."""
    records = {key.domain: key.record for key in charlie.stack.keys.signers}
    assert len(set(records.values())) == len(records) == 2
    for domain in ("charlie.example", "chess.example"):
        about = subject(domain)
        content = message(f"user@{domain}", "user@bravo.example", about).replace(b"\r\n", b"\n")
        charlie.sendmail(content, "-t", "-f", f"user@{domain}")
        assert_believed(
            delivered(bravo, "user@bravo.example", about), Case("", f"user@{domain}", domain), charlie, bravo, world
        )


def test_unsigned_zone(delta: Site, bravo: Site) -> None:
    """A key from a zone without DNSSEC passes, and is not called secure."""
    about = subject("unsigned zone")
    content = message("user@delta.unsigned.example", "user@bravo.example", about).replace(b"\r\n", b"\n")
    delta.sendmail(content, "-t", "-f", "user@delta.unsigned.example")
    (text,) = raw_results(delivered(bravo, "user@bravo.example", about))
    assert "dkim=pass" in text
    assert "secure)" not in text


def test_foreign_domain_is_not_signed(insider: Machine, alpha: Site, bravo: Site) -> None:
    """A trusted client's mail from a domain that is not ours goes out, without anybody's signature; the log says why."""
    about = subject("foreign author")
    content = message("user@listed.example", "user@bravo.example", about)
    assert send(insider, address_of(alpha), "user@alpha.example", "user@bravo.example", content, port=587).code == 250
    arrived = delivered(bravo, "user@bravo.example", about)
    assert parse(arrived)["DKIM-Signature"] is None
    assert any("no signing table match for 'user@listed.example'" in line for line in alpha.log("opendkim"))


def test_sub_domains_can_be_left_out(charlie: Site, bravo: Site) -> None:
    """With sign_subdomains=false mail from a sub-domain leaves unsigned, and the log says why."""
    about = subject("sub-domain")
    content = message("user@sub.charlie.example", "user@bravo.example", about).replace(b"\r\n", b"\n")
    charlie.sendmail(content, "-t", "-f", "user@charlie.example")
    assert parse(delivered(bravo, "user@bravo.example", about))["DKIM-Signature"] is None
    assert any("no signing table match for 'user@sub.charlie.example'" in line for line in charlie.log("opendkim"))


@pytest.mark.parametrize("way", ["submission", "sendmail"])
def test_an_alias_that_leads_elsewhere(way: str, world: Internet, insider: Machine, alpha: Site, bravo: Site) -> None:
    """What goes back out through an alias carries one signature, which verifies."""
    case, about = ALPHA["first domain"], subject("by an alias")
    content = message(case.author, "away@alpha.example", about)
    if way == "submission":
        assert send(insider, address_of(alpha), case.sender, "away@alpha.example", content, port=587).code == 250
    else:
        alpha.sendmail(content.replace(b"\r\n", b"\n"), "-t", "-f", case.sender)
    arrived = delivered(bravo, "user@bravo.example", about)
    assert len(parse(arrived).get_all("DKIM-Signature")) == 1
    assert_believed(arrived, case, alpha, bravo, world)


def test_forwarded_mail_is_not_ours(outsider: Machine, alpha: Site, bravo: Site) -> None:
    """Mail from outside that an alias hands on gets no signature of ours on the way, and keeps what we found."""
    # Alpha may not send for listed.example either, and bravo would say so.
    about, sender = subject("handed on"), "someone@none.example"
    content = message(sender, "away@alpha.example", about)
    assert send(outsider, address_of(alpha), sender, "away@alpha.example", content).code == 250
    arrived = delivered(bravo, "user@bravo.example", about)
    assert parse(arrived)["DKIM-Signature"] is None
    for site in (alpha, bravo):
        assert [one.result for one in own_results(arrived, site)] == ["none", "none", "none"]


OVERSIGNED = ["from", "reply-to", "subject", "date", "message-id", "to", "cc", "mime-version", "content-type"]
NEWSLETTER = {
    "Sender": "user@alpha.example",
    "Reply-To": "user@alpha.example",
    "Cc": "x@bravo.example",
    "MIME-Version": "1.0",
    "Content-Type": "text/plain; charset=utf-8",
    "Content-Transfer-Encoding": "7bit",
    "In-Reply-To": "<1@bravo.example>",
    "References": "<1@bravo.example>",
    "List-Id": "<news.alpha.example>",
    "List-Unsubscribe": "<https://alpha.example/leave>",
    "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
}


@pytest.mark.parametrize("fields", [{}, NEWSLETTER], ids=["plain", "newsletter"])
def test_signature_covers_what_it_should(
    fields: dict[str, str], insider: Machine, outsider: Machine, alpha: Site, bravo: Site
) -> None:
    """One signature, relaxed/simple, no l=, over all that readers see; what they see once, and where, is final."""
    about = subject("signature")
    extra = [f"{name}: {value}" for name, value in fields.items()]
    content = message("user@alpha.example", "user@bravo.example", about, extra=extra)
    send(insider, address_of(alpha), "user@alpha.example", "user@bravo.example", content, port=587)
    original = delivered(bravo, "user@bravo.example", about)
    (value,) = parse(original).get_all("DKIM-Signature")
    tags = dict(part.strip().partition("=")[::2] for part in "".join(value.split()).split(";"))
    assert tags["c"] == "relaxed/simple"
    assert tags["a"] == "rsa-sha256"
    assert "l" not in tags
    signed = [name.lower() for name in tags["h"].split(":")]
    present = {"from", "subject", "date", "message-id", "to", *map(str.lower, fields)}
    assert {name: signed.count(name) for name in signed} == {
        name: (name in present) + (name in OVERSIGNED) for name in {*present, *OVERSIGNED}
    }
    for name in ("Reply-To", "Content-Type", "Date"):
        other = subject(f"one more {name}")
        changed = f"{name}: text/html\r\nX: {other}\r\n".encode() + signed_part(original)
        reply = send(outsider, address_of(bravo), "user@listed.example", "user@bravo.example", changed)
        assert reply.code == 250
        queue_id = reply.text.rsplit(maxsplit=1)[-1]
        arrived = bravo.wait_for_mail("user@bravo.example", lambda one, q=queue_id: q in str(one["Received"]))
        assert [one.result for one in dkim_results(arrived, bravo)] == ["fail"]


def test_aliases_and_extensions(insider: Machine, alpha: Site, bravo: Site) -> None:
    """Aliases, postmaster of domain and host, an extension and upper case all reach the mailbox."""
    for recipient in (
        "sales@bravo.example",
        "postmaster@bravo.example",
        "abuse@bravo.example",
        "postmaster@mail.bravo.example",
        "user+tag@bravo.example",
        "USER@Bravo.Example",
    ):
        about = subject(recipient)
        content = message("user@alpha.example", recipient, about)
        send(insider, address_of(alpha), "user@alpha.example", recipient, content, port=587)
        delivered(bravo, "user@bravo.example", about)
        assert count(bravo, "user@bravo.example", about) == 1


def test_maildir_belongs_to_vmail(insider: Machine, alpha: Site, bravo: Site) -> None:
    """Mailboxes lie where a Dovecot will look, owned by uid and gid 5000, closed to others."""
    about = subject("owner")
    content = message("user@alpha.example", "user@bravo.example", about)
    send(insider, address_of(alpha), "user@alpha.example", "user@bravo.example", content, port=587)
    delivered(bravo, "user@bravo.example", about)
    found = bravo.run("postfix", "find", "/var/vmail", "-printf", "%U:%G %m %P\\n").decode().splitlines()
    assert "5000:5000 700 bravo.example/user/Maildir/new" in found
    assert {line.split()[0] for line in found} == {"5000:5000"}
    assert not any(int(line.split()[1], 8) & 0o007 for line in found)


def test_one_log_line_for_each_event(insider: Machine, alpha: Site, bravo: Site) -> None:
    """Every daemon says what it did with the message once, with the queue id, in docker compose logs."""
    about = subject("log")
    content = message("user@alpha.example", "user@bravo.example", about)
    reply = send(insider, address_of(alpha), "user@alpha.example", "user@bravo.example", content, port=587)
    queue_id = reply.text.rsplit(maxsplit=1)[-1]
    arrived = delivered(bravo, "user@bravo.example", about)
    signed = [line for line in alpha.log("opendkim") if queue_id in line]
    assert len([line for line in signed if "DKIM-Signature field added (s=default, d=alpha.example)" in line]) == 1
    # What was written before is there when it has left the queue.
    wait_for(lambda: [line for line in alpha.log("postfix") if f"{queue_id}: removed" in line], "it is still queued")
    assert len([line for line in alpha.log("postfix") if queue_id in line and "status=sent" in line]) == 1

    received = next(one for one in parse(arrived).get_all("Received") if "by mail.bravo.example" in one)
    theirs = received.split(" id ")[1].split()[0]
    wait_for(lambda: [line for line in bravo.log("postfix") if f"{theirs}: removed" in line], "it is still queued")
    assert len([line for line in bravo.log("postfix") if theirs in line and "delivered to maildir" in line]) == 1
    judged = wait_for(lambda: [line for line in bravo.log("policyd-spf") if theirs in line], "SPF is not logged")
    assert len(judged) == 1
    client = f"client={address_of(alpha)}"
    assert f"{client} identity=mailfrom domain='alpha.example' result=pass action=PREPEND" in judged[0]
    assert len([line for line in bravo.log("opendkim") if theirs in line and "verification successful" in line]) == 1
    assert verdict(bravo, arrived)["queue_id"] == theirs
    assert len([line for line in bravo.log("dmarc") if theirs in line]) == 1
    assert not [line for line in alpha.log("dmarc") if queue_id in line]


def test_changed_on_the_way(outsider: Machine, insider: Machine, alpha: Site, bravo: Site) -> None:
    """Mail of alpha that was changed between the stacks has dkim=fail: body, signed field; with a second From, 550."""
    about = subject("original")
    content = message("user@alpha.example", "user@bravo.example", about)
    send(insider, address_of(alpha), "user@alpha.example", "user@bravo.example", content, port=587)
    original = signed_part(delivered(bravo, "user@bravo.example", about))
    other = subject("changed")
    for changed in (
        original.replace(b"A body.", b"A b0dy.") + f"X: {other}\r\n".encode(),
        original.replace(about.encode(), other.encode()),
    ):
        reply = send(outsider, address_of(bravo), "user@listed.example", "user@bravo.example", changed)
        assert reply.code == 250
        queue_id = reply.text.rsplit(maxsplit=1)[-1]
        arrived = bravo.wait_for_mail("user@bravo.example", lambda one, q=queue_id: q in str(one["Received"]))
        (dkim,) = dkim_results(arrived, bravo)
        assert (dkim.result, dkim.header_d) == ("fail", "alpha.example")
        assert dmarc_result(arrived, bravo).result == "fail"
    changed = original.replace(b"From: user@alpha", b"From: ceo@listed.example\r\nFrom: user@alpha")
    reply = send(outsider, address_of(bravo), "user@listed.example", "user@bravo.example", changed)
    assert (reply.code, reply.text) == (550, "5.7.1 the message has more than one From field")
