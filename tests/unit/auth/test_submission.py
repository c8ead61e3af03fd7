"""mailstack_auth.submission: our own mail, before it is signed and after."""

import asyncio
import re
from dataclasses import replace
from email import message_from_bytes
from email.utils import parsedate_to_datetime

import dkim
import pytest

from mailstack_auth.header.fields import Field, Fields
from mailstack_auth.milter.message import MAX_FIELD_OCTETS, Message
from mailstack_auth.submission.judges import Signed, Submission
from mailstack_auth.submission.limits import Limits
from unit.auth.postfix import GARBAGE, INTERNAL_ID, SITE, TOO_MANY, Sent, plain, running, seen
from unit.auth.test_verification import BODY, HEAD, fields, key


def ours_signed(author, signer):
    head = HEAD.replace(b"a.example", author)
    made = dkim.sign(head + b"\r\n" + BODY, b"s1", signer, key(1024)[0], include_headers=[b"from"])
    return (*fields(made), *fields(head))


UNSIGNED = "451 4.7.0 not signed: the DKIM signer failed, please retry"
LEAVING = {
    "signed": (Sent(ours_signed(b"ours.example", b"ours.example")), None),
    "of a sub-domain, signed by its parent": (Sent(ours_signed(b"news.ours.example", b"ours.example")), None),
    "not signed": (plain("ours.example"), UNSIGNED),
    "of a sub-domain, not signed": (plain("news.ours.example"), UNSIGNED),
    "signed by somebody": (Sent(ours_signed(b"ours.example", b"a.example")), UNSIGNED),
    "signed by a name like ours": (Sent(ours_signed(b"ours.example", b"xours.example")), UNSIGNED),
    "a signature that is none": (plain("ours.example", GARBAGE), UNSIGNED),
    "somebody else's": (plain("a.example"), None),
    "of a name like ours": (plain("xours.example"), None),
}


@pytest.mark.parametrize(("sent", "reply"), LEAVING.values(), ids=LEAVING.keys())
def test_nothing_of_ours_leaves_unsigned(sent, reply, tmp_path):
    """Whatever OpenDKIM makes of it: behind it mail of our domains has a signature of ours, or waits."""
    assert seen(tmp_path, sent, role="signed").reply == reply
    if sent.fields[0].name == b"From":
        # Who is to sign comes later.
        assert seen(tmp_path, sent, role="inside").reply is None
    free = replace(SITE, signed=frozenset(), signed_below=frozenset())
    assert seen(tmp_path, sent, role="signed", site=free).reply is None


SENDERS = [
    ("ours.example", b"jo@ours.example", ""),
    ("news.ours.example", b"jo@ours.example", ""),
    ("ours.example", b"jo@news.ours.example", ""),
    # A notice has no sender, and Postfix completes one without a domain.
    ("ours.example", b"", ""),
    ("ours.example", b"jo", ""),
    ("a.example", b"jo@ours.example", "From"),
    ("xours.example", b"jo@ours.example", "From"),
    ("ours.example", b"jo@a.example", "MAIL FROM"),
    ("ours.example", b"jo@ours.example.a.example", "MAIL FROM"),
    ("ours.example", b"jo@ours..example", "MAIL FROM"),
    ("ours.example", b"jo@ours.example@a.example", "MAIL FROM"),
    ("a.example", b"jo@a.example", "From and MAIL FROM"),
]


@pytest.mark.parametrize(("author", "sender", "wrong"), SENDERS)
def test_a_user_writes_from_our_domains(author, sender, wrong, tmp_path, capsys):
    """Who is logged in has no other address, in From or in the envelope; a host in our networks may forward mail."""
    sent = replace(plain(author), sender=sender)
    assert seen(tmp_path, sent, role="inside").reply is None
    reply = seen(tmp_path, replace(sent, user=b"jo\xe9", queue_id=b"4gX0"), role="inside").reply
    if not wrong:
        assert reply is None
        return
    words = f"the domain in {wrong} is not one of this server's domains"
    assert reply == f"550 5.7.1 {words}"
    assert f"dmarc: 4gX0: action=reject user='jo\\xe9' reason=\"{words}\"" in capsys.readouterr().out


