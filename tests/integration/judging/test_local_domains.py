"""Mail from outside under a domain of ours: delivered if SPF or DKIM shows that it may use it.

Else it is put aside, where another domain passes; dropped, where the envelope uses the domain; refused, where From does.

| stack | MAILSTACK_LOCAL_SENDER | what it publishes |
| --- | --- | --- |
| alpha | aligned, discard | ~all, two domains |
| bravo | aligned, discard | -all |
| lima | aligned, discard, and reject for a while | -all, by the record of a newsletter service, in zones that can fail |
| delta | envelope, reject: the tutorial's table | ~all |
| echo | off | ~all |
"""

import contextlib
import ipaddress
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest

from integration.conftest import site
from integration.mailbox_server import MailboxServer
from mailstack.dns.formats import rdata
from mailstack.dns.records import records
from mailstack.world.containers import Machine, wait_for
from mailstack.world.internet import Internet
from mailstack.world.site import Site, parse
from place import EDGE
from policy_client import request as spf_request
from support import (
    JUNK,
    Client,
    Reply,
    address_of,
    all_verdicts,
    count,
    delivered,
    dkim_results,
    dkim_sign,
    dmarc_result,
    key_record,
    message,
    one_more,
    public_key,
    published_key,
    send,
    signed_part,
    spf_result,
    subject,
    verdict,
    verdicts,
)

NEWSLETTER = EDGE[60]

# What policyd-spf says on its internal socket of one request.
ASK = """
import socket, sys
connection = socket.socket(socket.AF_UNIX)
connection.connect("/run/policyd-spf/results.sock")
connection.sendall(sys.stdin.buffer.read())
connection.shutdown(socket.SHUT_WR)
sys.stdout.write(connection.makefile().read())
"""


@pytest.fixture(scope="module")
def newsletter(world: Internet) -> Machine:
    """A host of a service that sends for some of our domains, and for everybody else who pays."""
    machine = world.host("newsletter", NEWSLETTER)
    world.names.set("newsletter.example", "A", str(NEWSLETTER))
    world.names.set("newsletter.example", "TXT", f'"v=spf1 ip4:{NEWSLETTER} -all"')
    world.names.publish()
    return machine


@pytest.fixture(scope="module")
def service_key(world: Internet) -> bytes:
    """The service's own DKIM key; its selector is "service"."""
    return published_key(world.names, "service", "newsletter.example", "signer.example")


@pytest.fixture(scope="module")
def authorised(world: Internet, newsletter: Machine, service_key: bytes, alpha: Site, bravo: Site) -> Iterator[None]:
    """The first domains of alpha and bravo name the service in SPF, have a key record of it and a sub-domain for it."""
    names, restore = world.names, []
    for one in (alpha, bravo):
        domain = one.stack.domains[0]
        (original,) = [
            rdata(found).to_text() for found in records(one.stack) if (found.name, found.type) == (domain, "TXT")
        ]
        restore.append((domain, original))
        qualifier = one.stack.spf_qualifier
        names.set(domain, "TXT", f'"v=spf1 ip4:{address_of(one)} ip4:{NEWSLETTER} {qualifier}all"')
        names.set(f"service._domainkey.{domain}", "TXT", key_record(public_key(service_key)))
        names.set(f"sub.{domain}", "A", str(NEWSLETTER))
        names.set(f"news.{domain}", "A", str(NEWSLETTER))
        names.set(f"news.{domain}", "TXT", f'"v=spf1 ip4:{NEWSLETTER} -all"')
    for name in LOOKALIKES:
        names.set(name, "A", str(EDGE[7]))
    names.publish()
    for one in (alpha, bravo):
        wait_for(
            lambda one=one: _passes(one, newsletter, one.stack.domains[0]), f"{one.stack.hostname} has the old record"
        )
    yield
    for domain, original in restore:
        names.set(domain, "TXT", original)
        names.set(f"service._domainkey.{domain}", "TXT")
        names.set(f"news.{domain}", "TXT")
    names.publish()


