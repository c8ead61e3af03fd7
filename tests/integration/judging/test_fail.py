"""What is not right is seen: SPF and DKIM failures of every kind, asserted on the reply and in the headers."""

import base64
import itertools
import subprocess
import time
from dataclasses import dataclass

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from integration.conftest import OUTSIDER
from integration.mailbox_server import MailboxServer
from mailstack.services import SERVICE_NAMES
from mailstack.world.containers import Machine, wait_for
from mailstack.world.internet import Internet
from mailstack.world.site import Site, parse
from support import (
    Client,
    address_of,
    count,
    delivered,
    dkim_by_hand,
    dkim_results,
    dkim_sign,
    dmarc_result,
    independent_dkim,
    independent_spf,
    internal_id,
    key_record,
    message,
    own_results,
    properties,
    public_key,
    published_key,
    received_spf,
    results,
    rsa_key,
    send,
    spf_result,
    subject,
    verdict,
)


@dataclass(frozen=True)
class SpfCase:
    """A sender domain, the result for an unlisted client, and charlie's reply (it refuses early)."""

    domain: str
    result: str
    early: tuple[int, str]


SPF = [
    SpfCase("listed.example", "pass", (250, "2.0.0")),
    SpfCase("softfail.example", "softfail", (550, "5.7.23")),
    SpfCase("fail.example", "fail", (550, "5.7.23")),
    SpfCase("neutral.example", "neutral", (250, "2.0.0")),
    SpfCase("none.example", "none", (250, "2.0.0")),
    SpfCase("permerror.example", "permerror", (550, "5.7.24")),
    SpfCase("void.example", "permerror", (550, "5.7.24")),
]


@pytest.mark.parametrize("case", SPF, ids=lambda case: case.domain)
def test_spf_is_recorded(case: SpfCase, world: Internet, outsider: Machine, delta: Site) -> None:
    """With spf_fail=tag every result is delivered with its name, in both fields, and pyspf agrees."""
    about, sender, mailbox = subject(case.result), f"someone@{case.domain}", "user@delta.unsigned.example"
    assert send(outsider, address_of(delta), sender, mailbox, message(sender, mailbox, about)).code == 250
    arrived = delivered(delta, mailbox, about)
    word, _, rest = received_spf(arrived).partition(" ")
    assert word.lower() == case.result
    assert f"client-ip={outsider.address}; helo=outsider.example;" in rest
    found = spf_result(arrived, delta)
    assert found.result == case.result
    assert properties(found) == {"smtp.mailfrom": case.domain}
    assert independent_spf(str(outsider.address), sender, "outsider.example", world.names) == case.result


@pytest.mark.parametrize("case", SPF, ids=lambda case: case.domain)
def test_spf_fail_is_refused_after_data(case: SpfCase, outsider: Machine, bravo: Site) -> None:
    """By default fail is refused, at the end of data, with client and domain in the reply; the rest is delivered."""
    about, sender, mailbox = subject(case.result), f"someone@{case.domain}", "user@bravo.example"
    content = message(sender, mailbox, about)
    with Client(outsider, address_of(bravo)) as client:
        client.ehlo()
        assert client.mail(sender)[0] == 250
        assert client.rcpt(mailbox)[0] == 250
        code, text = client.data(content)
    found = verdict(bravo, content)
    if case.result != "fail":
        assert (code, found["action"]) == (250, "accept")
        assert spf_result(delivered(bravo, mailbox, about), bravo).result == case.result
        return
    assert (code, text.split()[0], found["action"]) == (550, b"5.7.23", "reject")
    assert str(outsider.address) in text.decode()
    assert case.domain in text.decode()
    assert count(bravo, mailbox, about) == 0


def test_an_aligned_signature_outweighs_spf(world: Internet, outsider: Machine, bravo: Site) -> None:
    """What fails SPF only because it was forwarded is delivered by its author's signature, and by nobody else's."""
    key = published_key(world.names, "forwarded", "fail.example", "signer.example")
    sender, mailbox = "someone@fail.example", "user@bravo.example"
    for signer, code in (("fail.example", 250), ("signer.example", 550)):
        about = subject("forwarded")
        content = dkim_sign(message(sender, mailbox, about), signer, "forwarded", key)
        assert send(outsider, address_of(bravo), sender, mailbox, content).code == code
        assert verdict(bravo, content)["auth_results"]["dkim"][0]["result"] == "pass"
    assert count(bravo, mailbox, about) == 0