def test_inside_completes(tmp_path, capsys):
    """A missing Date and Message-ID are added, each message its own; never a From, and nothing to what has both.

    A Message-ID is logged, since Postfix has logged that there is none.
    """
    bare = plain("a.example", queue_id=b"4gX0")

    async def hand_on():
        async with running(tmp_path) as one:
            several = [await one.inside.hand_on(each) for each in (bare, bare, replace(bare, queue_id=b""))]
            return [*several, await one.inside.hand_on(replace(bare, fields=tuple(several[0].fields)))]

    *several, complete = asyncio.run(hand_on())
    ids = {value for found in several for value in found.values(b"Message-ID")}
    assert len(ids) == len(several)
    for found in several:
        assert {one.name for one in found.fields} == {b"Date", b"Message-ID", b"From", b"Subject"}
        parsed = message_from_bytes(b"".join(one.name + b":" + one.value + b"\n" for one in found.fields))
        assert parsedate_to_datetime(parsed["Date"]).tzinfo is not None
        assert re.fullmatch(r"<[A-Za-z0-9.]+@mail\.ours\.example>", parsed["Message-ID"])
    assert complete.edits == []
    said = [line for line in capsys.readouterr().out.splitlines() if "added" in line]
    assert said == [
        f"dmarc: {queue_id}: added Message-ID {found.values(b'Message-ID')[0].strip().decode()}"
        for queue_id, found in zip(["4gX0", "4gX0", ""], several, strict=True)
    ]
    odd = replace(bare, fields=(Field(b"DATE", b" x"), Field(b"message-id ", b" y"), *bare.fields))
    assert seen(tmp_path, odd, role="inside").edits == []


INTERNATIONAL = "xn--bcher-kva.example"
# How From is written, and what the reply asks for; an empty text where it is signed.
SPELLINGS = {
    "A-labels": (f" Jo <jo@{INTERNATIONAL}>", ""),
    "capitals": (f" Jo <jo@{INTERNATIONAL.upper()}>", ""),
    "U-labels": (" Jo <jo@b\u00fccher.example>", f"write {INTERNATIONAL}"),
    "U-labels in capitals": (" jo@B\u00dcCHER.example", f"write {INTERNATIONAL}"),
    "U-labels of a sub-domain": (" jo@news.b\u00fccher.example", f"write news.{INTERNATIONAL}"),
    "U-labels, and A-labels in the name": (f' "jo@{INTERNATIONAL}" <jo@b\u00fccher.example>', f"write {INTERNATIONAL}"),
    "U-labels of the second author": (f" jo@{INTERNATIONAL}, x@b\u00fccher.example", f"write {INTERNATIONAL}"),
    "full-width letters": (" jo@\uff4furs.example", "write ours.example"),
    "ideographic full stop": (" jo@ours\u3002example", "write ours.example"),
    "soft hyphen": (" jo@ou\u00adrs.example", "write ours.example"),
    "final dot": (" Jo <jo@ours.example.>", "write ours.example"),
    "an encoded word": (" jo@=?utf-8?q?b=C3=BCcher?=.example", "no valid domain"),
    "U-labels of another's domain": (" jo@b\u00fcro.example", ""),
    "no domain": (" MAILER-DAEMON", "has no domain; write an address"),
    "no address": (" Jo <>", "has no domain; write an address"),
}


