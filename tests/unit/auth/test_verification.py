"""mailstack_auth.dkim.verification: signatures verified by us, beside dkimpy (RFC 6376, 8301, 8463)."""

import base64
import functools
import re
import time

import dkim
import dkim.canonicalization
import dkim.util
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa
from dkim.canonicalization import Relaxed, Simple
from hypothesis import example, given
from hypothesis import strategies as st

from mailstack_auth.dkim import canonical, signatures
from mailstack_auth.dkim.tags import tag_list
from mailstack_auth.dkim.verification import Body, Verifier
from mailstack_auth.header.fields import Field, Fields
from support import rsa_public

HEAD = b"From: Jo <jo@a.example>\r\nTo: b@b.example\r\nSubject: one\r\n two\r\n"
BODY = b"Hello  there \t\r\n\r\nBye\r\n\r\n\r\n"
# The primes of a key of 512 bits, which cryptography makes no more.
SHORT = (
    112044975463447431974753746415438577796346623830477510345096292523070368531863,
    106168160885493361833090639656106478681597814942229234844125391695922209192439,
)


@functools.cache
def key(kind):
    """A private key as dkimpy takes it, and its record."""
    if kind == "ed25519":
        private = ed25519.Ed25519PrivateKey.generate()
        public = private.public_key().public_bytes_raw()
        return base64.b64encode(private.private_bytes_raw()), b"v=DKIM1; k=ed25519; p=" + base64.b64encode(public)
    if kind == 512:
        (p, q), e = SHORT, 65537
        d = pow(e, -1, (p - 1) * (q - 1))
        numbers = (p, q, d, d % (p - 1), d % (q - 1), pow(q, -1, p), rsa.RSAPublicNumbers(e, p * q))
        private = rsa.RSAPrivateNumbers(*numbers).private_key()
    else:
        private = rsa.generate_private_key(65537, 1024 if kind == "another" else kind)
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    public = private.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return pem, b"v=DKIM1; k=rsa; p=" + base64.b64encode(public)


def fields(head):
    """A head's fields as Postfix hands them on."""
    found = re.findall(rb"([^:\r\n]+):((?:[^\r\n]|\r\n[ \t])*)\r\n", head)
    return [Field(name, value.replace(b"\r\n", b"\n")) for name, value in found]


def of(found):
    return signatures.of(Fields(found))


def verify(signature, found, body, record):
    """The signature with what is found when the body comes in two pieces."""
    (field,) = [one for at, one in enumerate(signatures.fields(Fields(found))) if at == signature.at]
    hashes_of_body = Body([field.value])
    middle = len(body) // 2
    for piece in (body[:middle], body[middle:]):
        hashes_of_body.add(piece)
    return signature.found(Verifier(Fields(found), hashes_of_body).verify(field, record))


def sign(kind=1024, *, head=HEAD, body=BODY, algorithm=b"rsa-sha256", c=b"relaxed/relaxed", **options):
    """The field of a signature that dkimpy makes."""
    made = dkim.sign(
        head + b"\r\n" + body,
        b"S1",
        b"A.example",
        key(kind)[0],
        signature_algorithm=algorithm,
        canonicalize=tuple(c.split(b"/")),
        **options,
    )
    return fields(made)[0]


def by_hand(*, body=BODY, digest=hashes.SHA256, **tags):
    """The field of a signature with any tags, right in all else; those that are None are left out."""
    standard = {"v": "1", "a": "rsa-sha256", "c": "relaxed/relaxed", "d": "a.example", "s": "s1", "h": "from:subject"}
    canonical = Relaxed.canonicalize_body(body)[: int(tags.get("l", len(body)))]
    made = standard | {"bh": base64.b64encode(hash_of(digest, canonical)).decode()} | tags
    value = "".join(f" {name}={text};" for name, text in made.items() if text is not None).encode() + b" b="
    head = Relaxed.canonicalize_headers(dkim.rfc822_parse(HEAD)[0])
    signed = dkim.select_headers(head, [one.strip().lower() for one in str(made["h"]).encode().split(b":")])
    octets = b"".join(b"%s:%s" % one for one in signed) + b"dkim-signature:" + value.strip()
    private = serialization.load_pem_private_key(key(1024)[0], None)
    return Field(b"DKIM-Signature", value + base64.b64encode(private.sign(octets, padding.PKCS1v15(), digest())))