@pytest.mark.parametrize("case", SPF, ids=lambda case: case.domain)
def test_reject_early(case: SpfCase, outsider: Machine, charlie: Site) -> None:
    """With reject-early, fail, softfail and permerror are refused at RCPT; the rest is delivered."""
    about, sender = subject(case.result), f"someone@{case.domain}"
    content = message(sender, "user@charlie.example", about)
    reply = send(outsider, address_of(charlie), sender, "user@charlie.example", content)
    assert (reply.code, reply.text.split()[0]) == case.early
    if reply.code == 250:
        assert received_spf(delivered(charlie, "user@charlie.example", about)).lower().startswith(case.result)
    elif case.early[1] == "5.7.23":
        assert str(outsider.address) in reply.text
        assert case.domain in reply.text


@pytest.mark.parametrize(("helo", "expected"), [("fail.example", "fail"), ("outsider.example", "none")])
def test_null_sender_is_judged_by_helo(
    helo: str, expected: str, world: Internet, outsider: Machine, delta: Site
) -> None:
    """A bounce has no sender: SPF looks at HELO, a name that publishes nothing among them."""
    about, mailbox = subject("null sender"), "user@delta.unsigned.example"
    content = message("MAILER-DAEMON@listed.example", mailbox, about)
    assert send(outsider, address_of(delta), "", mailbox, content, helo=helo).code == 250
    arrived = delivered(delta, mailbox, about)
    assert independent_spf(str(outsider.address), "", helo, world.names) == expected
    assert received_spf(arrived).lower().startswith(f"{expected} (helo) identity=helo;")
    found = spf_result(arrived, delta)
    assert found.result == expected
    assert properties(found) == {"smtp.helo": helo}


STATE = """
import sys
import dns.resolver
try:
    dns.resolver.resolve(sys.argv[1], "TXT")
except dns.resolver.NoNameservers:
    print("no answer")
"""
NUMBERS = itertools.count(1)


def silent_domain(world: Internet, site: Site) -> tuple[str, str]:
    """A domain for which nobody answers, and one whose SPF record includes it.

    Both are new at each call: the services, too, remember for a second what a test before has published.
    """
    number = next(NUMBERS)
    silent, including = f"silent{number}.example", f"includes-silent{number}.example"
    world.names.delegate_unsigned(silent)
    world.names.break_zone(silent)
    world.names.set(including, "A", str(OUTSIDER))
    world.names.set(including, "TXT", f'"v=spf1 include:{silent} -all"')
    world.names.publish()
    wait_for(lambda: site.run("dmarc", "python3", "-c", STATE, silent) == b"no answer\n", f"{silent} is not silent")
    return silent, including


@pytest.mark.parametrize("at", [0, 1], ids=["the sender's domain", "in its SPF record"])
def test_dns_without_an_answer(at: int, world: Internet, insider: Machine, alpha: Site, bravo: Site) -> None:
    """DNS gives no answer: bravo defers, and when it answers again the message is delivered once."""
    domains = silent_domain(world, bravo)
    silent, sender = domains[0], f"someone@{domains[at]}"
    about = subject("temperror")
    # Of a domain that alpha does not sign for: a signature would decide.
    content = message(sender, "user@bravo.example", about)
    assert send(insider, address_of(alpha), sender, "user@bravo.example", content, port=587).code == 250
    wait_for(
        lambda: [one for one in alpha.log("postfix") if f"from=<{sender}>" in one],
        "alpha did not take the message",
    )
    (queue_id,) = {one.split(": ")[1] for one in alpha.log("postfix") if f"from=<{sender}>" in one and "qmgr" in one}
    wait_for(
        lambda: [one for one in alpha.log("postfix") if queue_id in one and "status=deferred" in one and " 45" in one],
        "bravo did not defer",
        # Twice as long as DNS may take for a message.
        seconds=80,
    )
    assert count(bravo, "user@bravo.example", about) == 0

    world.names.mend_zone(silent)
    world.names.set(silent, "TXT", f'"v=spf1 ip4:{address_of(alpha)} -all"')
    world.names.set(silent, "A", str(insider.address))
    world.names.publish()

    def gone() -> bool:
        # Resolvers remember a failure for some seconds, so one try may come too early.
        alpha.run("postfix", "postqueue", "-f")
        return any(queue_id in one and one.endswith(": removed") for one in alpha.log("postfix"))

    wait_for(gone, "the message did not leave alpha's queue", seconds=60)
    arrived = delivered(bravo, "user@bravo.example", about)
    assert received_spf(arrived).startswith("Pass ")
    assert count(bravo, "user@bravo.example", about) == 1


