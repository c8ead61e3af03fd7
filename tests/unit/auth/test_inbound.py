"""mailstack_auth.dmarc.inbound and report: mail from outside, from Postfix's first octet to what is on record."""

import asyncio
import ipaddress
import json
import time
from dataclasses import replace

import pytest

from mailstack.trace import judges
from mailstack_auth.header import authres
from mailstack_auth.header.fields import Field
from mailstack_auth.milter.message import MAX_FIELD_OCTETS
from mailstack_auth.runtime.deferrals import Deferrals
from unit.auth.postfix import (
    AUTHORISED,
    FROM_A,
    HELO_OF_A,
    HOSTILE,
    KNOWN,
    MARK,
    NO_ANSWER,
    NOT_SHOWN,
    OUR_ID,
    POLICY,
    SIGNATURE,
    SIGNED,
    SITE,
    STRANGER,
    TOO_MANY,
    Sent,
    from_,
    plain,
    running,
    said,
    seen,
)
from unit.auth.test_log import full_disk
from unit.auth.test_milter import NEGOTIATED

# The message, and its results or the reply.
CASES = {
    "SPF alone": (plain("a.example", **FROM_A), ["spf=pass", "dkim=none", "dmarc=pass"]),
    "DKIM alone": (Sent(KNOWN), ["spf=none", "dkim=pass", "dmarc=pass"]),
    "both": (Sent(KNOWN, **FROM_A), ["spf=pass", "dkim=pass", "dmarc=pass"]),
    "DKIM, though SPF fails": (Sent(KNOWN, sender=b"jo@a.example"), ["spf=fail", "dkim=pass", "dmarc=pass"]),
    "nothing": (plain("a.example"), NOT_SHOWN),
    "SPF of another domain": (
        plain("a.example", client=AUTHORISED, sender=b"jo@ours.example.evil.example"),
        NOT_SHOWN,
    ),
    "a pass of HELO is none of MAIL FROM": (plain("a.example", client=AUTHORISED, helo=b"a.example"), NOT_SHOWN),
    "HELO for the null sender": (
        plain("a.example", client=AUTHORISED, helo=b"a.example", sender=b""),
        ["spf=pass", "dkim=none", "dmarc=pass"],
    ),
    "a pass that OpenDKIM has not found": (Sent(SIGNED, body=b"another\r\n"), NOT_SHOWN),
    "a fail of OpenDKIM": (Sent((said(SIGNATURE, "fail"), *SIGNED), body=b"another\r\n"), NOT_SHOWN),
    "a result under our public id": (Sent((said(SIGNATURE, identity=OUR_ID), *SIGNED), body=b"x\r\n"), NOT_SHOWN),
    "quarantine": (plain("quarantine.example"), ["spf=none", "dkim=none", "dmarc=fail"]),
    "p=none": (plain("none.example"), ["spf=none", "dkim=none", "dmarc=fail"]),
    "no record": (plain("bare.example"), ["spf=none", "dkim=none", "dmarc=none"]),
    "a broken record": (plain("broken.example"), ["spf=none", "dkim=none", "dmarc=permerror"]),
    "absurdly many records": (plain("many.example"), ["spf=none", "dkim=none", "dmarc=none"]),
    "no answer about what both domains belong to": (
        plain("news.walk.example", client=AUTHORISED, sender=b"jo@mail.walk.example"),
        NO_ANSWER.format("the organizational domain of news.walk.example"),
    ),
    "no answer about the record": (plain("failing.example"), NO_ANSWER.format("the DMARC record of failing.example")),
    "no answer about SPF": (
        plain("spf-failing.example", sender=b"jo@spf-failing.example"),
        NO_ANSWER.format("the SPF record of spf-failing.example"),
    ),
    "SPF fail, and no policy": (
        plain("bare.example", sender=b"jo@spf-fails.example"),
        f"550 5.7.23 SPF fail: {STRANGER} is not authorized to send for MAIL FROM spf-fails.example",
    ),
    "no author": (Sent((Field(b"Subject", b" one"),)), "550 5.7.1 the message has no From field"),
    "two authors": (
        plain("a.example", from_("bare.example"), **FROM_A),
        "550 5.7.1 the message has more than one From field",
    ),
    "a header too long": (
        plain("a.example", *[Field(b"X", b"x" * 50_000)] * TOO_MANY),
        "552 5.3.4 header is too long (limit: 2097152 octets; each field counts 450 extra)",
    ),
    "the longest field": (
        plain("a.example", Field(b"References", b"x" * (MAX_FIELD_OCTETS - len(b"References:"))), **FROM_A),
        ["spf=pass", "dkim=none", "dmarc=pass"],
    ),
    "a field too long": (
        plain("a.example", Field(b"References", b"x" * MAX_FIELD_OCTETS), **FROM_A),
        "552 5.3.4 header field References is too long (limit: 53999 octets)",
    ),
    "ours, by our SPF": (
        plain("ours.example", client=AUTHORISED, sender=b"jo@ours.example"),
        ["spf=pass", "dkim=none", "dmarc=pass"],
    ),
}