def hash_of(digest, octets):
    found = hashes.Hash(digest())
    found.update(octets)
    return found.finalize()


TAGS = st.one_of(
    st.binary(max_size=30), st.text("ab1_ =;:\t\r\n", max_size=12).map(str.encode), st.sampled_from([b"v=1; a = b ;"])
)


@given(TAGS)
@example(b"; ")
@example(b"a=1;;")
@example(b"a=1; a=2")
@example(b"a=1; A=2=3 ")
def test_tags_are_read_as_dkimpy_reads_them(octets):
    """Who looks at a signature and who verifies it must not differ; of nothing at all nobody makes a signature."""
    try:
        expected = dkim.util.parse_tag_value(octets)
    except dkim.util.InvalidTagValueList:
        expected = None
    try:
        found = tag_list(octets)
    except ValueError:
        found = None
    assert found == (expected or None)


@pytest.mark.parametrize("record", [b"", b" ", b";", b"nonsense", b"p=a; p=b"])
def test_a_malformed_key_record(record):
    """The reason says so, for who publishes it."""
    assert look(sign(), record=record) == ("permerror", "the key record is malformed")


def look(field, *, kind=1024, head=HEAD, body=BODY, record=None):
    """The second look at one signature on top of a message."""
    everything = [field, *fields(head)]
    (signature,) = of(everything)
    found = verify(signature, everything, body, key(kind)[1] if record is None else record)
    return found.result, found.reason


CANONICALISATIONS = [b"relaxed/relaxed", b"relaxed/simple", b"simple/relaxed", b"simple/simple"]


@pytest.mark.parametrize("c", CANONICALISATIONS)
@pytest.mark.parametrize(
    "body", [BODY, b"", b"\r\n", b"no end of line", b" \t\r\n \r\n", b"\xff\x01.\r\n..\r\n", b"\r\n\r\nx"]
)
def test_pass(c, body):
    """A signature that is right passes, whatever its canonicalisation and the body."""
    assert look(sign(body=body, c=c), body=body) == ("pass", "")


def test_pass_of_other_keys():
    """Ed25519 (RFC 8463), and RSA of other lengths."""
    assert look(sign("ed25519", algorithm=b"ed25519-sha256"), kind="ed25519") == ("pass", "")
    assert look(sign(2048), kind=2048) == ("pass", "")


def test_what_each_canonicalisation_allows():
    """Space and folds changed on the way: relaxed forgives them, simple does not."""
    head, body = HEAD.replace(b"Subject: one\r\n two", b"subject:  one two "), BODY.replace(b"  there \t", b" there")
    assert look(sign(), head=head, body=body) == ("pass", "")
    assert look(sign(c=b"relaxed/simple"), head=head, body=BODY) == ("pass", "")
    assert look(sign(c=b"relaxed/simple"), head=HEAD, body=body) == ("fail", "the body was altered")
    assert look(sign(c=b"simple/relaxed"), head=HEAD, body=body) == ("pass", "")
    assert look(sign(c=b"simple/relaxed"), head=head, body=BODY) == ("fail", "the header was altered")
    assert look(sign(), body=BODY.replace(b"\r\n", b"\n")) == ("pass", "")