def _passes(judge: Site, client: Machine, domain: str) -> bool:
    asked = spf_request(f"user@{domain}", client=str(client.address))
    answer = json.loads(judge.run("policyd-spf", "python3", "-c", ASK, stdin=asked))
    return bool(answer["evaluation"]["mailfrom"]["result"] == "pass")


def own_mail(origin: Site, other: Site, about: str) -> bytes:
    """A message of a site as it came to another one: signed."""
    author, recipient = f"user@{origin.stack.domains[0]}", f"user@{other.stack.domains[0]}"
    origin.sendmail(message(author, recipient, about).replace(b"\r\n", b"\n"), "-t", "-f", author)
    return signed_part(delivered(other, recipient, about))


def assert_judged(action: str, content: bytes, target: Site, client: ipaddress.IPv4Address, sender: str) -> str:
    """One verdict with this action, which says who sent what; its reason."""
    found = verdict(target, content)
    assert found["action"] == action
    assert found["source_ip"] == str(client)
    # Postfix tells a milter of it in lower case.
    assert found["envelope_from"].lower() == f"<{sender}>".lower()
    author = re.search(rb"(?m)^From: (.*)\r$", content)
    assert author is not None
    assert found["from"] == author[1].decode()
    return str(found["reason"])


def assert_absent(content: bytes, target: Site, mailbox: str, client: Machine) -> None:
    """It is not there, and what the same client sent later is."""
    marker, sender = subject("later"), "someone@none.example"  # anybody may send under a domain without SPF
    assert send(client, address_of(target), sender, mailbox, message(sender, mailbox, marker)).code == 250
    delivered(target, mailbox, marker)
    assert count(target, mailbox, parse(content)["Subject"]) == 0


def assert_dropped(reply: Reply, content: bytes, target: Site, mailbox: str, client: Machine, sender: str) -> str:
    """250, delivered to nobody, one verdict that says so, and one line of Postfix; the reason."""
    assert reply.code == 250
    reason = assert_judged("discard", content, target, client.address, sender)
    assert_absent(content, target, mailbox, client)
    queue_id = verdict(target, content)["queue_id"]
    assert reply.text.endswith(f"queued as {queue_id}")
    (line,) = [one for one in target.log("postfix") if queue_id in one and "milter-discard" in one]
    assert f"[{client.address}]" in line
    assert f"to=<{mailbox}>" in line
    return reason


def assert_put_aside(
    reply: Reply, content: bytes, target: Site, mailbox: str, client: Machine, sender: str, why: str
) -> None:
    """250, and delivered with the mark, which says why."""
    assert reply.code == 250, reply
    arrived = parse(delivered(target, mailbox, parse(content)["Subject"], JUNK))
    assert arrived.get_all("X-Mailstack-Quarantine") == [why]
    assert assert_judged("quarantine", content, target, client.address, sender) == why


@pytest.fixture(params=["alpha", "bravo"])
def target(request: pytest.FixtureRequest, authorised: None) -> Site:
    """A stack that judges by "aligned"; with ~all, and with -all."""
    found: Site = request.getfixturevalue(request.param)
    return found


# How a forwarder may hand a message on, as the envelope sender.
FORWARDED = {
    "envelope kept": "user@{}",
    "rewritten to the forwarder's domain": "srs0+abc=user@forwarder.example",
    "null sender": "",
}


def forward(forwarder: Machine, target: Site, sender: str, content: bytes) -> Reply:
    """Send to the target's mailbox as the forwarder."""
    mailbox = f"user@{target.stack.domains[0]}"
    return send(forwarder, address_of(target), sender, mailbox, content, helo="forwarder.example")