@pytest.mark.parametrize(("value", "asked"), SPELLINGS.values(), ids=SPELLINGS.keys())
def test_inside_takes_what_will_be_signed(value, asked):
    """OpenDKIM's table has A-labels: a domain of ours in other letters would leave unsigned, so the reply has the right ones."""
    site = replace(SITE, local_domains=frozenset({"ours.example", INTERNATIONAL}))
    message = Message(
        "192.0.2.1", b"x", fields=Fields([Field(b"From", value.encode()), Field(b"Sender", b" <x@ours.example>")])
    )
    reply = asyncio.run(Submission(site, INTERNAL_ID).judge(message)).reply
    if asked:
        assert reply.startswith("550 5.6.0 not signed: ")
        assert asked in reply
    else:
        assert reply is None


def test_inside_refuses_a_header_too_long(tmp_path):
    """What was not looked at in whole is not signed."""
    sent = plain("a.example", *[Field(b"X", b"x" * 50_000)] * TOO_MANY)
    assert str(seen(tmp_path, sent, role="inside").reply).startswith("552 5.3.4 header is too long (limit: ")


def test_inside_refuses_a_field_too_long(tmp_path):
    """A field that Postfix may have cut is not signed; the longest one that is surely whole is."""
    longest = b" " + b"x" * (MAX_FIELD_OCTETS - len(b"To: "))
    assert seen(tmp_path, plain("a.example", Field(b"To", longest)), role="inside").reply is None
    reply = seen(tmp_path, plain("a.example", Field(b"To", longest + b"x")), role="inside").reply
    assert reply == "552 5.3.4 header field To is too long (limit: 53999 octets)"


SIGNED_WELL = "v=1; a=rsa-sha256; d=b.example; s=k; h=from; bh=AAAA; b=AAAA"
UNREADABLE = {
    "no tags": "nothing",
    "a domain that is no name": SIGNED_WELL.replace("b.example", r"legitimate.com\\(.attacker.com"),
    "no domain": SIGNED_WELL.replace("d=b.example; ", ""),
    "no selector": SIGNED_WELL.replace("s=k; ", ""),
    "a tag twice": f"{SIGNED_WELL}; d=c.example",
    "another version": SIGNED_WELL.replace("v=1", "v=2"),
    "From unsigned": SIGNED_WELL.replace("h=from", "h=to"),
    "b= no base64": f"{SIGNED_WELL}!",
    "an unknown canonicalization": f"{SIGNED_WELL}; c=none/none",
    "i= of another domain": f"{SIGNED_WELL}; i=@c.example",
    "t= no number": f"{SIGNED_WELL}; t=now",
    "too long": f"{SIGNED_WELL}; z={'x' * 4096}",
}


def test_what_is_signed_anew(tmp_path):
    """A signature of ours that came with the message is removed, so that none in the end is old."""
    for domain in ("ours.example", "news.ours.example"):
        sent = Sent(ours_signed(domain.encode(), b"ours.example"))
        assert seen(tmp_path, sent, role="inside").values(b"DKIM-Signature") == []
        assert len(seen(tmp_path, sent, role="signed").values(b"DKIM-Signature")) == 1