# What the message has become, by which key and record it is verified; the result.
ALTERED = {
    "another body": ({"body": BODY + b"PS\r\n"}, "fail"),
    "a shorter body": ({"body": BODY[:-12]}, "fail"),
    "no body": ({"body": b""}, "fail"),
    "another From": ({"head": HEAD.replace(b"Jo ", b"Jane ")}, "fail"),
    "another Subject": ({"head": HEAD.replace(b"two", b"three")}, "fail"),
    "a second From": ({"head": b"From: x@bank.example\r\n" + HEAD}, "fail"),
    "a second From below": ({"head": HEAD + b"From: x@bank.example\r\n"}, "fail"),
    "another key": ({"kind": "another"}, "fail"),
    # RFC 8017 section 8.2.2: such a signature is none of the key's, whatever it says.
    "another key, of another length": ({"kind": 2048}, "permerror"),
    "another key, and another body": ({"kind": 2048, "body": b""}, "fail"),
    "a record that is none": ({"record": b"nonsense"}, "permerror"),
    "a record without a key": ({"record": b"v=DKIM1; k=rsa"}, "permerror"),
    "a key that is no key": ({"record": b"v=DKIM1; p=AAAA"}, "permerror"),
    "a key that is no base64": ({"record": b"v=DKIM1; p=\xff!"}, "permerror"),
    "a key of no kind": ({"record": b"v=DKIM1; k=dsa; p=AAAA"}, "permerror"),
    "a key of another version": ({"record": key(1024)[1].replace(b"DKIM1", b"DKIM2")}, "permerror"),
    "an empty record": ({"record": b""}, "permerror"),
    "a revoked key": ({"record": b"v=DKIM1; p="}, "permerror"),
    "many other fields": ({"head": HEAD + b"X-Y: z\r\n" * 4000}, "pass"),
}


@pytest.mark.parametrize(("become", "result"), ALTERED.values(), ids=ALTERED.keys())
def test_altered_messages_and_odd_keys(become, result):
    """What was altered fails; what cannot be verified is a permanent error (RFC 8601 section 2.7.1)."""
    assert look(sign(), **become)[0] == result


# What the record says beside the key, and the signature's i=; the result.
LIMITS = {
    "hash algorithms, ours among them": (b"h=sha1 : sha256", None, "pass"),
    "other hash algorithms": (b"h=sha1", None, "permerror"),
    "no hash algorithm": (b"h=", None, "permerror"),
    "all services": (b"s=*", None, "pass"),
    "mail among other services": (b"s=tlsrpt : email", None, "pass"),
    "other services": (b"s=tlsrpt:Email", None, "permerror"),
    "TLS reports alone": (b"s=tlsrpt", None, "permerror"),
    "no sub-domains": (b"t=y : s", None, "pass"),
    "no sub-domains, and i= is none": (b"t=s", "jo@A.example", "pass"),
    "no sub-domains, but i= is one": (b"t=y:s", "jo@b.a.example", "permerror"),
    "sub-domains": (b"t=y", "jo@b.a.example", "pass"),
}


@pytest.mark.parametrize(("limit", "identity", "result"), LIMITS.values(), ids=LIMITS.keys())
def test_what_a_key_is_for(limit, identity, result):
    """A key record may limit its use (RFC 6376 section 3.6.1, h=, s= and t=s)."""
    assert look(by_hand(i=identity), record=key(1024)[1] + b"; " + limit)[0] == result


def test_short_keys_are_no_pass():
    """RFC 8301 section 3.2."""
    assert look(sign(512), kind=512) == ("permerror", "the key has 512 bits")