def test_a_signature_decides_where_spf_gets_no_answer(world: Internet, outsider: Machine, bravo: Site) -> None:
    """DNS does not answer for the envelope sender: what its author's own signature shows to be genuine is delivered."""
    silent, _ = silent_domain(world, bravo)
    key = published_key(world.names, "decides", "signer.example")
    about = subject("signed, SPF temperror")
    content = message("someone@signer.example", "user@bravo.example", about)
    signed = dkim_sign(content, "signer.example", "decides", key)
    assert send(outsider, address_of(bravo), f"someone@{silent}", "user@bravo.example", signed).code == 250
    arrived = delivered(bravo, "user@bravo.example", about)
    assert spf_result(arrived, bravo).result == "temperror"
    assert [one.result for one in dkim_results(arrived, bravo)] == ["pass"]


def test_temperror_can_be_tagged(world: Internet, outsider: Machine, delta: Site) -> None:
    """With spf_temperror=tag the message is delivered, with the result in its header."""
    _, including = silent_domain(world, delta)
    about, sender = subject("temperror tagged"), f"someone@{including}"
    content = message(sender, "user@delta.unsigned.example", about)
    assert send(outsider, address_of(delta), sender, "user@delta.unsigned.example", content).code == 250
    value = received_spf(delivered(delta, "user@delta.unsigned.example", about))
    assert value.startswith("Temperror (mailfrom)")


@pytest.mark.parametrize(
    ("domain", "before", "after"),
    [
        ("missing.example", None, ("A", str(OUTSIDER))),
        ("addressless.example", ("TXT", '"v=spf1 ?all"'), ("MX", "10 outsider.example.")),
    ],
)
def test_unknown_sender_domain(
    domain: str,
    before: tuple[str, str] | None,
    after: tuple[str, str],
    world: Internet,
    outsider: Machine,
    bravo: Site,
) -> None:
    """Mail from a domain that does not exist, or has no address, waits at the sender, and is taken when it has one."""
    if before:
        world.names.set(domain, *before)
        world.names.publish()
    about, sender = subject(f"from {domain}"), f"x@{domain}"
    content = message(sender, "user@bravo.example", about)

    def reply() -> str:
        found = send(outsider, address_of(bravo), sender, "user@bravo.example", content)
        return f"{found.code} {found.text}"

    assert reply().startswith("450 4.1.8 ")
    world.names.set(domain, *after)
    world.names.publish()
    wait_for(lambda: reply().startswith("250 "), f"mail from {domain} is not taken")
    delivered(bravo, "user@bravo.example", about)
    world.names.set(domain, after[0])
    world.names.publish()


def test_sender_domain_that_takes_no_mail(world: Internet, outsider: Machine, bravo: Site) -> None:
    """A null MX (RFC 7505) is no accident: nobody could answer such a sender, and the mail is refused for good."""
    world.names.set("nullmx.example", "A", str(outsider.address))
    world.names.set("nullmx.example", "MX", "0 .")
    world.names.publish()
    content = message("x@nullmx.example", "user@bravo.example", subject("null MX"))
    reply = send(outsider, address_of(bravo), "x@nullmx.example", "user@bravo.example", content)
    assert (reply.code, reply.text.split()[0]) == (550, "5.7.27")


def test_unknown_helo(outsider: Machine, bravo: Site) -> None:
    """A name in HELO that does not exist is no reason to refuse: many hosts say one that only they know."""
    about, sender = subject("unknown HELO"), "someone@listed.example"
    content = message(sender, "user@bravo.example", about)
    reply = send(outsider, address_of(bravo), sender, "user@bravo.example", content, helo="missing.example")
    assert reply.code == 250
    delivered(bravo, "user@bravo.example", about)