@pytest.mark.parametrize("value", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_what_keeps_opendkim_from_signing(tmp_path, value):
    """A signature that nobody can read is removed where we are to sign, and left with others' mail."""
    extra = [Field(b"DKIM-Signature", f" {one}".encode()) for one in (SIGNED_WELL, value, SIGNED_WELL)]
    ours = seen(tmp_path, plain("ours.example", *extra), role="inside")
    assert (ours.reply, ours.values(b"DKIM-Signature")) == (None, [extra[0].value, extra[2].value])
    assert len(seen(tmp_path, plain("a.example", *extra), role="inside").values(b"DKIM-Signature")) == 3


def sent_by(limits, *messages, signed=True):
    """The replies to messages, each of a user with so many recipients."""
    judge = Signed(SITE, INTERNAL_ID, limits)
    signed_fields = ours_signed(b"ours.example", b"ours.example") if signed else plain("ours.example").fields

    def reply(user, recipients):
        message = Message("192.0.2.1", b"", b"<jo@ours.example>", user=user, recipients=[b"<x@a.example>"] * recipients)
        message.fields.extend(signed_fields)
        return asyncio.run(judge.judge(message)).reply

    return [reply(*one) for one in messages]


def test_a_user_may_send_so_much(capsys):
    """More gets 450, with the limit and for how long; another user, and who is not logged in, has none of it."""
    now = [0.0]
    limits = Limits(3, 10, 60, clock=lambda: now[0])
    assert sent_by(limits, ("jo", 1), ("jo", 8), ("jo", 2), ("jo", 1), ("jo", 1)) == [
        None,
        None,
        "450 4.7.1 a user may send to 10 recipients in 60 minutes, please retry in 60 minutes",
        None,
        "450 4.7.1 a user may send 3 messages in 60 minutes, please retry in 60 minutes",
    ]
    assert sent_by(limits, ("ann", 10), ("", 11)) == [None, None]
    assert capsys.readouterr().out.count("action=defer user='jo' reason='a user may send") == 2
    now[0] = 59 * 60.0
    assert sent_by(limits, ("jo", 1)) == [
        "450 4.7.1 a user may send 3 messages in 60 minutes, please retry in a minute"
    ]
    now[0] = 60 * 60.0
    assert sent_by(limits, ("jo", 10), ("jo", 1)) == [
        None,
        "450 4.7.1 a user may send to 10 recipients in 60 minutes, please retry in 60 minutes",
    ]


def test_a_user_sends_in_so_many_sessions():
    """One more gets 450, until one of the others ends; another user has sessions of his own."""
    limits = Limits(0, 0, 1, 2)
    judge = Signed(SITE, INTERNAL_ID, limits)

    def reply(user, session):
        message = Message("192.0.2.1", b"", b"<jo@ours.example>", user=user, session=session)
        message.fields.extend(ours_signed(b"ours.example", b"ours.example"))
        return asyncio.run(judge.judge(message)).reply

    crowded = "450 4.7.1 a user may send in 2 sessions at a time, please retry in a minute"
    assert [reply("jo", one) for one in "aabbcc"] == [None, None, None, None, crowded, crowded]
    assert [reply("ann", "d"), reply("", "e")] == [None, None]
    judge.left("a")
    judge.left("nobody's")
    assert [reply("jo", one) for one in "cba"] == [None, None, crowded]


def test_a_refused_message_takes_no_session():
    """Its session counts for nothing, whatever the message was refused for."""
    limits = Limits(1, 0, 1, 1)
    assert limits.exceeded("jo", 1, "a") == ""
    limits.left("a")
    assert "a user may send 1 messages" in limits.exceeded("jo", 1, "b")
    assert limits._sessions == {}


def test_a_message_that_is_more_than_all(capsys):
    """It would never be accepted, so it is rejected for good."""
    limits = Limits(3, 10, 60)
    assert sent_by(limits, ("jo", 11)) == ["550 5.5.3 a user may send to 10 recipients in 60 minutes"]
    assert "action=reject user='jo' reason='a user may send to 10 recipients" in capsys.readouterr().out


def test_what_is_not_accepted_does_not_count():
    """While OpenDKIM is down, tries use up nothing."""
    limits = Limits(1, 10, 60)
    assert sent_by(limits, *[("jo", 1)] * 3, signed=False) == [UNSIGNED] * 3
    assert sent_by(limits, ("jo", 1)) == [None]


def test_no_limit():
    """0 is any number."""
    assert sent_by(Limits(0, 0, 1), *[("jo", 1000)] * 100) == [None] * 100


def test_users_are_forgotten():
    """Who has sent nothing for a period takes no memory."""
    now = [0.0]
    limits = Limits(3, 10, 1, clock=lambda: now[0])
    for at in range(1000):
        now[0] = at
        assert limits.exceeded(f"user{at}", 1) == ""
    assert len(limits._sent) == 60