@pytest.mark.parametrize(("sent", "expected"), CASES.values(), ids=CASES.keys())
def test_outside(sent, expected, tmp_path):
    """What becomes of mail from outside, all the way: SPF by policyd-spf, records by DNS, the answer in milter packets."""
    found = seen(tmp_path, sent)
    assert (found.reply if isinstance(expected, str) else found.results()) == expected


def test_what_a_reader_gets(tmp_path):
    """One field on top, valid by RFC 8601, with what an aligned pass rests upon; the internal one is gone."""
    found = seen(tmp_path, Sent(KNOWN, sender=b"jo@a.example"))
    (ours,) = found.parsed()
    assert found.fields[0].name == b"Authentication-Results"
    assert found.fields[1:] == list(SIGNED)
    spf, dkim, dmarc = ours.results
    assert (spf.smtp_mailfrom, dkim.header_d, dkim.header_s) == ("a.example", "a.example", "s1")
    assert [(one.type, one.name, one.value) for one in dmarc.properties] == [
        ("header", "from", "a.example"),
        ("policy", "dmarc", "reject"),
    ]
    assert b"dmarc=pass (p=reject dis=none) header.from=a.example" in found.fields[0].value


def test_thousands_of_signatures(tmp_path, capsys):
    """The results are few, in their order, the pass among them, and so is what the log says."""
    others = [Field(b"DKIM-Signature", b" a=rsa-sha256; d=a%d.example; s=s; b=" % at) for at in range(3000)]
    found = seen(tmp_path, Sent((*others, *SIGNED)))
    assert sum(map(len, found.values(authres.NAME))) < 4096
    spf, *others, dkim_pass, dmarc = found.results()
    assert (spf, dkim_pass, dmarc) == ("spf=none", "dkim=pass", "dmarc=pass")
    assert len(others) == 19
    assert set(others) <= {"dkim=neutral", "dkim=permerror"}
    assert max(map(len, capsys.readouterr().out.splitlines())) < 8192


def test_waiting_for_dns_has_an_end(tmp_path):
    """Mail that has waited as long as the site allows is quarantined, or refused; mail of others has its own time."""
    sent = plain("failing.example")
    Deferrals(tmp_path / "deferrals", 0, lambda: time.time() - 3 * 3600).over("198.51.100.1", "failing.example")
    assert seen(tmp_path, sent).reply == NO_ANSWER.format("the DMARC record of failing.example")
    reason = "DNS lookup of the DMARC record of failing.example failed for 3 hours"
    three = replace(SITE, dns_hours=3)
    found = seen(tmp_path, sent, site=three)
    assert (found.reply, found.values(MARK.name)) == (None, [f" {reason}".encode()])
    assert found.results()[-1] == "dmarc=temperror"
    assert seen(tmp_path, sent, site=replace(three, dns_action="reject")).reply == f"550 5.4.3 {reason}"
    assert seen(tmp_path, replace(sent, client="203.0.113.1"), site=three).reply.startswith("451 4.4.3 ")
    at_once = seen(tmp_path, replace(sent, client="203.0.113.2"), site=replace(SITE, dns_hours=0))
    assert at_once.values(MARK.name) != []


def test_a_notice_without_an_author(tmp_path):
    """From of an old mail server's notice claims no domain, so there is nothing to judge; only notices may do so."""
    notice = Sent((Field(b"From", b" Mail Delivery System <MAILER-DAEMON>"),), sender=b"", **HELO_OF_A)
    found = seen(tmp_path, notice)
    assert found.results() == ["spf=pass", "dkim=none", "dmarc=none"]
    assert found.parsed()[0].results[-1].properties == []
    mail = replace(notice, sender=b"jo@a.example")
    assert (
        seen(tmp_path, mail).reply
        == '550 5.7.1 From has no domain; write an address: "Doe, Jane" <jane@domain.example>'
    )