@pytest.mark.parametrize("relay", ["backup_mx", "forwarder"])
def test_relays_are_not_judged(relay: str, outsider: Machine, charlie: Site, request: pytest.FixtureRequest) -> None:
    """A relay, listed by network or by domain, is not judged by SPF, and may not relay for that."""
    machine = request.getfixturevalue(relay)
    about, sender = subject(f"by the {relay}"), "someone@fail.example"
    content = message(sender, "user@charlie.example", about)
    assert send(outsider, address_of(charlie), sender, "user@charlie.example", content).code == 550
    assert send(machine, address_of(charlie), sender, "user@charlie.example", content).code == 250
    arrived = parse(delivered(charlie, "user@charlie.example", about))
    assert arrived["Received-SPF"] is None
    assert (
        arrived["X-SPF-Skipped"] == f"charlie.example does not check SPF of mail from the forwarder {machine.address}"
    )
    reply = send(machine, address_of(charlie), sender, "user@bravo.example", content)
    assert (reply.code, reply.text.split()[0]) == (554, "5.7.1")


def test_reply_says_what_is_broken(outsider: Machine, charlie: Site) -> None:
    """A refusal for permerror tells the sender's postmaster which part of the record is wrong."""
    sender = "someone@permerror.example"
    content = message(sender, "user@charlie.example", subject("broken record"))
    reply = send(outsider, address_of(charlie), sender, "user@charlie.example", content)
    assert reply.text.endswith(
        "SPF permerror for MAIL FROM permerror.example: invalid record: Unknown mechanism found: nonsense:term"
    )


def test_spf_is_logged(outsider: Machine, bravo: Site) -> None:
    """One line for a decision, under the queue id that Postfix logs for the message."""
    about, sender = subject("logged"), "logged@softfail.example"
    content = message(sender, "user@bravo.example", about)
    assert send(outsider, address_of(bravo), sender, "user@bravo.example", content).code == 250
    (line,) = wait_for(
        lambda: {one for one in bravo.log("postfix") if f"from=<{sender}>" in one and "qmgr" in one},
        "the message is not logged",
    )
    queue_id = line.split(": ")[1]
    (decision,) = wait_for(
        lambda: [one for one in bravo.log("policyd-spf") if f" {queue_id}: " in one], "the decision is not logged"
    )
    assert decision.endswith(
        f"client={outsider.address} identity=mailfrom domain='softfail.example' result=softfail action=PREPEND"
    )


def test_one_received_spf_for_many_recipients(outsider: Machine, bravo: Site) -> None:
    """However many recipients, a message carries exactly one of our Received-SPF."""
    about, sender = subject("many"), "someone@listed.example"
    with Client(outsider, address_of(bravo)) as client:
        client.sendmail(
            sender,
            ["user@bravo.example", "sales@bravo.example", "postmaster@bravo.example"],
            message(sender, "user@bravo.example", about),
        )
    assert received_spf(delivered(bravo, "user@bravo.example", about)).startswith("Pass ")


def test_unsigned(outsider: Machine, bravo: Site) -> None:
    """Unsigned mail says so: dkim=none."""
    about, sender = subject("unsigned"), "someone@listed.example"
    send(outsider, address_of(bravo), sender, "user@bravo.example", message(sender, "user@bravo.example", about))
    assert [one.result for one in dkim_results(delivered(bravo, "user@bravo.example", about), bravo)] == ["none"]


HOUR, PUBLISHED = 3600, "v=DKIM1; k=rsa; p="
# What may be wrong with a signature that its key has made: the tags, the key's record, whether it passes.
ODD = {
    "nothing": ({}, PUBLISHED, True),
    "a clock that is a minute fast": ({"t": 60}, PUBLISHED, True),
    "expired for two hours": ({"t": -3 * HOUR, "x": -2 * HOUR}, PUBLISHED, False),
    "from in two hours": ({"t": 2 * HOUR}, PUBLISHED, False),
    "a key of Ed25519": ({}, "v=DKIM1; k=ed25519; p=" + base64.b64encode(b"k" * 32).decode(), False),
    "a key for rsa-sha1 alone": ({}, "v=DKIM1; h=sha1; k=rsa; p=", False),
    "a key that is not for mail": ({}, "v=DKIM1; s=tlsrpt; k=rsa; p=", False),
}