TAGS = {
    "as it should be": ({}, "pass"),
    "spaced": ({"h": "from : subject", "d": " a.example ", "s": " s1"}, "pass"),
    "odd case": ({"h": "FROM:Subject", "d": "A.Example", "s": "S1"}, "pass"),
    "oversigned": ({"h": "from:from:subject:subject:x:x"}, "pass"),
    "i= below d=": ({"i": "jo@b.a.example"}, "pass"),
    "i= with an encoding": ({"i": "j=6Fe@a.example"}, "pass"),
    "unknown tags": ({"x1": "y", "zz": ""}, "pass"),
    "x= in days to come": ({"t": "1500000000", "x": "99999999999"}, "pass"),
    "x= is over": ({"t": "1500000000", "x": "1500086400"}, "fail"),
    "t= in days to come": ({"t": "99999999999"}, "fail"),
    "x= is not a number": ({"x": "never"}, "permerror"),
    "From is not signed": ({"h": "subject"}, "permerror"),
    "From is not signed, but a field with a name like it": ({"h": "x-from:fromm:subject"}, "permerror"),
    "no version": ({"v": None}, "permerror"),
    "another version": ({"v": "2"}, "permerror"),
    "another query method": ({"q": "http"}, "permerror"),
    "ours among other query methods": ({"q": "dns/txt:x"}, "pass"),
    "the same, spaced and in capitals": ({"q": "x : DNS/TXT"}, "pass"),
    "x= is before t=": ({"t": "1500086400", "x": "1500000000"}, "permerror"),
    "i= of another domain": ({"i": "jo@bank.example"}, "permerror"),
    "i= of a longer name": ({"i": "jo@xa.example"}, "permerror"),
    "another canonicalisation": ({"c": "odd/odd"}, "permerror"),
    "no body hash": ({"bh": None}, "permerror"),
    "l= of all": ({"l": len(Relaxed.canonicalize_body(BODY))}, "pass"),
    "l= of more": ({"l": 10**6}, "permerror"),
    "l= of a part": ({"l": 5}, "policy"),
    "l= of nothing": ({"l": 0}, "policy"),
    "l= below nothing": ({"l": -1}, "permerror"),
    "absurdly long": ({"x1": "y" * 9000}, "permerror"),
}


@pytest.mark.parametrize(("tags", "result"), TAGS.values(), ids=TAGS.keys())
def test_tags(tags, result):
    """What the holder of a key may say in a signature, and what is none (RFC 6376 section 3.5)."""
    assert look(by_hand(**tags))[0] == result


def record_of(modulus, exponent):
    return f"v=DKIM1; k=rsa; p={rsa_public(modulus, exponent)}".encode()


HUGE = {
    "a modulus of 24,576 bits": record_of((1 << 24575) + 1, 65537),
    "a modulus of 8200 bits": record_of((1 << 8199) + 1, 65537),
    "both of 24,576 bits": record_of((1 << 24575) + 1, (1 << 24575) - 1),
    "an exponent of 8192 bits": record_of((1 << 2047) + 1, (1 << 8191) + 1),
    "an exponent of 34 bits": record_of((1 << 2047) + 1, (1 << 33) + 1),
    "a record of 60 kB": record_of((1 << 340000) + 1, 3),
}


@pytest.mark.parametrize("record", HUGE.values(), ids=HUGE.keys())
def test_huge_keys_take_no_time(record):
    """A key that a stranger publishes is measured before anything is computed with it."""
    signed = by_hand().value.rpartition(b"b=")[0] + b"b=" + base64.b64encode(b"\x7f" * 256)
    all_fields = [Field(b"DKIM-Signature", signed), *fields(HEAD)]
    started = time.thread_time()
    done = verify(of(all_fields)[0], all_fields, BODY, record)
    assert (done.result, time.thread_time() - started < 0.1) == ("permerror", True)


def test_appended_text_is_no_pass():
    """What stands behind l= octets could be anybody's (RFC 6376 section 8.2)."""
    field = sign(length=True)
    assert look(field) == ("pass", "")
    assert look(field, body=BODY.rstrip() + b"\r\nPS\r\n") == ("policy", "l= leaves a part of the body unsigned")


def test_the_right_one_of_several_is_verified():
    """A good signature passes above, between and below others, whatever they are."""
    good, bad = sign(), Field(b"DKIM-Signature", b" ;;;=;\x01")
    wrong = sign(body=b"another\r\n")
    for message in ([good, bad, wrong], [bad, wrong, good], [wrong, good, bad]):
        found = of([*message, *fields(HEAD)])
        at = message.index(good)
        assert verify(found[at], [*message, *fields(HEAD)], BODY, key(1024)[1]).result == "pass"
        at = message.index(wrong)
        assert verify(found[at], [*message, *fields(HEAD)], BODY, key(1024)[1]).result == "fail"