def test_quarantine(tmp_path):
    """The message is marked by one field that did not come with it; no other message is."""
    theirs = (MARK, Field(b"x-mailstack-QUARANTINE", b" no"))
    found = seen(tmp_path, plain("quarantine.example", *theirs))
    assert found.values(MARK.name) == [b" DMARC policy of quarantine.example"]
    assert b"(p=quarantine dis=quarantine)" in found.values(authres.NAME)[0]
    assert seen(tmp_path, plain("none.example", *theirs)).values(MARK.name) == []
    marking = replace(SITE, dmarc="mark")
    found = seen(tmp_path, plain("quarantine.example"), site=marking)
    assert found.values(MARK.name) == []
    assert b"(p=quarantine dis=none)" in found.values(authres.NAME)[0]


JUNK = {
    b"user@ours.example": b"user+quarantine@ours.example",
    b"User+News@Ours.example": b"User+quarantine@Ours.example",
    b"a+b@ours.example": b"a+b+quarantine@ours.example",
    b"A+B@ours.example": b"A+B+quarantine@ours.example",
    b"sales@ours.example": b"sales+quarantine@ours.example",
    b'"user"@ours.example': b"user+quarantine@ours.example",
    b"postmaster": b"postmaster+quarantine@mail.ours.example",
    b"Sales+tag@elsewhere.example": b"Sales+quarantine@elsewhere.example",
}


def test_quarantine_goes_to_junk(tmp_path):
    """Each recipient's address becomes that of its Junk, once, and for no other mail; not where a server files it."""
    junk = frozenset({"ours.example", "mail.ours.example", "sales@elsewhere.example"})
    site = replace(SITE, junk=junk, extended=frozenset({"a+b@ours.example"}))
    sent = plain("quarantine.example", recipients=(*JUNK, b"user@ours.example", b"user@elsewhere.example"))
    expected = [edit for one, other in JUNK.items() for edit in (b"-<" + one + b">", b"+<" + other + b">")]
    assert seen(tmp_path, sent, site=site).readdressed == expected
    # A bounce of forwarded mail goes on to the original sender.
    home = replace(
        sent,
        recipients=(b"SRS0=a/c=DE=x.example=a+b@Mail.ours.example", b"srs1=a=x.example==b=c=d=e@mail.ours.example"),
    )
    assert seen(tmp_path, home, site=site).readdressed == []
    other = replace(sent, recipients=(b"srs0=a@ours.example",))
    assert len(seen(tmp_path, other, site=site).readdressed) == 2
    spelled = replace(sent, recipients=((b"user@ours.example (me)", b"user@ours.example"),))
    expected = [b"-<user@ours.example (me)>", b"+<user+quarantine@ours.example>"]
    assert seen(tmp_path, spelled, site=site).readdressed == expected
    assert seen(tmp_path, sent).readdressed == []
    assert seen(tmp_path, replace(sent, fields=plain("none.example").fields), site=site).readdressed == []


WITHOUT_LEAVE = "{} uses our domain {} without an SPF or DKIM pass for it"
LOCAL = {
    "author": (plain("ours.example"), "reject", WITHOUT_LEAVE.format("From", "ours.example")),
    "sub-domain": (plain("news.ours.example"), "reject", WITHOUT_LEAVE.format("From", "news.ours.example")),
    "envelope": (
        plain("bare.example", sender=b"jo@ours.example"),
        "discard",
        WITHOUT_LEAVE.format("MAIL FROM", "ours.example"),
    ),
    "author, by who is somebody": (
        plain("ours.example", **FROM_A),
        "quarantine",
        WITHOUT_LEAVE.format("From", "ours.example"),
    ),
    "author, by who has signed": (
        Sent((said(SIGNATURE), SIGNATURE, from_("ours.example"))),
        "quarantine",
        WITHOUT_LEAVE.format("From", "ours.example"),
    ),
}