@pytest.mark.parametrize("kind", ODD)
def test_a_signature_that_no_verifier_may_take(kind: str, world: Internet, outsider: Machine, bravo: Site) -> None:
    """OpenDKIM, whose pass is believed, says what dmarc would say where it verifies itself."""
    (tags, record, passes), selector = ODD[kind], f"odd-{list(ODD).index(kind)}"
    key = rsa_key()
    value = record + public_key(key) if record.endswith("p=") else record
    world.names.set(f"{selector}._domainkey.signer.example", "TXT", f'"{value[:200]}" "{value[200:]}"')
    world.names.publish()
    about, now = subject(kind), int(time.time())
    content = message("someone@signer.example", "user@bravo.example", about)
    times = {name: now + seconds for name, seconds in tags.items()}
    signed = dkim_by_hand(content, key, d="signer.example", s=selector, **times)
    assert send(outsider, address_of(bravo), "someone@listed.example", "user@bravo.example", signed).code == 250
    (result,) = dkim_results(delivered(bravo, "user@bravo.example", about), bravo)
    assert (result.result == "pass") is passes


@pytest.mark.parametrize("kind", ["good", "body changed", "wrong key", "no key", "512 bits", "revoked"])
def test_foreign_signature(kind: str, world: Internet, outsider: Machine, bravo: Site) -> None:
    """A signature passes only if nothing is wrong with it, and dkimpy agrees wherever it has an opinion."""
    selector = kind.replace(" ", "-")
    key = rsa_key(512 if kind == "512 bits" else 2048)
    published = key_record("" if kind == "revoked" else public_key(rsa_key() if kind == "wrong key" else key))
    if kind != "no key":
        world.names.set(f"{selector}._domainkey.signer.example", "TXT", published)
        world.names.publish()
    about = subject(kind)
    content = message("someone@signer.example", "user@bravo.example", about)
    signed = dkim_sign(content, "signer.example", selector, key)
    if kind == "body changed":
        signed = signed.replace(b"A body.", b"Another body.")
    reply = send(outsider, address_of(bravo), "someone@listed.example", "user@bravo.example", signed)
    assert reply.code == 250
    arrived = delivered(bravo, "user@bravo.example", about)
    (result,) = dkim_results(arrived, bravo)
    if kind == "good":
        assert (result.result, result.header_d, result.header_s) == ("pass", "signer.example", "good")
    else:
        assert (
            result.result
            in {
                "body changed": {"fail"},
                "wrong key": {"fail"},
                "no key": {"permerror", "neutral", "fail"},
                "512 bits": {"policy", "neutral", "fail", "permerror"},
                "revoked": {"permerror", "neutral", "fail"},
            }[kind]
        )
    assert independent_dkim(arrived, world.names) == (kind == "good")


def assert_verified_not_signed(author: str, machine: Machine, echo: Site, mailbox_server: MailboxServer) -> bytes:
    """Mail from outside with an author of ours, where it is let in, gets no signature; as it was delivered."""
    about, sender = subject("forged author"), "x@softfail.example"
    content = message(author, "user@echo.example", about)
    assert send(machine, address_of(echo), sender, "user@echo.example", content).code == 250
    arrived = mailbox_server.wait_for(about)
    assert parse(arrived)["DKIM-Signature"] is None
    assert [one.result for one in dkim_results(arrived, echo)] == ["none"]
    assert dmarc_result(arrived, echo).result == "fail"
    return arrived


def test_our_signature_is_not_for_outsiders(outsider: Machine, echo: Site, mailbox_server: MailboxServer) -> None:
    """Mail from outside with a local author is verified, never signed."""
    assert_verified_not_signed("user@echo.example", outsider, echo, mailbox_server)


FORGED = [
    "Authentication-Results: mail.bravo.example; dkim=pass header.d=bravo.example; dmarc=pass",
    "authentication-RESULTS:mail.bravo.example;dkim=pass header.d=bravo.example",
    "Authentication-Results: MAIL.bravo.example 1; dkim=pass header.d=bravo.example",
    'Authentication-Results: (a) "mail.bravo.example"; spf=pass',
    'Authentication-Results: "mail\\\\.bravo.example"; dkim=pass header.d=bravo.example',
    "Authentication-Results:\r\n mail.bravo.example\r\n ; dkim=pass header.d=example.net(.bravo.example",
]