@pytest.mark.parametrize("way", FORWARDED)
def test_own_mail_comes_back(way: str, target: Site, alpha: Site, bravo: Site, forwarder: Machine) -> None:
    """What we signed and a forwarder sends back is delivered, by the signature, whatever the envelope."""
    about, domain = subject(way), target.stack.domains[0]
    content = own_mail(target, bravo if target is alpha else alpha, about)
    sender, mailbox = FORWARDED[way].format(domain), f"user@{domain}"
    assert forward(forwarder, target, sender, content).code == 250
    arrived = delivered(target, mailbox, about)
    assert [(one.result, one.header_d) for one in dkim_results(arrived, target)] == [("pass", domain)]
    assert (spf_result(arrived, target).result == "pass") == (way != "envelope kept")
    assert dmarc_result(arrived, target).result == "pass"
    assert_judged("accept", content, target, forwarder.address, sender)
    assert count(target, mailbox, about) == 1


@dataclass(frozen=True)
class Letter:
    """Who writes what, from where; "{}" is the target's first domain."""

    sender: str
    author: str
    # A fixture.
    client: str = "newsletter"
    helo: str = "newsletter.example"
    # d= and s= of a signature with the service's key.
    signer: str = ""
    selector: str = "service"
    extra: tuple[str, ...] = ()
    # The domain is written so.
    upper: bool = False

    def of(self, domain: str) -> "Letter":
        """With the domain in its places."""
        written = domain.upper() if self.upper else domain
        return replace(
            self,
            sender=self.sender.format(written),
            author=self.author.format(written),
            helo=self.helo.format(domain),
            signer=self.signer.format(domain),
            extra=tuple(one.format(domain) for one in self.extra),
        )

    def content(self, recipient: str, about: str, key: bytes) -> bytes:
        plain = message(self.author, recipient, about, extra=self.extra)
        return dkim_sign(plain, self.signer, self.selector, key) if self.signer else plain


NEWS = {
    "envelope and From of ours": Letter("news@{}", "news@{}"),
    "envelope of ours, From of its own": Letter("news@{}", "info@newsletter.example"),
    "envelope of a sub-domain of ours": Letter("bounce@news.{}", "news@{}"),
    "From of a sub-domain of ours": Letter("news@{}", "news@sub.{}"),
    "null sender, HELO of ours": Letter("", "news@{}", helo="news.{}"),
    "its own envelope, signed with a key that we publish": Letter("bounce@newsletter.example", "news@{}", signer="{}"),
    "null sender, signed with a key that we publish": Letter("", "news@{}", signer="{}"),
    "from a host that SPF does not name, signed with a key that we publish": Letter(
        "news@{}", "news@{}", "outsider", signer="{}"
    ),
}


@pytest.mark.parametrize("kind", NEWS)
def test_a_newsletter_service_may_send_for_us(
    kind: str, target: Site, service_key: bytes, request: pytest.FixtureRequest
) -> None:
    """Whoever our SPF record names, or has a key that we publish, is believed."""
    about, domain = subject(kind), target.stack.domains[0]
    letter, mailbox = NEWS[kind].of(domain), f"user@{domain}"
    client, content = request.getfixturevalue(letter.client), letter.content(mailbox, about, service_key)
    assert send(client, address_of(target), letter.sender, mailbox, content, helo=letter.helo).code == 250
    arrived = delivered(target, mailbox, about)
    assert_judged("accept", content, target, client.address, letter.sender)
    expected = "none" if letter.author.endswith("newsletter.example") else "pass"
    assert dmarc_result(arrived, target).result == expected


