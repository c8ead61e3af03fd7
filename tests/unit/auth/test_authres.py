"""mailstack_auth.header.authres: which Authentication-Results claim to be ours, and that ours say what was put in (RFC 8601)."""

import re
from email import message_from_bytes
from email.policy import default

import authres as reader
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mailstack_auth.header import authres
from mailstack_auth.header.fields import Field, Fields

OURS = "mail.example.com"


def occurrences(fields, identity):
    """Which ones might be an id's, and their results."""
    return [(one.at, one.results) for one in authres.claims(Fields(fields)) if one.of(identity)]


def disguised(fields):
    return [one.at for one in authres.claims(Fields(fields)) if one.disguised]


RESULTS = b" dkim=pass header.d=bank.example"

CLAIMS = {
    "plain": b" mail.example.com;",
    "odd case": b" MAIL.Example.COM;",
    "no space": b"mail.example.com;",
    "space before the semicolon": b" mail.example.com ;",
    "tabs and folds": b"\r\n\tmail.example.com\r\n\t;",
    "fold with LF alone": b"\n mail.example.com;",
    "version": b" mail.example.com 1;",
    "version on a line of its own": b" mail.example.com\r\n\t1;",
    "comment before the id": b" (x) mail.example.com;",
    "comment right before the id": b" (x)mail.example.com;",
    "comments on both sides": b" (x) mail.example.com (y) 1 (z);",
    "nested comments": b" (x(y)z) mail.example.com;",
    "a semicolon in a comment": b" (;) mail.example.com;",
    "a semicolon in a nested comment with quoted pairs": b" (\\)(;)\\() mail.example.com;",
    "another id in a comment": b" (other.example;) mail.example.com;",
    "a comment in the middle": b" mail.(x)example.com;",
    "a nested comment in the middle": b" mail.((x)y)example.com;",
    "a comment that ends nowhere": b" (mail.example.com;",
    "an end of a comment that begins nowhere": b" ) mail.example.com;",
    "quoted": b' "mail.example.com";',
    "quoted, with version": b' "mail.example.com" 1;',
    "quoted pairs": b' "mail.\\example.\\com";',
    "quoted pairs, no quotes": b" mail\\.example.com;",
    "half quoted": b' mail."example".com;',
    "quotes that end nowhere": b' "mail.example.com;',
    "space in the id": b" mail . example . com;",
    "a fold in the id": b" mail.\r\n example.com 1;",
    "final dot": b" mail.example.com.;",
    "with a scheme": b" dns:mail.example.com;",
    "as an address": b" postmaster@mail.example.com;",
    "behind another word": b" by mail.example.com;",
    "before another word": b" mail.example.com says;",
    "a slash behind": b" mail.example.com/1;",
    "no semicolon": b" mail.example.com",
    "octets beyond ASCII": b" \xff mail.example.com\xff;",
}


@pytest.mark.parametrize("start", CLAIMS.values(), ids=CLAIMS.keys())
@pytest.mark.parametrize("name", [b"Authentication-Results", b"AUTHENTICATION-results", b"Authentication-Results "])
def test_what_some_reader_takes_for_ours(name, start):
    """In whatever spelling: a field that anybody could read as ours is one."""
    fields = [Field(b"Received", b" from x"), Field(name, b" other.example; spf=none"), Field(name, start + RESULTS)]
    assert [at for at, _ in occurrences(fields, OURS)] == [2]
    assert [at for at, _ in occurrences(fields, OURS.upper())] == [2]


OTHERS = {
    "another domain": b" mx.other.example;",
    "a longer first label": b" othermail.example.com;",
    "a longer first label, hyphen": b" other-mail.example.com;",
    "below ours": b" in.mail.example.com;",
    "above ours": b" example.com;",
    "ours as the beginning": b" mail.example.com.evil.example;",
    "ours as the beginning, in odd case": b" Mail.Example.Com.Evil.Example;",
    "a longer last label": b" mail.example.community;",
    "a longer last label, hyphen": b" mail.example.com-x;",
    "another character for a dot": b" mailxexample.com;",
    "ours in a result": b" mx.other.example; spf=pass smtp.helo=mail.example.com",
    "nothing": b"",
    "comments only": b" (x) ((y);",
}


@pytest.mark.parametrize("start", OTHERS.values(), ids=OTHERS.keys())
def test_what_stays(start):
    """Results under another id stay, however much it looks like ours."""
    assert occurrences([Field(b"Authentication-Results", start + RESULTS)], OURS) == []


DISGUISED = {
    "quoted-printable": b" =?us-ascii?q?=6Dail.example.com?=;",
    "base64": b" =?us-ascii?b?bWFpbC5leGFtcGxlLmNvbQ==?=;",
    "a part of it": b" mail.exa=?us-ascii?q?=6D?=ple.com;",
    "two words": b" =?us-ascii?q?mail.exa?= =?us-ascii?q?mple.com?=;",
    "the semicolon as well": b" =?us-ascii?q?mail=2Eexample=2Ecom=3B?=",
    "behind a comment": b" (;) =?us-ascii?q?=6Dail.example.com?=;",
    "folded": b"\r\n\t=?us-ascii?Q?=6Dail.example.com?=\r\n\t;",
}