@pytest.mark.parametrize(("sent", "action", "reason"), LOCAL.values(), ids=LOCAL.keys())
def test_local_domains(sent, action, reason, tmp_path, capsys):
    """Our domains from outside are dropped, refused or put aside, with the reason; each with a line in the log."""
    found = seen(tmp_path, sent)
    (line,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert (line["action"], line["reason"], line["source_ip"]) == (action, reason, sent.client)
    assert found.discarded == (action == "discard")
    assert found.reply == (f"550 5.7.1 {reason}" if action == "reject" else None)
    assert found.values(MARK.name) == ([f" {reason}".encode()] if action == "quarantine" else [])
    refused = seen(tmp_path, sent, site=replace(SITE, local_sender="reject")).reply
    assert refused == (None if action == "quarantine" else f"550 5.7.1 {reason}")


FORWARDED = {
    b"out@ours.example": True,
    b"Out+tag@Ours.example": True,
    b'"out"@ours.example': True,
    b"postmaster": True,
    b"srs0=a=bc=x.example=y@mail.ours.example": True,
    b"SRS1=a=bc==d=e=x.example=y@MAIL.ours.example": True,
    b"anybody@caught.example": True,
    b"box@caught.example": False,
    b"box+tag@caught.example": False,
    (b"@relay.example:out@ours.example.", b"out@ours.example"): True,
    (b"out@ours.example", b"user@ours.example"): False,
    b"out+x@ours.example": False,
    b"user@ours.example": False,
    b"srs0=a=bc=x.example=y@ours.example": False,
}


@pytest.mark.parametrize(("recipient", "forwarded"), FORWARDED.items())
def test_forged_mail_is_not_forwarded(recipient, forwarded, tmp_path, capsys):
    """What uses our domain and goes to Junk, with any pass, is rejected if it would leave by one of its recipients."""
    site = replace(
        SITE,
        extended=frozenset({"out+x@ours.example"}),
        forwarded={
            "out@ours.example": True,
            "postmaster@mail.ours.example": True,
            "*@caught.example": True,
            "box@caught.example": False,
        },
    )
    forged = plain("ours.example", recipients=(b"user@ours.example", recipient), **FROM_A)
    found = seen(tmp_path, forged, site=site)
    (line,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert line["action"] == ("reject" if forwarded else "quarantine")
    reason = f"{WITHOUT_LEAVE.format('From', 'ours.example')}, so it is not forwarded"
    assert found.reply == (f"550 5.7.1 {reason}" if forwarded else None)


@pytest.mark.parametrize(
    ("hostname", "author", "reply"),
    [
        ("mail.dept.quarantine.example", "quarantine.example", "550 5.7.26"),
        ("mail.dept.quarantine.example", "other.quarantine.example", "550 5.7.26"),
        ("mail.dept.none.example", "none.example", None),
        ("mail.dept.bare.example", "quarantine.example", None),
        ("mail.dept.walk.example", "other.walk.example", "451 4.4.3"),
    ],
)
def test_the_authors_of_our_organization(hostname, author, reply, tmp_path):
    """An author whose domain has the host's organizational domain would pass DMARC by the host's SPF."""
    site = replace(
        SITE,
        hostname=hostname,
        local_domains=frozenset({hostname.removeprefix("mail."), hostname}),
        forwarded={f"out@{hostname.removeprefix('mail.')}": True},
    )
    for recipient, expected in ((f"out@{hostname.removeprefix('mail.')}", reply), ("user@ours.example", None)):
        found = seen(tmp_path, plain(author, recipients=(recipient.encode(),), **FROM_A), site=site)
        got = found.reply and " ".join(found.reply.split()[:2])
        assert got == (expected if author != "other.walk.example" else "451 4.4.3")


def test_mail_that_was_forwarded_comes_back(tmp_path):
    """With an SRS address as its sender it is answered, not discarded."""
    sent = plain("bare.example", sender=b"SRS0=a=bc=bare.example=jo@mail.ours.example")
    found = seen(tmp_path, sent)
    assert (found.discarded, found.reply) == (
        False,
        f"550 5.7.1 {WITHOUT_LEAVE.format('MAIL FROM', 'mail.ours.example')}",
    )


NOT_ACCEPTED = {
    "reject": plain("a.example"),
    "no author": Sent(()),
    "discard": plain("ours.example"),
    "defer": plain("failing.example"),
    "quarantine": plain("quarantine.example"),
}


@pytest.mark.parametrize("sent", NOT_ACCEPTED.values(), ids=NOT_ACCEPTED.keys())
def test_no_fate_without_a_line(sent, tmp_path):
    """What becomes of a message that is not just accepted is in the log before Postfix learns it."""

    async def hand_on():
        async with running(tmp_path) as one:
            fate = await one.outside.replies(sent)
            with full_disk():
                return fate, await one.outside.replies(sent)

    fate, without = asyncio.run(hand_on())
    assert len(fate) > 1
    assert without == [NEGOTIATED]


def test_nothing_is_accepted_unrecorded(tmp_path):
    """Lines about accepted mail may wait for others; once they could not be written, mail waits."""

    async def hand_on():
        async with running(tmp_path) as one:
            with full_disk():
                first = await one.outside.replies(sent)
                while not one.judge._log._failed:  # noqa: ASYNC110
                    await asyncio.sleep(0)
                return first[-1], await one.outside.replies(sent)

    sent = plain("a.example", **FROM_A)
    assert asyncio.run(asyncio.wait_for(hand_on(), 10)) == (b"a", [NEGOTIATED])


def test_on_record(tmp_path, capsys):
    """A line of JSON for each verdict, with what an aggregate report needs (RFC 9990), and a count for each result.

    It begins as mailstack trace expects it, and names 20 recipients at most.
    """
    recipients = tuple(b"%d@ours.example" % at for at in range(25))
    sent = [
        Sent((Field(b"Message-ID", b" <1@a.example>"), *KNOWN), queue_id=b"4gX0bcDf2345", recipients=recipients),
        plain("a.example", **FROM_A),
        plain("a.example"),
        Sent((Field(b"From", b' "x\x1b[2J\xff"\n {"a": 1}'),)),
    ]

    async def hand_on():
        async with running(tmp_path) as one:
            for each in sent:
                await one.outside.hand_on(each)

    asyncio.run(hand_on())
    text = capsys.readouterr().out
    assert text.isascii()
    first, second, refused, ambiguous = map(json.loads, text.splitlines())
    assert (
        first.items()
        >= {
            "queue_id": "4gX0bcDf2345",
            "action": "accept",
            "result": "pass",
            "source_ip": STRANGER,
            "envelope_from": "<jo@bare.example>",
            "from": "Jo <jo@a.example>",
            "message_id": "<1@a.example>",
            "header_from": "a.example",
            "rua": "mailto:dmarc@a.example",
            "policy_evaluated": {"disposition": "none", "dkim": "pass", "spf": "fail", "override": None},
        }.items()
    )
    assert first["envelope_to"] == [f"<{at}@ours.example>" for at in range(20)]
    traced = judges.line("dmarc", text.splitlines()[0].encode(), {"4gX0bcDf2345"})
    assert traced
    assert traced.event.text == "SPF none (bare.example), DKIM pass (a.example), DMARC pass (a.example)"
    assert first["policy_published"].items() >= {"domain": "a.example", "p": "reject", "testing": "n"}.items()
    assert first["auth_results"] == {
        "spf": {"domain": "bare.example", "scope": "mfrom", "result": "none"},
        "dkim": [{"domain": "a.example", "selector": "s1", "result": "pass", "reason": ""}],
    }
    assert [(one["result"], one["count"]) for one in (second, refused, ambiguous)] == [
        ("pass", 2),
        ("fail", 1),
        ("ambiguous", 1),
    ]
    assert refused["policy_evaluated"]["disposition"] == "reject"
    assert (ambiguous["action"], ambiguous["from"]) == ("reject", '"x\x1b[2J\\xff" {"a": 1}')


def test_exempt_clients(tmp_path):
    """Whom policyd-spf does not judge has no SPF result; DMARC goes by DKIM."""
    policy = replace(POLICY, skip_networks=tuple(map(ipaddress.ip_network, ["198.51.100.0/24"])))
    found = seen(tmp_path, Sent(KNOWN), policy=policy)
    assert found.results() == ["spf=none", "dkim=pass", "dmarc=pass"]
    assert b"spf=none (not checked: forwarder)" in found.values(authres.NAME)[0]


@pytest.mark.parametrize("sender", HOSTILE)
def test_nothing_of_an_address_gets_into_the_results(sender, tmp_path):
    """Whatever the envelope and HELO hold, the field has our three results and a domain at most."""
    found = seen(tmp_path, plain("none.example", sender=sender, helo=sender))
    assert found.results() == ["spf=none", "dkim=none", "dmarc=fail"]
    assert b"bank.example" not in found.values(authres.NAME)[0]


def test_messages_at_once(tmp_path):
    """A hundred messages on as many connections: each one gets its own verdict, over few connections to policyd-spf."""

    async def hand_on():
        async with running(tmp_path) as one:
            kinds = [plain("a.example", **FROM_A), plain("a.example"), Sent(SIGNED), plain("quarantine.example")]
            found = await asyncio.gather(*(one.outside.hand_on(kinds[at % 4]) for at in range(100)))
            before = len(one.connections)
            for at in range(20):
                await one.outside.hand_on(kinds[at % 4])
            assert len(one.connections) == before <= 100
            return found

    for at, found in enumerate(asyncio.run(hand_on())):
        if at % 4 == 1:
            assert found.reply == NOT_SHOWN
        else:
            assert found.results()[-1] == ("dmarc=fail" if at % 4 == 3 else "dmarc=pass")