FOREIGN = "someone@listed.example"
FORGED_RESULT = "Authentication-Results: mail.{0}; spf=pass smtp.mailfrom={0}; dkim=pass header.d={0}; dmarc=pass"
FORGERIES = {
    "the newsletter, from a stranger": Letter("news@{}", "news@{}", "outsider"),
    "the newsletter, from a forwarder": Letter("news@{}", "news@{}", "forwarder"),
    "the service, for somebody else": Letter("bounce@newsletter.example", "ceo@{}"),
    "the service, for somebody else, signed": Letter(
        "bounce@newsletter.example", "ceo@{}", signer="newsletter.example"
    ),
    "From": Letter(FOREIGN, "ceo@{}", "outsider"),
    "From, with a name": Letter(FOREIGN, '"The CEO" <ceo@{}>', "outsider"),
    "From, with a quoted local part": Letter(FOREIGN, '"the ceo"@{}', "outsider"),
    "From in upper case": Letter(FOREIGN, "CEO@{}", "outsider", upper=True),
    "From of a sub-domain": Letter(FOREIGN, "ceo@sub.{}", "outsider"),
    "From of a sub-domain that does not exist": Letter(FOREIGN, "ceo@no.such.{}", "outsider"),
    "From of the host name": Letter(FOREIGN, "Root <root@mail.{}>", "outsider"),
    "From, signed by another domain": Letter(FOREIGN, "ceo@{}", "outsider", signer="signer.example"),
    "From, signed with a key that nobody publishes": Letter(
        FOREIGN, "ceo@{}", "outsider", signer="{}", selector="missing"
    ),
    "From, signed with another key than ours": Letter(FOREIGN, "ceo@{}", "outsider", signer="{}", selector="default"),
    "From, with forged results": Letter(FOREIGN, "ceo@{}", "outsider", extra=(FORGED_RESULT,)),
    "From, null sender": Letter("", "ceo@{}", "outsider"),
    "From, null sender, HELO that passes": Letter("", "ceo@{}", "outsider", helo="listed.example"),
    "From, null sender, HELO of ours": Letter("", "MAILER-DAEMON@mail.{}", "outsider", helo="mail.{}"),
    "envelope": Letter("user@{}", FOREIGN, "outsider"),
    "envelope and From": Letter("user@{}", "user@{}", "outsider"),
    "envelope in upper case": Letter("USER@{}", FOREIGN, "outsider", upper=True),
    "envelope with a quoted local part": Letter('"odd one"@{}', FOREIGN, "outsider"),
    "envelope of a sub-domain": Letter("x@sub.{}", FOREIGN, "outsider"),
    "envelope of the host name": Letter("root@mail.{}", FOREIGN, "outsider"),
    "envelope, HELO that passes": Letter("user@{}", FOREIGN, "outsider", helo="listed.example"),
    "envelope, From that passes": Letter("user@{}", "x@signer.example", "outsider", signer="signer.example"),
}


# Of these, what passes for another domain: its SPF, or its signature.
VOUCHED_FOR = {
    "the service, for somebody else",
    "the service, for somebody else, signed",
    "From, signed by another domain",
    "From, null sender, HELO that passes",
    "envelope, From that passes",
    *(kind for kind, letter in FORGERIES.items() if letter.sender == FOREIGN and letter.client == "outsider"),
}
NOBODY = "someone@none.example"
FORGERIES |= {
    f"{kind}, nothing passes": replace(letter, sender=NOBODY)
    for kind, letter in FORGERIES.items()
    if letter.sender == FOREIGN and not letter.signer
}


@pytest.mark.parametrize("kind", FORGERIES)
def test_a_forgery_is_no_mail_of_ours(
    kind: str, target: Site, service_key: bytes, request: pytest.FixtureRequest
) -> None:
    """Without an SPF or DKIM pass of ours it is put aside, dropped or refused, with one line that says why."""
    about, domain = subject(kind), target.stack.domains[0]
    letter, mailbox = FORGERIES[kind].of(domain), f"user@{domain}"
    client, content = request.getfixturevalue(letter.client), letter.content(mailbox, about, service_key)
    reply = send(client, address_of(target), letter.sender, mailbox, content, helo=letter.helo)
    where, used = ("MAIL FROM", letter.sender) if domain in letter.sender.lower() else ("From", letter.author)
    why = f"{where} uses our domain {used.rpartition('@')[2].rstrip('>').lower()} without an SPF or DKIM pass for it"
    if kind in VOUCHED_FOR:
        assert_put_aside(reply, content, target, mailbox, client, letter.sender, why)
    elif where == "MAIL FROM":
        assert assert_dropped(reply, content, target, mailbox, client, letter.sender) == why
    else:
        assert (reply.code, reply.text) == (550, f"5.7.1 {why}")
        assert assert_judged("reject", content, target, client.address, letter.sender) == why
        assert_absent(content, target, mailbox, client)


CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "another body": lambda content: content.replace(b"A body.", b"Another body."),
    "another recipient": lambda content: content.replace(b"\r\nTo: ", b"\r\nTo: x@listed.example, "),
    "no signature": lambda content: content[content.index(b"From: ") :],
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("way", FORWARDED)
def test_own_mail_that_was_changed_is_no_longer_ours(
    way: str, change: str, target: Site, alpha: Site, bravo: Site, forwarder: Machine
) -> None:
    """A signature that no longer holds authorises nobody."""
    about, domain = subject(f"{way}, {change}"), target.stack.domains[0]
    original = own_mail(target, bravo if target is alpha else alpha, about)
    content = CHANGES[change](original)
    assert content != original
    sender, mailbox = FORWARDED[way].format(domain), f"user@{domain}"
    reply = forward(forwarder, target, sender, content)
    why = f"From uses our domain {domain} without an SPF or DKIM pass for it"
    if way == "envelope kept":
        assert_dropped(reply, content, target, mailbox, forwarder, sender)
    else:
        # Whose SPF passes, by MAIL FROM or by HELO.
        assert_put_aside(reply, content, target, mailbox, forwarder, sender, why)


def test_one_domain_of_ours_does_not_speak_for_another(newsletter: Machine, authorised: None, alpha: Site) -> None:
    """A service that may send for alpha.example may not for alpine.example, which is as much ours."""
    sender, mailbox = "news@alpha.example", "user@alpha.example"
    content = message("ceo@alpine.example", mailbox, subject("the other domain"))
    reply = send(newsletter, address_of(alpha), sender, mailbox, content, helo="newsletter.example")
    why = "From uses our domain alpine.example without an SPF or DKIM pass for it"
    assert_put_aside(reply, content, alpha, mailbox, newsletter, sender, why)


def test_one_line_for_several_recipients(outsider: Machine, authorised: None, bravo: Site) -> None:
    """However many recipients, what is dropped is one line."""
    sender, mailbox = "user@bravo.example", "user@bravo.example"
    content = message(FOREIGN, mailbox, subject("several recipients"))
    with Client(outsider, address_of(bravo)) as client:
        client.sendmail(sender, [mailbox, "sales@bravo.example", "postmaster@bravo.example"], content)
    assert_judged("discard", content, bravo, outsider.address, sender)
    assert_absent(content, bravo, mailbox, outsider)


def test_spf_does_not_answer_first(outsider: Machine, charlie: Site) -> None:
    """Where SPF refuses at RCPT, our own -all does not: no bounce goes to the person whose name was used."""
    sender = mailbox = "user@charlie.example"
    content = message(sender, mailbox, subject("reject-early"))
    reply = send(outsider, address_of(charlie), sender, mailbox, content)
    # Charlie refuses what has no SPF record as little as what passes, so that the later message comes through.
    assert_dropped(reply, content, charlie, mailbox, outsider, sender)


LOOKALIKES = ["notbravo.example", "bravo.example.evil.example", "bravo-example.example", "xn--brav-tqa.example"]
NOT_OURS = {
    "a bounce": ("", "MAILER-DAEMON@listed.example", ()),
    "a bounce with a name": ("", "Mail Delivery System <MAILER-DAEMON@outsider.example>", ()),
    "our address as the name, quoted": (FOREIGN, f'"user@bravo.example" <{FOREIGN}>', ()),
    "our domain as the name": (FOREIGN, f"bravo.example <{FOREIGN}>", ()),
    "our domain in a comment": (FOREIGN, f"Bravo (bravo.example) <{FOREIGN}>", ()),
    "our domain as the local part": ("bravo.example@listed.example", "bravo.example@listed.example", ()),
    "our address in the local part": ("user=bravo.example@listed.example", FOREIGN, ()),
    "our address in Reply-To": (FOREIGN, FOREIGN, ("Reply-To: user@bravo.example",)),
    "our address in Sender": (FOREIGN, FOREIGN, ("Sender: user@bravo.example",)),
    "our address in Resent-From": (FOREIGN, FOREIGN, ("Resent-From: user@bravo.example",)),
    **{f"{name} in the envelope": (f"user@{name}", FOREIGN, ()) for name in LOOKALIKES},
    **{f"{name} in From": (FOREIGN, f"user@{name}", ()) for name in LOOKALIKES},
}


