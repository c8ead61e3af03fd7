"""mailstack_auth.dmarc.collecting and alignment: which signatures are verified here, and what is waited for."""

import asyncio
from dataclasses import replace

import dkim
import pytest

from mailstack_auth.dmarc.collecting import MAX_LOOKS
from mailstack_auth.header.fields import Field
from unit.auth.postfix import (
    AUTHORISED,
    FROM_A,
    GARBAGE,
    KNOWN,
    MARK,
    NO_ANSWER,
    NOT_SHOWN,
    SIGNATURE,
    SIGNED,
    SITE,
    SPF,
    Sent,
    plain,
    running,
    said,
    seen,
)
from unit.auth.test_verification import BODY, HEAD, fields, key, sign

COMMON = {
    "a pass is known": Sent(KNOWN),
    "no signature": plain("none.example"),
    "SPF aligns": plain("a.example", **FROM_A),
    "somebody's signature": plain("none.example", said(SIGNATURE), SIGNATURE),
    "garbage": plain("none.example", GARBAGE),
}


@pytest.mark.parametrize("sent", COMMON.values(), ids=COMMON.keys())
def test_the_common_case_does_not_pay(sent, tmp_path):
    """Where a second look would change nothing, there is no body, and no key is asked for."""

    async def hand_on():
        async with running(tmp_path) as one:
            found = await one.outside.hand_on(sent)
            return found, one.names.asked, one.judge.bodies

    found, asked, bodies = asyncio.run(hand_on())
    assert found.reply is None
    assert bodies == [False]
    assert not [one for one in asked if "_domainkey" in one]


LOOKS = {
    "OpenDKIM says nothing": SIGNED,
    "garbage above": (GARBAGE, *SIGNED),
    "garbage below": (SIGNATURE, GARBAGE, *fields(HEAD)),
    "temperror": (said(SIGNATURE, "temperror"), *SIGNED),
    "a fail that is none": (said(SIGNATURE, "fail"), *SIGNED),
    "one of two": (sign(body=b"x\r\n"), *SIGNED),
}


@pytest.mark.parametrize("sent", LOOKS.values(), ids=LOOKS.keys())
def test_second_look(sent, tmp_path):
    """A good signature passes whatever OpenDKIM makes of it, and whatever stands beside it."""
    results = seen(tmp_path, Sent(sent)).results()
    assert ("dkim=pass" in results, results[-1]) == (True, "dmarc=pass")


