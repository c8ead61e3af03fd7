"""mailstack_auth.dkim.signatures: the signatures of a message, and which of OpenDKIM's results are believed."""

import pytest
from cryptography.hazmat.primitives import hashes
from hypothesis import example, given
from hypothesis import strategies as st

from mailstack_auth.dkim.signatures import Signature, key_name, verified
from mailstack_auth.header.fields import Field
from unit.auth.test_verification import by_hand, of

MALFORMED = {
    "an algorithm that is no name": by_hand(a="rsa sha256").value,
    "no domain": by_hand(d=None).value,
    "no selector": by_hand(s=None).value,
    "no algorithm": by_hand(a=None).value,
    "no signature": b" a=rsa-sha256; d=a.example; s=s1",
    "empty domain": by_hand(d="").value,
    "empty selector": by_hand(s="").value,
    "parenthesis in d=": by_hand(d="bank.example(.a.example").value,
    "apostrophe in d=": by_hand(d="bank.example'a.example").value,
    "quotes in d=": by_hand(d='bank.example" x="a.example').value,
    "space in d=": by_hand(d="bank.example a.example").value,
    "NUL in s=": by_hand(s="s._domainkey.a.example.\x00.any").value,
    "slash in s=": by_hand(s="s/1").value,
    "octets in d=": b" a=rsa-sha256; d=\xff.example; s=s1; b=AAAA",
    "octets in b=": b" a=rsa-sha256; d=a.example; s=s1; b=\xff",
    "two domains": b" a=rsa-sha256; d=a.example; d=bank.example; s=s1; b=AAAA",
    "no tags": b" nonsense",
    "nothing": b"",
    "garbage": b" ;;;=;\x01",
}