@pytest.mark.parametrize("kind", NOT_OURS)
def test_what_is_not_ours_is_not_hit(kind: str, outsider: Machine, authorised: None, bravo: Site) -> None:
    """Bounces of others, our address where it is not the author's, and domains that look like ours are delivered."""
    (sender, author, extra), about = NOT_OURS[kind], subject(kind)
    content = message(author, "user@bravo.example", about, extra=extra)
    assert send(outsider, address_of(bravo), sender, "user@bravo.example", content).code == 250
    delivered(bravo, "user@bravo.example", about)
    assert_judged("accept", content, bravo, outsider.address, sender)


# Zones of lima's world that a test silences.
KEYS, SERVICE, DMARC = "_domainkey.lima.example", "service.example", "_dmarc.lima.example"
LIMA = "user@lima.example"


@pytest.fixture(scope="module")
def lima(world: Internet, newsletter: Machine) -> Site:
    """Its SPF record includes that of the service; keys, DMARC record and the service's record are in zones of theirs."""
    for zone in (KEYS, SERVICE, DMARC):
        world.names.delegate_unsigned(zone)
    world.names.set(SERVICE, "TXT", f'"v=spf1 ip4:{NEWSLETTER} -all"')
    world.names.set("sub.lima.example", "A", str(NEWSLETTER))
    return site(
        world,
        "mail.lima.example",
        "lima.example",
        MAILBOXES=LIMA,
        SPF_RECORD=f"v=spf1 mx include:{SERVICE} -all",
        SPF_TEMPERROR="tag",
    )


def test_the_record_of_a_setting(newsletter: Machine, outsider: Machine, lima: Site) -> None:
    """Whom the site's own MAILSTACK_SPF_RECORD names is believed, and nobody else."""
    sender, about = "news@lima.example", subject("by the setting")
    content = message(sender, LIMA, about)
    assert send(newsletter, address_of(lima), sender, LIMA, content, helo="newsletter.example").code == 250
    assert dmarc_result(delivered(lima, LIMA, about), lima).result == "pass"
    content = message(sender, LIMA, subject("by nobody"))
    reply = send(outsider, address_of(lima), sender, LIMA, content)
    assert_dropped(reply, content, lima, LIMA, outsider, sender)


@contextlib.contextmanager
def silence(world: Internet, zone: str, probe: Callable[[], Reply]) -> Iterator[None]:
    """A zone gives no answer for a while, and what a stack still knew of it has gone: it defers the probe."""
    world.names.break_zone(zone)
    world.names.publish()
    try:
        wait_for(lambda: 400 <= probe().code < 500, "the zone still answers")
        yield
    finally:
        world.names.mend_zone(zone)
        world.names.publish()


def until_taken(attempt: Callable[[], Reply]) -> Reply:
    """Try until it is not deferred: resolvers remember a failure for some seconds."""

    def taken() -> Reply | None:
        reply = attempt()
        return None if 400 <= reply.code < 500 else reply

    return wait_for(taken, "still deferred", seconds=60)


def actions(target: Site, content: bytes) -> list[str]:
    """What was done with a message, each time that it was sent."""
    wanted = parse(content)["Message-ID"]
    return [one["action"] for one in verdicts(target) if one["message_id"] == wanted]