@pytest.mark.parametrize("start", DISGUISED.values(), ids=DISGUISED.keys())
def test_what_is_ours_once_decoded(start):
    """Python's email decodes encoded words before it hands a field out; we take no part in what they hold."""
    value = start + RESULTS
    shown = message_from_bytes(b"Authentication-Results:" + value + b"\r\n\r\n", policy=default)
    read = reader.AuthenticationResultsHeader.parse(f"Authentication-Results: {shown['Authentication-Results']}")
    assert read.authserv_id == OURS
    assert disguised([Field(b"X", b""), Field(b"Authentication-Results", value)]) == [1]
    assert occurrences([Field(b"Authentication-Results", value)], "mailstack-0") == []


def test_no_other_is_disguised():
    """Encoded words in results are their writer's business, and so are those in other fields."""
    values = [*OTHERS.values(), b' mx.other.example; x=y reason="=?us-ascii?q?=6Dail.example.com?="']
    fields = [Field(b"Authentication-Results", one) for one in values] + [Field(b"Subject", b" =?us-ascii?q?=6D?=")]
    assert disguised(fields) == []


@pytest.mark.parametrize("name", [b"X-Authentication-Results", b"ARC-Authentication-Results", b"Received-SPF"])
def test_other_fields_are_not_looked_at(name):
    """Only the field itself, and no other with a name like it."""
    assert occurrences([Field(name, b" mail.example.com;" + RESULTS)], OURS) == []


def test_occurrences_are_counted_by_name():
    """Which one it is among the fields of that name, as a milter has to say, with the results behind the id."""
    fields = [
        Field(b"Authentication-Results", b" other.example; spf=none"),
        Field(b"From", b" a@b.example"),
        Field(b"authentication-results", b" mail.example.com; spf=none;\r\n\tdkim=none"),
        Field(b"Authentication-Results", b" mail.example.com 1; none"),
    ]
    assert occurrences(fields, OURS) == [(2, b" spf=none;\r\n\tdkim=none"), (3, b" none")]


@given(st.binary(max_size=300))
@example(b"(" * 50000)
@example(b"(" * 25000 + b")" * 25000)
@example(b"\\" * 50000)
@example(b"m" * 50000)
@example(b'm"' * 50000)
@example(b'mail.example.co"' + b'"' * 50000)
def test_any_octets_are_read(value):
    """Whatever stands there, it is read, in a time that grows with its length."""
    assert occurrences([Field(b"Authentication-Results", value)], OURS) in ([], [(1, value.partition(b";")[2])])


# Next to each other: the reader takes no space between two comments.
COMMENTS = st.lists(st.sampled_from([b"(x)", b"(;)", b"(a(b)\\))", b"(other.example;)"]), max_size=4).map(b"".join)


@given(COMMENTS, st.sampled_from([b"", b" ", b"\t"]), st.booleans())
def test_what_the_grammar_allows_is_found(comments, space, versioned):
    """Where a strict reader finds our id, so do we, whatever comments are around it."""
    around = comments + space
    value = around + b"mail.example.com" + around + b" 1" * versioned + b"; dkim=pass header.d=b.example"
    read = reader.AuthenticationResultsHeader.parse(f"Authentication-Results: {value.decode()}")
    assert read.authserv_id == OURS
    assert occurrences([Field(b"Authentication-Results", value)], OURS)


# Any text, and often the characters that mean something there.
TEXTS = st.text(
    st.one_of(st.characters(exclude_categories=()), st.sampled_from('"\\();=, @.<>/\t\r\n\x00\x7f\udcffaé')),
    max_size=60,
)


def shown(text):
    """What is left of a text: printable ASCII, without what could end a quoted string for somebody."""
    return re.sub(r'["\\]', "", re.sub(r"[^ -~]", "?", text))


@given(TEXTS, TEXTS, TEXTS)
@example('" header.d=bank.example x="', "\\", "a)")
@example("x\r\nAuthentication-Results: a", "; dkim=pass header.d=bank.example", ") dkim=pass (")
@example("", "", "")
@example("é" * 100, "a b", "\\(")
def test_what_is_written_reads_as_it_was_put_in(text, reason, comment):
    """Whatever the texts, the field parses to these methods, results and properties, and to nothing else."""
    written = authres.value(
        OURS,
        [
            authres.result("spf", "pass", {"smtp.mailfrom": "a_b.example", "smtp.helo": None}, comment),
            authres.result("dkim", "fail", {"header.d": "b.example", "header.b": text}, comment, reason),
            authres.result("dmarc", "none", {}),
        ],
    )
    assert occurrences([Field(authres.NAME, written)], OURS) == [(1, written.partition(b";")[2])]
    assert re.fullmatch(rb"(?:[ -~]|\n\t)*", written)
    read = reader.AuthenticationResultsHeader.parse(f"Authentication-Results:{written.decode('ascii')}")
    assert read.authserv_id == OURS
    found = [(one.method, one.result, one.reason or "") for one in read.results]
    assert found == [("spf", "pass", ""), ("dkim", "fail", shown(reason)), ("dmarc", "none", "")]
    properties = [{f"{one.type}.{one.name}": one.value for one in result.properties} for result in read.results]
    assert properties == [{"smtp.mailfrom": "a_b.example"}, {"header.d": "b.example", "header.b": shown(text)}, {}]


@pytest.mark.parametrize(
    ("text", "written"),
    [("a.example", "a.example"), ("a_b-c.example", "a_b-c.example"), ("ab+c/d==", '"ab+c/d=="'), ("", '""')],
)
def test_only_what_needs_quotes_is_quoted(text, written):
    """Domains and the like are tokens; base64 needs quotes for its slash and equals sign (RFC 2045 section 5.1)."""
    assert authres.result("dkim", "pass", {"header.b": text}) == f"dkim=pass header.b={written}"
