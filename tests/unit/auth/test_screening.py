"""mailstack_auth.milter.screening: what is removed, and who is refused, from outside and from inside."""

import asyncio
import json
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mailstack_auth.header import authres
from mailstack_auth.header.fields import Field, Fields
from unit.auth.postfix import FROM_A, HOSTILE, INTERNAL_ID, MARK, OUR_ID, SIGNED, Sent, from_, plain, running, seen


@pytest.mark.parametrize("role", ["outside", "inside"])
def test_results_under_an_id_that_has_to_be_decoded(role, tmp_path):
    """Encoded words in place of our id: they go, in between others that stay."""
    others = [b" mx.other.example; spf=pass", b" mx.another.example; spf=pass"]
    disguised = [
        b" =?us-ascii?q?=6Dail.ours.example?=; dkim=pass",
        b" =?us-ascii?b?bWFpbC5vdXJzLmV4YW1wbGU=?=; dkim=pass",
    ]
    mixed = [one for pair in zip(others, disguised, strict=True) for one in pair]
    found = seen(tmp_path, plain("none.example", *(Field(authres.NAME, one) for one in mixed)), role=role)
    assert found.reply is None
    assert [one for one in found.values(authres.NAME) if OUR_ID.encode() not in one] == others


@pytest.mark.parametrize("role", ["outside", "inside"])
def test_forged_results_are_removed(role, tmp_path):
    """Everything under our ids, in either role, from between others that stay in their order; nothing else is touched."""
    ours = [
        Field(b"Authentication-Results", f" {OUR_ID}; dkim=pass header.d=bank.example".encode()),
        Field(b"AUTHENTICATION-RESULTS", f"\n\t(x) {OUR_ID.upper()} 1; spf=pass".encode()),
        Field(b"Authentication-Results", f' "{OUR_ID}"; dmarc=pass'.encode()),
        Field(b"Authentication-Results", f" {INTERNAL_ID}; dkim=pass header.d=bank.example".encode()),
    ]
    theirs = [
        Field(b"Authentication-Results", b" mx.other.example; spf=pass"),
        Field(b"Authentication-Results", b" mx.third.example; none"),
        Field(b"X-Authentication-Results", ours[0].value),
    ]
    mixed = (ours[0], theirs[0], ours[1], ours[3], theirs[1], theirs[2], ours[2])
    date = (Field(b"Date", b" Wed, 25 Nov 2026 12:00:00 +0000"), Field(b"Message-ID", b" <1@a.example>"))
    found = seen(tmp_path, plain("a.example", *mixed, *date, **FROM_A), role=role)
    kept = [*theirs, *date, from_("a.example"), Field(b"Subject", b" one")]
    assert found.fields[1 if role == "outside" else 0 :] == kept
    if role == "outside":
        assert found.results() == ["spf=pass", "dkim=none", "dmarc=pass"]


NAMES = st.sampled_from([b"Authentication-Results", b"authentication-results", b"X-Mailstack-Quarantine", b"Subject"])
IDS = st.sampled_from([OUR_ID, INTERNAL_ID, OUR_ID.upper(), "other.example", f"(x) {OUR_ID}", f'"{OUR_ID}"', ""])
TEXTS = st.text(st.sampled_from('abc;=()\\" .\t<>@'), max_size=12)
FIELDS = st.lists(
    st.builds(lambda name, one, text: Field(name, f" {one}{text}".encode()), NAMES, IDS, TEXTS), max_size=6
)
ADDRESSES = st.one_of(st.binary(max_size=40), st.sampled_from(HOSTILE)).map(lambda one: one.replace(b"\0", b""))


@settings(max_examples=60)
@given(st.lists(FIELDS, min_size=10, max_size=10), ADDRESSES, ADDRESSES)
@example([[Field(authres.NAME, f" {OUR_ID}; dkim=pass".encode())] * 5] * 10, b"", b"")
@example([[Field(authres.NAME, f" {one}".encode()) for one in (OUR_ID, "other.example", OUR_ID)]] * 10, b"", b"")
def test_one_field_is_ours(tmp_path_factory, several, sender, helo):
    """Whatever came, one field under our id is left, the one that we wrote, and none under the internal one."""

    async def hand_on():
        async with running(tmp_path_factory.mktemp("one")) as one:
            return [
                await one.outside.hand_on(plain("none.example", *each, sender=sender, helo=helo)) for each in several
            ]

    for found in asyncio.run(hand_on()):
        claims = authres.claims(Fields(found.fields))
        assert [one.at for one in claims if one.of(OUR_ID)] == [1]
        assert not any(one.of(INTERNAL_ID) for one in claims)
        assert found.values(MARK.name) == []
        assert re.fullmatch(
            rb" mail\.ours\.example;\n\tspf=none(?: smtp\.(?:mailfrom|helo)=[a-z0-9._-]+)?;\n\tdkim=none;\n\t"
            rb"dmarc=fail \(p=none dis=none\) header\.from=none\.example policy\.dmarc=none",
            found.fields[0].value,
        )


AMBIGUOUS = {
    "no From": (),
    "two": (from_("a.example"), from_("a.example")),
    "two, and a signature": (*SIGNED, from_("bank.example")),
    "two, one spaced": (from_("a.example"), Field(b"From ", b" jo@bank.example")),
    "two addresses": (Field(b"From", b" jo@a.example, jo@bank.example"),),
    "a group": (Field(b"From", b" us: jo@a.example;"),),
}


@pytest.mark.parametrize("sent", AMBIGUOUS.values(), ids=AMBIGUOUS.keys())
def test_ambiguous_mail(sent, tmp_path, capsys):
    """It is refused in both roles, in each with the code that fits, before anybody is asked anything."""

    async def hand_on():
        async with running(tmp_path) as one:
            found = [(await role.hand_on(Sent(sent))).reply for role in (one.outside, one.inside)]
            assert (one.names.asked, one.connections) == ([], [])
            return found

    outside, inside = asyncio.run(hand_on())
    assert outside.startswith("550 5.7.1 ")
    assert inside == outside.replace("550 5.7.1 ", "550 5.6.0 not signed: ")
    verdict, line = capsys.readouterr().out.splitlines()
    assert json.loads(verdict)["result"] == "ambiguous"
    assert line.startswith("dmarc: : action=reject reason=")


# What each role removes, and what it leaves.
TAKEN = {
    "outside": ([b"Return-Path"], [b"Bcc", b"Resent-Bcc", b"Content-Length"]),
    "inside": ([b"Return-Path", b"Bcc", b"Resent-Bcc", b"Content-Length"], []),
}


@pytest.mark.parametrize("role", TAKEN)
def test_fields_that_must_not_stay(tmp_path, role):
    """Hidden recipients do not leave with our own mail; no message keeps a Return-Path that somebody else wrote."""
    removed, left = TAKEN[role]
    extra = [Field(name, b" x@ours.example") for name in (*removed, *left)]
    extra += [Field(one.name.lower(), one.value) for one in extra]
    found = seen(tmp_path, plain("a.example", *extra, **FROM_A), role=role)
    assert found.reply is None
    assert [name for name in removed if found.values(name)] == []
    assert [name for name in left if len(found.values(name)) != 2] == []