@given(st.binary(max_size=200), st.binary(max_size=200), st.binary(max_size=100))
@example(b" v=1; a=rsa-sha256; d=a.example; s=s1; h=from; b=A; bh=A", b"\r\n", b"v=DKIM1; p=AAAA")
@example(b" v=1; a=rsa-sha256; d=a.example; s=s1; h=from; b=AAAA; bh=AAAA; l=" + b"9" * 76, b"", key(1024)[1])
@example(b" v=1; a=rsa-sha256; d=a.example; s=s1; h=from; b=AAAA; bh=AAAA; c=/", b"", key(1024)[1])
def test_strangers_octets_are_no_pass_and_no_end(value, body, record):
    """Whatever stands in a signature, a body and a key record: a result, and no pass."""
    everything = [Field(b"DKIM-Signature", value), *fields(HEAD)]
    (signature,) = of(everything)
    assert verify(signature, everything, body, record).result in {"fail", "permerror"}


BIG = 200_000
HEAVY = {
    "space in the body": ({}, b" " * BIG + b"x"),
    "lines in the body": ({}, b"\r\n" * BIG + b"x"),
    "empty lines in the end": ({}, b"\r\n" * BIG),
    "space before line ends": ({}, b" \t\r\n" * BIG),
    "space in the signature": ({"x1": " " * BIG + "y"}, b""),
    "folds in the signature": ({"x1": "\r\n " * BIG + "y"}, b""),
    "names in the signature": ({"h": "from" + "".join(f":{at}" for at in range(BIG // 10))}, b""),
}


@pytest.mark.parametrize(("tags", "body"), HEAVY.values(), ids=HEAVY.keys())
@pytest.mark.parametrize("c", ["relaxed/relaxed", "simple/simple"])
def test_time_is_linear(c, tags, body):
    """A message that is made to be slow is none: dkimpy holds all of Python while it looks for space."""
    everything = [by_hand(c=c, **tags), *fields(HEAD), *[Field(b"X-Y", b" z")] * 1000]
    start = time.process_time()
    assert verify(of(everything)[0], everything, body, key(1024)[1]).result in {"fail", "permerror"}
    assert time.process_time() - start < 1


def test_many_names_and_many_fields():
    """As many as a signature and a header may have: they are not compared each with each."""
    names = ":".join(f"{at:x}" for at in range(256, 756))
    everything = [by_hand(h=f"from:{names}"), *fields(HEAD), *[Field(b"X-Y", b" z")] * 4000]
    (signature,) = of(everything)

    def seconds():
        start = time.process_time()
        assert verify(signature, everything, BODY, key(1024)[1]).result == "pass"
        return time.process_time() - start

    assert min(seconds() for _ in range(3)) < 0.1


LONG = 16 * 1024 * 1024
HOURS = 3600


@pytest.mark.parametrize(
    ("tags", "result"),
    [
        ({"x": -60}, ("pass", "")),
        ({"x": -9 * HOURS}, ("fail", "the signature has expired")),
        ({"x": -600}, ("fail", "the signature has expired")),
        ({"t": 60}, ("pass", "")),
        ({"t": 9 * HOURS}, ("fail", "the signature is from the future")),
        ({"t": 600, "x": 900}, ("fail", "the signature is from the future")),
        ({"t": -HOURS, "x": HOURS}, ("pass", "")),
    ],
)
def test_clocks_may_differ_by_minutes(tags, result):
    """Five minutes; then it is no pass, and the reason says why."""
    now = int(time.time())
    assert look(by_hand(**{tag: now + seconds for tag, seconds in tags.items()})) == result


ED25519, RSA = key("ed25519")[1], key(1024)[1]
TYPES = {
    "Ed25519's key as RSA's": (sign("ed25519", algorithm=b"ed25519-sha256"), ED25519.replace(b"k=ed25519", b"k=rsa")),
    "Ed25519's key without a type": (
        sign("ed25519", algorithm=b"ed25519-sha256"),
        ED25519.replace(b"k=ed25519; ", b""),
    ),
    "RSA's key as Ed25519's": (sign(), RSA.replace(b"k=rsa", b"k=ed25519")),
    "Ed25519's signature as RSA's": (
        Field(
            b"DKIM-Signature",
            sign("ed25519", algorithm=b"ed25519-sha256").value.replace(b"a=ed25519-sha256", b"a=rsa-sha256"),
        ),
        ED25519,
    ),
    "RSA's signature as Ed25519's": (by_hand(a="ed25519-sha256"), RSA),
    "both wrong in the same way": (by_hand(a="ed25519-sha256"), RSA.replace(b"k=rsa", b"k=ed25519")),
    "another type": (sign(), RSA.replace(b"k=rsa", b"k=x")),
}


@pytest.mark.parametrize(("field", "record"), TYPES.values(), ids=TYPES.keys())
def test_key_and_algorithm_belong_together(field, record):
    """RFC 6376 section 6.1.2, step 6."""
    result, reason = look(field, record=record)
    assert (result, reason) in {("permerror", "the key is for another algorithm"), ("permerror", "the key is unusable")}


LARGE = {
    "words of one letter": b"a b " * (LONG // 4),
    "space before line ends": b"a \t\r\n" * (LONG // 5),
    "empty lines in the end": b"\r\n" * (LONG // 2),
}


@pytest.mark.parametrize("body", LARGE.values(), ids=LARGE.keys())
def test_the_longest_body_takes_no_seconds(body):
    """Nothing else works while a piece is hashed, so that it must not take long; all of it, for five such messages."""
    everything = [by_hand(), *fields(HEAD)]
    start = time.process_time()
    assert verify(of(everything)[0], everything, body, key(1024)[1]).result == "fail"
    assert time.process_time() - start < 2


PIECES = st.lists(
    st.sampled_from([b" ", b"\t", b"\r\n", b"\r", b"\n", b"a", b"\v", b" \r\n", b"\r\n\r\n"]), max_size=12
)


@given(PIECES)
@example([])
@example([b"\r\n", b"\r\n"])
@example([b"a\r", b"\r\n\r\n"])
@example([b"a ", b"\r", b"\n"])
@example([b" ", b"\r\n", b"b", b" "])
def test_bodies_are_hashed_as_dkimpy_canonicalizes_them(pieces):
    """Whatever the pieces are in which a body comes; one ends with a line end, as every body does in SMTP."""
    whole = re.sub(rb"\r?\n", b"\r\n", b"".join(pieces) + b"\r\n")
    for name, theirs in (("simple", Simple), ("relaxed", Relaxed)):
        body = Body([b"c=relaxed/" + name.encode()])
        for piece in (*pieces, b"\r\n"):
            body.add(piece)
        canonical = theirs.canonicalize_body(whole)
        assert body.digest(name) == (hash_of(hashes.SHA256, canonical), len(canonical))


TEXTS = st.text(" \t\nax", max_size=12).map(str.encode)
FIELDS = st.tuples(st.sampled_from([b"Subject", b"sUBJECT "]), TEXTS)


@given(FIELDS)
def test_fields_are_canonicalized_as_dkimpy_does(field):
    """Both ways, with folds as Postfix hands them on."""
    name, value = field[0], re.sub(rb"\r?\n", b"\r\n ", field[1])
    for ours, theirs in (("simple", Simple), ("relaxed", Relaxed)):
        ((expected, text),) = theirs.canonicalize_headers([(name, value + b"\r\n")])
        assert canonical.field(ours, name, value) == expected + b":" + text
