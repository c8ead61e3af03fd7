"""The secret authserv-id between OpenDKIM and dmarc is seen by nobody: not in mailboxes, not on the wire, not in logs."""

import pytest

from mailstack.services import SERVICE_NAMES
from mailstack.world.containers import Machine
from mailstack.world.internet import Internet
from mailstack.world.site import Site, parse
from support import (
    address_of,
    delivered,
    dkim_sign,
    internal_id,
    message,
    published_key,
    raw_results,
    results,
    send,
    subject,
    verdict,
)


@pytest.fixture(scope="module")
def foreign_key(world: Internet) -> bytes:
    """The key of signer.example whose selector is "foreign"."""
    return published_key(world.names, "foreign", "signer.example")


AUTHORS = {
    "ours": "user@alpha.example",
    "a stranger, unsigned": "someone@signer.example",
    "a stranger, signed": "someone@signer.example",
}


@pytest.mark.parametrize("way", ["587", "25", "sendmail"])
@pytest.mark.parametrize("author", AUTHORS)
def test_what_leaves(author: str, way: str, insider: Machine, alpha: Site, bravo: Site, foreign_key: bytes) -> None:
    """Whether OpenDKIM signs a message of a trusted client, or has nothing to sign it with: it adds no result to it."""
    about, sender, recipient = subject("leaves"), "user@alpha.example", "user@bravo.example"
    content = message(AUTHORS[author], recipient, about)
    if author.endswith(", signed"):
        content = dkim_sign(content, "signer.example", "foreign", foreign_key)
    if way == "sendmail":
        alpha.sendmail(content.replace(b"\r\n", b"\n"), "-i", "-f", sender, recipient)
    else:
        assert send(insider, address_of(alpha), sender, recipient, content, port=int(way)).code == 250
    arrived = delivered(bravo, recipient, about)
    assert internal_id(alpha) not in arrived
    (only,) = raw_results(arrived)
    assert only.startswith("mail.bravo.example; spf=pass ")


@pytest.mark.parametrize("copies", [1, 3])
def test_a_forged_id_says_nothing(copies: int, outsider: Machine, bravo: Site) -> None:
    """Whoever knew an id could not use an older one: results under others' ids stay what they are, and are not believed."""
    about, sender, mailbox = subject("forged id"), "someone@listed.example", "user@bravo.example"
    forged = f"Authentication-Results: mailstack-{'0' * 40}; dkim=pass header.d=bank.example header.s=x header.b=abc"
    content = message(sender, mailbox, about, extra=[forged] * copies)
    assert send(outsider, address_of(bravo), sender, mailbox, content).code == 250
    arrived = delivered(bravo, mailbox, about)
    assert len(raw_results(arrived)) == copies + 1
    (ours,) = results(arrived, "mail.bravo.example")
    assert [one.result for one in ours.results] == ["pass", "none", "none"]
    assert verdict(bravo, content)["auth_results"]["dkim"] == []


def test_what_is_handed_on_and_comes_back(alpha: Site, bravo: Site, charlie: Site) -> None:
    """What an alias hands on holds our public result alone, and so does the bounce when the next host refuses it."""
    about, sender = subject("handed on"), "user@charlie.example"
    # Charlie signs no sub-domains, and alpha may not send for it: bravo refuses, and alpha tells charlie.
    content = message("x@sub.charlie.example", "away@alpha.example", about).replace(b"\r\n", b"\n")
    charlie.sendmail(content, "-t", "-f", sender)
    bounce = charlie.wait_for_mail(
        sender, lambda one: one.get_content_type() == "multipart/report" and about in one.as_string()
    )
    assert b"550" in bounce
    assert b"5.7.23" in bounce
    assert b"\nAuthentication-Results: mail.alpha.example;" in bounce.replace(b"\r\n", b"\n")
    for site in (alpha, bravo, charlie):
        assert internal_id(site) not in bounce

    about = subject("handed on, signed")
    content = message(sender, "away@alpha.example", about).replace(b"\r\n", b"\n")
    charlie.sendmail(content, "-t", "-f", sender)
    arrived = delivered(bravo, "user@bravo.example", about)
    ids = [one.partition(";")[0] for one in raw_results(arrived)]
    assert ids == ["mail.bravo.example", "mail.alpha.example"]
    for site in (alpha, bravo, charlie):
        assert internal_id(site) not in arrived


def test_two_builds_two_ids(alpha: Site, bravo: Site, charlie: Site, delta: Site) -> None:
    """Each site has an id of its own."""
    assert len({internal_id(one) for one in (alpha, bravo, charlie, delta)}) == 4


@pytest.mark.parametrize("name", ["alpha", "bravo", "charlie", "delta", "foxtrot"])
def test_nowhere(name: str, request: pytest.FixtureRequest, outsider: Machine, alpha: Site, bravo: Site) -> None:
    """No message that was ever delivered holds the id, nor a file of the queue, nor a log."""
    site: Site = request.getfixturevalue(name)
    (secret, about), mailbox = (internal_id(site), subject("judged")), site.stack.mailboxes[0]
    assert len(secret) > 30
    content = message("someone@listed.example", mailbox, about)
    assert send(outsider, address_of(site), "someone@listed.example", mailbox, content).code == 250
    assert about.encode() in delivered(site, mailbox, about)
    for other in (site, alpha, bravo):
        for one in other.stack.mailboxes:
            assert not [found for found in other.mail(one) if secret in found]

    def holds(text: str) -> list[bytes]:
        found = site.run("postfix", "sh", "-c", f"grep -rlF '{text}' /var/spool/postfix /var/vmail || true")
        return found.splitlines()

    assert holds(about)
    assert holds(secret.decode()) == []
    log = site.log(*SERVICE_NAMES)
    assert [line for line in log if parse(content)["Message-ID"] in line]
    assert not [line for line in log if secret.decode() in line]