@pytest.mark.parametrize("value", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed(value):
    """It has no domain that anything could align with, and nothing of it is shown."""
    expected = [Signature(0, None, final=True, plain=False, result="permerror", reason="malformed signature")]
    assert of([Field(b"DKIM-Signature", value)]) == expected


LONG_NAME = ".".join(["a" * 60] * 4)
FINAL = {
    "rsa-sha1": (by_hand(a="rsa-sha1", digest=hashes.SHA1).value, "the algorithm is not supported"),
    "unknown algorithm": (by_hand(a="rsa-md5").value, "the algorithm is not supported"),
    "a long field": (by_hand(x1="y" * 4000).value, "the signature field is too long"),
    "a long domain": (by_hand(d=LONG_NAME).value, "the name of the key is too long"),
    "a long selector": (by_hand(s=LONG_NAME).value, "the name of the key is too long"),
}


@pytest.mark.parametrize(("value", "reason"), FINAL.values(), ids=FINAL.keys())
def test_what_can_be_no_pass(value, reason):
    """It is known by its domain, whatever OpenDKIM says of it, and nobody looks up its key (RFC 8301 section 3.1)."""
    (found,) = of([Field(b"DKIM-Signature", value)])
    assert (found.result, found.reason, found.open) == ("permerror", reason, False)
    told = PASS.replace("d=a.example", f"d={found.domain}").replace("s=s1", f"s={found.selector}")
    told = told.replace("AAAABBBB", found.start[:8])
    assert verified([found], [told.encode()]) == [found]


def test_signatures_of_a_message():
    """They are counted from the top, in any letter case; what a result needs of each is known, and none is verified."""
    message = [
        Field(b"Received", b" x"),
        Field(
            b"dkim-signature", b" v=1; a=rsa-sha256; d=A.example;\n\ts=S1; l=5; i=@a.example; b=abcd\n efgh\n ijkl=="
        ),
        Field(b"X-DKIM-Signature", b" a=rsa-sha256; d=x.example; s=s; b=AAAA"),
        Field(b"DKIM-Signature", b" nonsense"),
        Field(b"DKIM-Signature", b" a=ed25519-sha256; d=b.example; s=_s.2; b=AAAA; i=x=3By@b.example"),
    ]
    found = of(message)
    assert found == [
        Signature(0, "a.example", "s1", "rsa-sha256", "abcdefghijkl==", partial=True, reason="not verified"),
        Signature(1, None, final=True, plain=False, result="permerror", reason="malformed signature"),
        Signature(2, "b.example", "_s.2", "ed25519-sha256", "AAAA", plain=False, reason="not verified"),
    ]
    assert [one.result for one in found] == ["neutral", "permerror", "neutral"]
    assert key_name(found[2]) == "_s.2._domainkey.b.example"


ONE, TWO = "AAAABBBBCCCCDDDD", "EEEEFFFF/+GG=="
SIGNATURES = [
    Signature(0, "a.example", "s1", "rsa-sha256", ONE),
    Signature(1, "b.example", "s2", "ed25519-sha256", TWO),
]
PASS = (
    "dkim=pass (2048-bit key) header.d=a.example header.i=@a.example header.a=rsa-sha256 header.s=s1 header.b=AAAABBBB"
)
FAIL = (
    'dkim=fail reason="signature verification failed" (256-bit key) header.d=b.example header.i=@b.example'
    ' header.a=ed25519-sha256 header.s=s2 header.b="EEEEFFFF/"'
)
MORE = "dkim=pass header.d=bank.example header.i=@bank.example header.a=rsa-sha256 header.s=s header.b=XXXXYYYY"
UNKNOWN, BOTH = ("neutral", "neutral"), ("pass", "fail")
# OpenDKIM's fields, behind the id; the results that are taken from them.
OPENDKIM = {
    "both in one field": ([f" {PASS};\r\n\t{FAIL}"], BOTH),
    "a field for each": ([f" {PASS}", f" {FAIL}"], BOTH),
    "the other order": ([f" {FAIL};\r\n\t{PASS}"], BOTH),
    "folded": ([f" {PASS};\n\t{FAIL}".replace(" header.i", "\r\n\t header.i")], BOTH),
    "odd case": ([f" {PASS};{FAIL}".replace("a.example", "A.Example").replace("s=s2", "s=S2")], BOTH),
    "no key size": ([f" {PASS};{FAIL}".replace(" (2048-bit key)", "")], BOTH),
    "more of b=": ([f" {PASS}CCCC; {FAIL}"], BOTH),
    "other results": (
        [f" {PASS};{FAIL}".replace("pass", "neutral").replace("=fail", "=permerror")],
        ("neutral", "permerror"),
    ),
    "none": ([], UNKNOWN),
    "an empty one": ([""], UNKNOWN),
    "no result": ([" none"], UNKNOWN),
    "no signature": ([" dkim=none"], UNKNOWN),
    "one is missing": ([f" {PASS}"], ("pass", "neutral")),
    "another one is missing": ([f" {FAIL}"], ("neutral", "fail")),
    "one twice": ([f" {PASS}; {PASS}"], UNKNOWN),
    "one twice, and the other": ([f" {PASS}; {PASS}; {FAIL}"], UNKNOWN),
    "twice with other results": ([f" {PASS}; {PASS.replace('pass', 'fail')}"], UNKNOWN),
    "one of no signature": ([f" {PASS}; {FAIL}; {MORE}"], UNKNOWN),
    "one of no signature instead": ([f" {PASS}; {MORE}"], UNKNOWN),
    "another domain": ([f" {PASS.replace('d=a', 'd=c')}; {FAIL}"], UNKNOWN),
    "another selector": ([f" {PASS.replace('s=s1', 's=s')}; {FAIL}"], UNKNOWN),
    "another signature": ([f" {PASS.replace('b=AAAA', 'b=AAAB')}; {FAIL}"], UNKNOWN),
    "too little of b=": ([f" {PASS.replace('AAAABBBB', 'AAAABBB')}; {FAIL}"], UNKNOWN),
    "no b=": ([f" {PASS.partition(' header.b')[0]}; {FAIL}"], UNKNOWN),
    "a final semicolon": ([f" {PASS}; {FAIL};"], BOTH),
    "another method": ([f" {PASS}; {FAIL}; spf=pass"], UNKNOWN),
    "another property": ([f" {PASS} header.x=y; {FAIL}"], UNKNOWN),
    "another order of properties": (
        [f" dkim=pass header.i=@a.example header.d=a.example header.s=s1 header.b={ONE}; {FAIL}"],
        UNKNOWN,
    ),
    "a semicolon in i=": ([f" {PASS.replace('i=@', 'i=x;@')}; {FAIL}"], UNKNOWN),
    "a result in i=": ([f" {FAIL.replace('i=@', f'i=x header.a=y header.s=s2 header.b={TWO}; {PASS};@')}"], UNKNOWN),
    "space in i=": ([f" {PASS.replace('i=@', 'i=x y@')}; {FAIL}"], UNKNOWN),
    "NUL": ([f" {PASS}\x00; {FAIL}"], UNKNOWN),
}


@pytest.mark.parametrize(("results", "taken"), OPENDKIM.values(), ids=OPENDKIM.keys())
def test_opendkims_results(results, taken):
    """They count where each belongs to one signature of its own; else nothing is known of any."""
    found = verified(SIGNATURES, [one.encode("latin-1") for one in results])
    assert tuple(one.result for one in found) == taken
    # Nothing that OpenDKIM has told says that it was not verified.
    (parsed,) = of([Field(b"DKIM-Signature", b" a=rsa-sha256; d=a.example; s=s1; b=AAAABBBBCCCC")])
    (told,) = verified([parsed], [PASS.encode()])
    assert (parsed.reason, told.result, told.reason) == ("not verified", "pass", "")
    assert [one._replace(result="neutral", key="") for one in found] == SIGNATURES


def test_a_malformed_signature_leaves_nothing_known():
    """OpenDKIM stops at one that is none; whatever it writes then is looked at again."""
    (broken,) = of([Field(b"DKIM-Signature", b" nonsense")])
    broken = broken._replace(at=1)
    for results in ([PASS], [PASS, FAIL], [PASS, "dkim=permerror"]):
        assert verified([SIGNATURES[0], broken], [one.encode() for one in results]) == [SIGNATURES[0], broken]


def test_a_pass_of_a_part_is_looked_at_again():
    """OpenDKIM passes l=, whatever follows; its other results for such a signature stand."""
    partial = [SIGNATURES[0]._replace(partial=True), SIGNATURES[1]._replace(partial=True)]
    found = verified(partial, [f"{PASS};{FAIL}".encode()])
    assert [one.result for one in found] == ["neutral", "fail"]


def test_an_odd_identity_leaves_nothing_known():
    """i= is shown decoded, so it could hold a whole result for a signature that OpenDKIM says nothing of."""
    evil = SIGNATURES[1]._replace(plain=False)
    shown = FAIL.replace("i=@b.example", f"i=x header.a=y header.s=s2 header.b={TWO[:8]}; {PASS}")
    written = shown.partition(" header.a=ed25519")[0]
    assert [one.result for one in verified(SIGNATURES, [written.encode()])] == ["pass", "fail"]
    assert verified([SIGNATURES[0], evil], [written.encode()]) == [SIGNATURES[0], evil]


def test_signatures_that_look_alike_are_looked_at_again():
    """Two with one domain, selector and beginning: a result could be either's."""
    alike = [SIGNATURES[0], SIGNATURES[0]._replace(at=1, start="AAAABBBBXXXX")]
    assert verified(alike, [f"{PASS}; {PASS}".encode()]) == alike
    told = [f"{PASS}CC; {PASS.replace('pass', 'fail')}XX".encode()]
    assert [one.result for one in verified(alike, told)] == ["pass", "fail"]


def test_no_signatures():
    """Then there is nothing to know."""
    assert verified([], [b" dkim=none"]) == verified([], []) == of([]) == []


@given(st.lists(st.binary(max_size=100), max_size=3))
@example([b"dkim=pass " * 20000])
@example([b"dkim=pass" + b" " * 60000])
@example([b"dkim=pass header.d=" + b"a" * 60000])
@example([b" " * 60000])
@example([b"dkim=" + b"a" * 60000])
@example([b"(" * 60000])
def test_strangers_octets_are_no_results(results):
    """Whatever stands in a field under the internal id, it is read in a moment, and makes no pass."""
    assert verified(SIGNATURES, results) == SIGNATURES