def test_forged_results_are_removed(outsider: Machine, bravo: Site) -> None:
    """Results under our name that come with a message go; results of others stay; ours is there once."""
    about, sender = subject("forged results"), "someone@listed.example"
    other = "Authentication-Results: mx.none.example; dkim=fail header.d=none.example"
    content = message(sender, "user@bravo.example", about, extra=[*FORGED, other])
    send(outsider, address_of(bravo), sender, "user@bravo.example", content)
    arrived = delivered(bravo, "user@bravo.example", about)
    assert [one.result for one in dkim_results(arrived, bravo)] == ["none"]
    assert len(results(arrived, "mx.none.example")) == 1
    assert [(one.method, one.result) for one in own_results(arrived, bravo)] == [
        ("spf", "pass"),
        ("dkim", "none"),
        ("dmarc", "none"),
    ]
    assert len(parse(arrived).get_all("Authentication-Results")) == 2


INJECTIONS = [
    '"a); dkim=pass header.d=bank.example ("@listed.example',
    '"a; identity=mailfrom; x"@listed.example',
    "a+1-b.c=d@listed.example",
    "o'brien@listed.example",
]


@pytest.mark.parametrize("sender", INJECTIONS)
def test_sender_cannot_write_our_headers(sender: str, outsider: Machine, bravo: Site) -> None:
    """An envelope sender stands in Received-SPF as one quoted value, and nowhere as a result."""
    about = subject("injection")
    content = message("someone@listed.example", "user@bravo.example", about)
    assert send(outsider, address_of(bravo), sender, "user@bravo.example", content).code == 250
    arrived = delivered(bravo, "user@bravo.example", about)
    value = received_spf(arrived)
    assert value.startswith("Pass (mailfrom) identity=mailfrom;")
    assert properties(spf_result(arrived, bravo)) == {"smtp.mailfrom": "listed.example"}
    # Postfix hands on the address without the quotes of its local part (RFC 5321 section 4.1.2).
    assert f'envelope-from="{sender.replace(chr(34), "")}"; receiver=mail.bravo.example' in value
    assert [one.result for one in dkim_results(arrived, bravo)] == ["none"]


def test_a_long_header_is_no_reason_to_wait(outsider: Machine, bravo: Site) -> None:
    """100 kB of header are delivered; a header over a megabyte is refused for good."""
    about, sender = subject("long header"), "someone@listed.example"
    content = message(sender, "user@bravo.example", about, extra=[f"X-Line-{at}: {'x' * 900}" for at in range(110)])
    assert send(outsider, address_of(bravo), sender, "user@bravo.example", content).code == 250
    delivered(bravo, "user@bravo.example", about)
    content = message(sender, "user@bravo.example", about, extra=[f"X-Line-{at}: {'x' * 900}" for at in range(1300)])
    assert 500 <= send(outsider, address_of(bravo), sender, "user@bravo.example", content).code < 600


def test_a_client_cannot_edit_the_log(outsider: Machine, bravo: Site) -> None:
    """What a client says never makes a line about it vanish from the log, though the health check's lines do."""
    sender, helo = "editor@bravo.example", "postfix/health/smtpd[1]:connect"
    content = message("x@listed.example", "user@bravo.example", subject("log"))
    assert send(outsider, address_of(bravo), sender, "user@bravo.example", content, helo=helo).code == 250
    lines = wait_for(lambda: [one for one in bravo.log("postfix") if f"from=<{sender}>" in one], "no line in the log")
    assert "postfix/health/smtpd[1]" in lines[0]


def test_unicode_envelope_is_refused(outsider: Machine, bravo: Site) -> None:
    """SMTPUTF8 is not announced: a U-label would be a second spelling of a domain that no table holds."""
    with Client(outsider, address_of(bravo)) as client:
        client.ehlo()
        assert "smtputf8" not in client.esmtp_features


def test_secrets_never_leave(alpha: Site) -> None:
    """No log, no container's configuration and no environment holds a key or the secret authserv-id."""
    pem = (alpha.directory / alpha.stack.keys.signers[0].path).read_bytes()
    key = serialization.load_pem_private_key(pem, password=None)
    assert isinstance(key, rsa.RSAPrivateKey)
    # A line from the middle: the first ones hold the public modulus.
    lines = pem.decode().splitlines()
    ids = list(alpha.containers().values())
    shown = subprocess.run(["docker", "inspect", *ids], check=True, capture_output=True, text=True).stdout
    shown += "\n".join(alpha.log())
    for service in SERVICE_NAMES:
        shown += alpha.run(service, "env").decode()
    for secret in (lines[len(lines) // 2], "PRIVATE KEY", internal_id(alpha).decode()):
        assert secret not in shown
    assert "mailstack.files" in shown