@pytest.mark.parametrize("way", FORWARDED)
def test_own_mail_waits_for_its_key(
    way: str, forwarder: Machine, outsider: Machine, bravo: Site, lima: Site, world: Internet
) -> None:
    """While our own key cannot be looked up, our own mail is neither dropped nor refused: 451, and delivered later."""
    about, sender = subject(way), FORWARDED[way].format("lima.example")
    probe, content = own_mail(lima, bravo, subject("probe")), own_mail(lima, bravo, about)
    with silence(world, KEYS, lambda: forward(forwarder, lima, sender, probe)):
        reply = forward(forwarder, lima, sender, content)
        assert (reply.code, reply.text.split()[0]) == (451, "4.4.3")
        assert actions(lima, content) == ["defer"]
        assert count(lima, LIMA, about) == 0
    assert until_taken(lambda: forward(forwarder, lima, sender, content)).code == 250
    assert [one.result for one in dkim_results(delivered(lima, LIMA, about), lima)] == ["pass"]
    assert count(lima, LIMA, about) == 1
    all_verdicts(lima, LIMA, outsider)
    *deferred, last = actions(lima, content)
    assert set(deferred) == {"defer"}
    assert last == "accept"


FAULTS = {
    "the key": (
        KEYS,
        Letter(FOREIGN, "ceo@lima.example", "outsider", signer="lima.example", selector="default"),
        "quarantine",
    ),
    "the service's SPF record": (SERVICE, Letter("news@lima.example", "news@lima.example", "outsider"), "discard"),
    "the DMARC record": (DMARC, Letter(FOREIGN, "ceo@lima.example", "outsider"), "quarantine"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_dns_is_no_verdict(
    fault: str, outsider: Machine, lima: Site, world: Internet, service_key: bytes
) -> None:
    """What our own DNS could still authorise waits, with 451 4.4.3; when it answers, the forgery is no mail of ours."""
    zone, letter, then = FAULTS[fault]

    def attempt(content: bytes) -> Reply:
        return send(outsider, address_of(lima), letter.sender, LIMA, content)

    probe, content = (letter.content(LIMA, subject(one), service_key) for one in ("probe", fault))
    with silence(world, zone, lambda: attempt(probe)):
        reply = attempt(content)
        assert (reply.code, reply.text.split()[0]) == (451, "4.4.3")
        assert actions(lima, content) == ["defer"]
    assert until_taken(lambda: attempt(content)).code == 250
    assert actions(lima, content)[-1] == then
    if then == "discard":
        assert_absent(content, lima, LIMA, outsider)


def test_the_service_waits_for_its_record(newsletter: Machine, lima: Site, world: Internet) -> None:
    """An authorised service whose SPF record cannot be looked up is deferred, and delivered once later."""
    about, sender = subject("the service waits"), "news@lima.example"

    def attempt(content: bytes) -> Reply:
        return send(newsletter, address_of(lima), sender, LIMA, content, helo="newsletter.example")

    probe, content = message(sender, LIMA, subject("probe")), message(sender, LIMA, about)
    with silence(world, SERVICE, lambda: attempt(probe)):
        assert attempt(content).code == 451
    assert until_taken(lambda: attempt(content)).code == 250
    delivered(lima, LIMA, about)
    assert count(lima, LIMA, about) == 1


@pytest.fixture
def refusing(lima: Site) -> Iterator[Site]:
    """Lima with MAILSTACK_LOCAL_SENDER_ACTION=reject."""
    original = dict(lima.environment)
    lima.build({**original, "MAILSTACK_LOCAL_SENDER_ACTION": "reject"})
    lima.up()
    yield lima
    lima.build(original)
    lima.up()


def test_refused(
    refusing: Site, bravo: Site, forwarder: Machine, service_key: bytes, request: pytest.FixtureRequest
) -> None:
    """With the action "reject" a forgery that nothing passes for is refused after DATA, with one line; our own mail is not."""
    for kind, letter in [(kind, one.of("lima.example")) for kind, one in FORGERIES.items()]:
        client = request.getfixturevalue(letter.client)
        content = letter.content(LIMA, subject("put aside" if kind in VOUCHED_FOR else "refused"), service_key)
        reply = send(client, address_of(refusing), letter.sender, LIMA, content, helo=letter.helo)
        if kind in VOUCHED_FOR:
            assert (kind, reply.code) == (kind, 250)
            continue
        assert (reply.code, reply.text.split()[0]) == (550, "5.7.1")
        reason = assert_judged("reject", content, refusing, client.address, letter.sender)
        assert reply.text == f"5.7.1 {reason}"
    about = subject("not refused")
    content = own_mail(refusing, bravo, about)
    assert forward(forwarder, refusing, LIMA, content).code == 250
    delivered(refusing, LIMA, about)
    assert not [one for one in refusing.mail(LIMA) if parse(one)["Subject"].startswith("refused")]


DELTA = "user@delta.unsigned.example"


@pytest.mark.parametrize("sender", ["user@{}", "USER@{}", "anything@sub.{}", '"odd one"@{}', "root@mail.{}"])
def test_the_tutorials_table(sender: str, outsider: Machine, delta: Site) -> None:
    """With "envelope" a local envelope sender is refused at RCPT, before SPF; nothing else is asked."""
    services = ("policyd-spf", "opendkim", "dmarc")
    one_more(delta, DELTA, outsider)
    before = [delta.log(one) for one in services]
    with Client(outsider, address_of(delta)) as client:
        client.ehlo()
        assert client.docmd(f"MAIL FROM:<{sender.format('delta.unsigned.example')}>")[0] == 250
        code, text = client.rcpt(DELTA)
    assert (code, text.split()[0]) == (550, b"5.7.1")
    assert b"MAIL FROM uses our domain, but the client is not in our networks" in text
    later = one_more(delta, DELTA, outsider)
    assert [[line for line in delta.log(one) if later not in line] for one in services] == before


def test_the_tutorials_table_looks_at_nothing_else(
    outsider: Machine, forwarder: Machine, delta: Site, bravo: Site
) -> None:
    """With "envelope" our own mail is hit as well, unless the forwarder rewrites the envelope; From is not looked at."""
    about = subject("own mail")
    content = own_mail(delta, bravo, about)
    reply = forward(forwarder, delta, DELTA, content)
    assert (reply.code, reply.text.split()[0]) == (550, "5.7.1")
    assert forward(forwarder, delta, "srs0+abc=user@forwarder.example", content).code == 250
    assert dmarc_result(delivered(delta, DELTA, about), delta).result == "pass"
    about = subject("From")
    content = message(DELTA, DELTA, about)
    assert send(outsider, address_of(delta), FOREIGN, DELTA, content).code == 250
    assert dmarc_result(delivered(delta, DELTA, about), delta).result == "fail"


def test_off(outsider: Machine, echo: Site, mailbox_server: MailboxServer) -> None:
    """With "off" a forgery is delivered, unsigned and with what was found; a gateway hands it on by LMTP."""
    for sender, spf in (("user@echo.example", "softfail"), (FOREIGN, "pass")):
        about = subject("local sender delivered")
        content = message("user@echo.example", "user@echo.example", about)
        assert send(outsider, address_of(echo), sender, "user@echo.example", content).code == 250
        arrived = mailbox_server.wait_for(about)
        assert parse(arrived)["DKIM-Signature"] is None
        assert spf_result(arrived, echo).result == spf
        assert [one.result for one in dkim_results(arrived, echo)] == ["none"]
        assert dmarc_result(arrived, echo).result == "fail"
        assert_judged("accept", content, echo, outsider.address, sender)


def test_trusted_clients_are_not_judged(insider: Machine, outsider: Machine, bravo: Site) -> None:
    """A trusted client sends with a local address to a local mailbox: delivered, signed, without a verdict."""
    about, before = subject("trusted"), all_verdicts(bravo, "user@bravo.example", outsider)
    content = message("user@bravo.example", "user@bravo.example", about)
    assert send(insider, address_of(bravo), "user@bravo.example", "user@bravo.example", content).code == 250
    arrived = parse(delivered(bravo, "user@bravo.example", about))
    for name in ("Received-SPF", "Authentication-Results"):
        assert arrived[name] is None
    assert arrived["DKIM-Signature"] is not None
    *since, _ = all_verdicts(bravo, "user@bravo.example", outsider)
    assert since == before