def test_a_long_body(tmp_path):
    """However long a message is, a broken signature above the good one takes nothing from it."""
    body = (b"x" * 76 + b"\r\n") * (17 * 2**20 // 78)
    found = seen(tmp_path, Sent((sign(body=b"x\r\n"), sign(body=body), *fields(HEAD)), body=body))
    assert [one for one in found.results() if "dkim" in one] == ["dkim=fail", "dkim=pass"]
    assert found.results()[-1] == "dmarc=pass"


def test_the_lowest_of_many_is_looked_at(tmp_path):
    """Of more signatures of one domain than are verified, those count that were there first."""
    broken = [sign(body=f"{at}\r\n".encode()) for at in range(MAX_LOOKS + 5)]
    results = seen(tmp_path, Sent((*broken, *SIGNED))).results()
    assert ("dkim=pass" in results, results[-1]) == (True, "dmarc=pass")


def test_second_look_for_the_envelope(tmp_path):
    """An envelope sender of ours may be authorised by its own signature, below another author."""
    head = HEAD.replace(b"a.example", b"bare.example")
    site = replace(SITE, local_domains=frozenset({"a.example"}))
    forged = Sent(tuple(fields(head)), sender=b"jo@a.example")
    assert seen(tmp_path, forged, site=site).discarded
    ours = replace(forged, fields=(sign(head=head), *fields(head)))
    assert seen(tmp_path, ours, site=site).results() == ["spf=fail", "dkim=pass", "dmarc=none"]


KEYS = {
    "no answer": (["TIMEOUT"], NO_ANSWER.format("the DKIM key s1._domainkey.a.example")),
    "no key": ([], NOT_SHOWN),
    "another key": ([{"TXT": key(2048)[1].decode()[:200]}], NOT_SHOWN),
    "two keys": ([{"TXT": key(1024)[1].decode()}, {"TXT": f"{key(1024)[1].decode()}; n=x"}], NOT_SHOWN),
}


@pytest.mark.parametrize(("records", "reply"), KEYS.values(), ids=KEYS.keys())
def test_second_look_without_a_key(records, reply, tmp_path):
    """Without an answer from DNS the message waits; without a usable key it has no pass."""
    assert seen(tmp_path, Sent(SIGNED), zone={"s1._domainkey.a.example": records}).reply == reply


@pytest.mark.parametrize("opendkim", ["", "temperror", "permerror"])
def test_a_fault_of_dns_is_no_fault_of_mail_with_another_pass(opendkim, tmp_path):
    """SPF aligns: the key that cannot be looked up makes no difference, and nobody asks for it again."""
    sent = (said(SIGNATURE, opendkim), *SIGNED) if opendkim else SIGNED
    found = seen(tmp_path, Sent(sent, **FROM_A), zone={"s1._domainkey.a.example": ["TIMEOUT"]})
    assert found.results() == ["spf=pass", f"dkim={opendkim or 'neutral'}", "dmarc=pass"]


ASIDE = {"bounce.aside.example": [SPF], "_dmarc.bounce.aside.example": ["TIMEOUT"]}


def test_a_fault_of_dns_elsewhere_is_no_fault_of_mail_with_a_pass(tmp_path):
    """DKIM aligns: that the domain of the envelope sender, another one, gives no answer makes no difference."""
    sent = Sent(KNOWN, client=AUTHORISED, sender=b"jo@bounce.aside.example")
    assert seen(tmp_path, sent, zone=ASIDE).results() == ["spf=pass", "dkim=pass", "dmarc=pass"]
    looked_at = replace(sent, fields=SIGNED)
    assert seen(tmp_path, looked_at, zone=ASIDE).results() == ["spf=pass", "dkim=pass", "dmarc=pass"]


EXACT = {
    "DKIM's": (Sent(KNOWN), ["spf=none", "dkim=pass", "dmarc=pass"]),
    "DKIM's, by a second look": (Sent((GARBAGE, *SIGNED)), ["spf=none", "dkim=permerror", "dkim=pass", "dmarc=pass"]),
    "SPF's": (plain("a.example", **FROM_A), ["spf=pass", "dkim=none", "dmarc=pass"]),
}


@pytest.mark.parametrize("silent", ["_dmarc.a.example", "_dmarc.example"])
@pytest.mark.parametrize(("sent", "results"), EXACT.values(), ids=EXACT.keys())
def test_a_pass_of_the_authors_own_domain_waits_for_nothing(sent, results, silent, tmp_path):
    """It aligns under every record that there may be."""
    zone = {"_dmarc.a.example": [], silent: ["TIMEOUT"]}
    found = seen(tmp_path, sent, zone=zone).results()
    # Without a record there would be nothing to pass.
    assert found == results


TREE = {
    "_dmarc.co.example": [{"TXT": "v=DMARC1; p=reject; psd=y"}],
    "_dmarc.one.co.example": [{"TXT": "v=DMARC1; p=reject"}],
    "_dmarc.strict.example": [{"TXT": "v=DMARC1; p=reject; adkim=s"}],
}


def signed_by(domain, *, author, selector="s1", **options):
    """A signature by a domain over a message of an author, as the field that it is, and the message's fields."""
    head = HEAD.replace(b"a.example", author.encode())
    made = dkim.sign(
        head + b"\r\n" + BODY, selector.encode(), domain.encode(), key(1024)[0], include_headers=[b"from"], **options
    )
    return fields(made)[0], fields(head)


LOOKED_FOR = {
    # The author; who signs beside it, with a pass of OpenDKIM's; who signs without one.
    "another organization below one suffix": ("one.co.example", "two.co.example", "one.co.example"),
    "its parent, which strict alignment does not take": ("m.strict.example", "strict.example", "m.strict.example"),
}


@pytest.mark.parametrize("options", [{}, {"length": True}], ids=["known to nobody", "with l="])
@pytest.mark.parametrize(("author", "beside", "by"), LOOKED_FOR.values(), ids=LOOKED_FOR.keys())
def test_a_pass_that_does_not_align_hides_no_other(author, beside, by, options, tmp_path):
    """A good signature of a neighbour's stands above the author's, of which OpenDKIM says nothing that counts."""
    above, rest = signed_by(beside, author=author)
    own, _ = signed_by(by, author=author, **options)
    record = [{"TXT": key(1024)[1].decode()}]
    zone = TREE | {f"s1._domainkey.{beside}": record, f"s1._domainkey.{by}": record}
    found = seen(tmp_path, Sent((said(above), above, own, *rest)), zone=zone)
    assert found.reply is None
    assert found.results() == ["spf=none", "dkim=pass", "dkim=pass", "dmarc=pass"]
    waits = seen(tmp_path, Sent((said(above), above, own, *rest)), zone=zone | {f"s1._domainkey.{by}": ["TIMEOUT"]})
    assert waits.reply == NO_ANSWER.format(f"the DKIM key s1._domainkey.{by}")


def test_ways_to_hash_a_body(tmp_path):
    """Which signatures are verified is known only with SPF's result, and the body has its hashes for each of them."""
    own, rest = signed_by("a.example", author="a.example", canonicalize=(b"simple", b"simple"))
    value = b" v=1; a=rsa-sha256; c=relaxed/relaxed; d=list.example; s=s; h=from; bh=AAAA; b=AAAA"
    sent = Sent((*[Field(b"DKIM-Signature", value)] * 20, own, *rest), client=AUTHORISED, sender=b"x@list.example")
    site, zone = replace(SITE, skip_domains=("list.example",)), {"list.example": [SPF]}
    found = seen(tmp_path, sent, site=site, zone=zone)
    assert (found.reply, found.results()[-1]) == (None, "dmarc=pass")


HOPELESS = {
    "expired": "v=1; a=rsa-sha256; d=a.example; s=silent; h=from; x=1000000000; bh=AAAA; b=AAAA",
    "From unsigned": "v=1; a=rsa-sha256; d=a.example; s=silent; h=to; bh=AAAA; b=AAAA",
    "another version": "v=2; a=rsa-sha256; d=a.example; s=silent; h=from; bh=AAAA; b=AAAA",
    "no body hash": "v=1; a=rsa-sha256; d=a.example; s=silent; h=from; b=AAAA",
}


@pytest.mark.parametrize("value", HOPELESS.values(), ids=HOPELESS.keys())
def test_no_key_is_waited_for_that_changes_nothing(value, tmp_path):
    """A signature cannot pass, and DNS does not answer for its key: dmarc judges the message without it."""
    sent = plain("a.example", Field(b"DKIM-Signature", f" {value}".encode()))
    assert seen(tmp_path, sent, zone={"silent._domainkey.a.example": ["TIMEOUT"]}).reply == NOT_SHOWN


BESIDE = {
    "garbage": [GARBAGE],
    "rsa-sha1": [Field(b"DKIM-Signature", b" v=1; a=rsa-sha1; d=b.example; s=s; h=from; bh=AAAA; b=AAAABBBB")],
    "an odd i=": [
        Field(
            b"DKIM-Signature", b" v=1; a=rsa-sha256; d=b.example; s=s; i=x=3By@b.example; h=from; bh=AAAA; b=AAAABBBB"
        )
    ],
    "eleven": [
        Field(b"DKIM-Signature", b" v=1; a=rsa-sha256; d=b%d.example; s=s; h=from; bh=AAAA; b=AAAABBBB" % at)
        for at in range(11)
    ],
    "one with a long name": [
        Field(
            b"DKIM-Signature",
            b" v=1; a=rsa-sha256; d=%s; s=s; h=from; bh=AAAA; b=AAAABBBB" % b".".join([b"b" * 60] * 4),
        )
    ],
}


@pytest.mark.parametrize("below", [False, True])
@pytest.mark.parametrize("options", [{}, {"length": True}], ids=["whole", "with l="])
@pytest.mark.parametrize("others", BESIDE.values(), ids=BESIDE.keys())
def test_a_trusted_list_is_known_by_its_signature(others, options, below, tmp_path):
    """Whatever stands beside it, and though it has l=: what the list hands on is spared; without trust it is put aside."""
    own, rest = signed_by("list.example", author="a.example", **options)
    signed = [own, *others] if below else [*others, own]
    zone = {"s1._domainkey.list.example": [{"TXT": key(1024)[1].decode()}]}
    sent = Sent((*signed, *rest))
    trusting = replace(SITE, skip_domains=("list.example",))
    spared = seen(tmp_path, sent, zone=zone, site=trusting)
    assert (spared.reply, spared.results()[-1]) == (None, "dmarc=fail")
    assert spared.values(MARK.name) == []
    assert seen(tmp_path, sent, zone=zone).values(MARK.name) == [b" DMARC policy of a.example"]
    old = seen(tmp_path, sent, zone=zone, site=replace(SITE, dmarc="reject"))
    assert old.reply == NOT_SHOWN
