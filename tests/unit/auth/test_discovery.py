"""mailstack_auth.dmarc.discovery: policy records, the tree walk, policy discovery and alignment (RFC 9989 sections 4.7 to 4.10)."""

import asyncio

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mailstack_auth.dmarc.discovery import Published, RecordError, Tree, parse


class NoAnswerError(Exception):
    """DNS gives no answer."""


class Zone:
    """Records by domain, without "_dmarc."; one that is None gives no answer. Names that exist besides; what was asked."""

    def __init__(self, records, existing=()):
        self._records = {domain: [one] if isinstance(one, str) else one for domain, one in records.items()}
        self._existing = {*records, *existing}
        self.asked = []

    async def texts(self, name):
        self.asked.append(name)
        domain = name.removeprefix("_dmarc.")
        assert name == f"_dmarc.{domain}"
        found = self._records.get(domain, [])
        if found is None:
            raise NoAnswerError
        return [one if isinstance(one, bytes) else one.encode() for one in found]

    async def exists(self, name):
        self.asked.append(name)
        if self._records.get(name, []) is None:
            raise NoAnswerError
        return name in self._existing


def published(author, zone):
    return asyncio.run(Tree(zone).published(author))


# What a record says, beside the defaults.
DEFAULTS = {"sp": None, "np": None, "adkim": "r", "aspf": "r", "psd": "u", "testing": False, "fo": "0", "rua": ""}
RECORDS = {
    "v=DMARC1; p=none": {"p": "none"},
    "v=DMARC1; p=quarantine": {"p": "quarantine"},
    "v=DMARC1; p=reject": {"p": "reject"},
    "v=DMARC1;p=reject;": {"p": "reject"},
    "v=DMARC1; p=reject ; ": {"p": "reject"},
    "v = DMARC1 ; p = reject": {"p": "reject"},
    "v=DMARC1\t;\tp\t=\treject": {"p": "reject"},
    "V=DMARC1; P=Reject; SP=QUARANTINE; ADKIM=S": {"p": "reject", "sp": "quarantine", "adkim": "s"},
    "v=DMARC1; sp=none; np=reject; p=quarantine": {"p": "quarantine", "sp": "none", "np": "reject"},
    "v=DMARC1; p=reject; adkim=s; aspf=s": {"p": "reject", "adkim": "s", "aspf": "s"},
    "v=DMARC1; p=reject; adkim=r; aspf=r": {"p": "reject"},
    "v=DMARC1; p=reject; adkim=strict; aspf=": {"p": "reject"},
    "v=DMARC1; p=reject; psd=y": {"p": "reject", "psd": "y"},
    "v=DMARC1; p=reject; psd=N": {"p": "reject", "psd": "n"},
    "v=DMARC1; p=reject; psd=u": {"p": "reject"},
    "v=DMARC1; p=reject; psd=x": {"p": "reject"},
    "v=DMARC1; p=reject; t=y": {"p": "reject", "testing": True},
    "v=DMARC1; p=reject; t=Y": {"p": "reject", "testing": True},
    "v=DMARC1; p=reject; t=n": {"p": "reject"},
    "v=DMARC1; p=reject; t=yes": {"p": "reject"},
    "v=DMARC1; p=reject; fo=1:d:s": {"p": "reject", "fo": "1:d:s"},
    "v=DMARC1; p=reject; rua=mailto:Dmarc@A.example!10m, https://a.example/": {
        "p": "reject",
        "rua": "mailto:Dmarc@A.example!10m, https://a.example/",
    },
    # RFC 7489's tags that are no more (Appendix C, "Tags Removed").
    "v=DMARC1; p=reject; pct=0; rf=afrf; ri=86400": {"p": "reject"},
    "v=DMARC1; p=quarantine; pct=nonsense; ri=": {"p": "quarantine"},
    # Unknown tags and broken ones are ignored, wherever they stand (section 4.8).
    "v=DMARC1; x=y; p=reject; unknown=p=none": {"p": "reject"},
    "v=DMARC1; nonsense; p=reject; =; ;;": {"p": "reject"},
    "v=DMARC1; p2=none; p=reject": {"p": "reject"},
    "v=DMARC1; p=reject; sp=none\x00": {"p": "reject"},
    "v=DMARC1; p=reject; rua=mailto:\u00e9@a.example": {"p": "reject"},
    "v=DMARC1; p=reject; v=DMARC2": {"p": "reject"},
    # Of two tags the first counts.
    "v=DMARC1; p=reject; p=none": {"p": "reject"},
    "v=DMARC1; p=none; P=reject": {"p": "none"},
    # Without p= it is none (section 4.7).
    "v=DMARC1": {"p": "none"},
    "v=DMARC1;": {"p": "none"},
    "v=DMARC1; sp=reject": {"p": "none", "sp": "reject"},
    "v=DMARC1; rua=mailto:d@a.example": {"p": "none", "rua": "mailto:d@a.example"},
    "v=DMARC1; p reject": {"p": "none"},
    # A policy that is none, but somebody wants reports: as if it were none (section 4.10.1).
    "v=DMARC1; p=bogus; rua=mailto:d@a.example": {"p": "none", "sp": "none", "np": "none", "rua": "mailto:d@a.example"},
    "v=DMARC1; p=; rua=mailto:d@a.example": {"p": "none", "sp": "none", "np": "none", "rua": "mailto:d@a.example"},
    "v=DMARC1; p=reject; sp=bogus; rua=nonsense, mailto:d@a.example": {
        "p": "none",
        "sp": "none",
        "np": "none",
        "rua": "nonsense, mailto:d@a.example",
    },
    "v=DMARC1; p=reject; np=rejected; rua=https://a.example/": {
        "p": "none",
        "sp": "none",
        "np": "none",
        "rua": "https://a.example/",
    },
}


@pytest.mark.parametrize(("text", "said"), RECORDS.items(), ids=RECORDS.keys())
def test_records(text, said):
    """What each record says; the records of RFC 7489 are read without harm."""
    found = vars(parse("a.example", text))
    assert found == {"domain": "a.example"} | DEFAULTS | said


@pytest.mark.parametrize(
    "text",
    [
        "v=DMARC1; p=bogus",
        "v=DMARC1; p=",
        "v=DMARC1; p=reject, none",
        "v=DMARC1; p=none; sp=bogus",
        "v=DMARC1; p=reject; np=",
        "v=DMARC1; p=bogus; rua=",
        "v=DMARC1; p=bogus; rua=d@a.example",
        "v=DMARC1; p=bogus; rua=mailto:",
        "v=DMARC1; p=bogus; ruf=mailto:d@a.example",
    ],
)
def test_records_that_cannot_be_used(text):
    """A policy that is none, and nobody to report to: an error, in the record itself and from below (section 4.10.1)."""
    with pytest.raises(RecordError):
        parse("a.example", text)
    for author in ("a.example", "b.a.example"):
        with pytest.raises(RecordError, match=r"the DMARC record of a\.example"):
            published(author, Zone({"a.example": text}))


@given(st.binary(max_size=200))
@example(b"p=reject;" * 5000)
@example(b"p=" + b" " * 60000 + b"\xff")
@example(b"p=" + b"a " * 30000 + b"\xff")
@example(b"p=x; rua=" + b"mailto:,a" * 6000)
def test_any_record_is_read(octets):
    """Whatever stands in a record, it is read or refused."""
    zone = Zone({"a.example": [octets, b"v=DMARC1;" + octets]})
    for author in ("a.example", "b.a.example"):
        try:
            found = published(author, zone)
        except RecordError:
            continue
        assert found is None or found.policy in {"none", "quarantine", "reject"}


REJECT, QUARANTINE, NONE = "v=DMARC1; p=reject", "v=DMARC1; p=quarantine", "v=DMARC1; p=none"
NO_RECORDS = {
    "no version": "p=reject",
    "version behind": "p=reject; v=DMARC1",
    "version in lower case": "v=dmarc1; p=reject",
    "another version": "v=DMARC2; p=reject",
    "a longer version": "v=DMARC10; p=reject",
    "version with a word": "v=DMARC1 p=reject",
    "space before": " v=DMARC1; p=reject",
    "SPF": "v=spf1 -all",
    "two": [REJECT, NONE],
    "two alike": [REJECT, REJECT],
    "two, one of them broken": [REJECT, "v=DMARC1; p=bogus"],
    "nothing": [],
}


@pytest.mark.parametrize("record", NO_RECORDS.values(), ids=NO_RECORDS.keys())
def test_what_is_no_record(record):
    """It is discarded, and so are several (section 4.10, step 2); then the walk goes on."""
    assert published("a.example", Zone({"a.example": record})) is None
    found = published("b.a.example", Zone({"b.a.example": record, "a.example": QUARANTINE}))
    assert (found.record.domain, found.policy) == ("a.example", "quarantine")


@pytest.mark.parametrize("other", [b"v=spf1 -all", b"v=DMARC2; p=none", b"", b"\xff", b"p=none"])
def test_other_texts_beside_a_record(other):
    """Only policy records are counted."""
    assert published("a.example", Zone({"a.example": [other, REJECT, other]})).policy == "reject"


PSD, PSD_SUB = "v=DMARC1; p=reject; psd=y", "v=DMARC1; p=none; sp=quarantine; psd=y"
SUBS = "v=DMARC1; p=reject; sp=quarantine; np=none"
# Author domain, records, names that exist besides; the domain whose record applies, and the policy.
DISCOVERY = {
    "none at all": ("a.example", {}, (), None),
    "its own": ("a.example", {"a.example": REJECT}, (), ("a.example", "reject")),
    "its own before the organisation's": (
        "b.a.example",
        {"b.a.example": NONE, "a.example": REJECT},
        (),
        ("b.a.example", "none"),
    ),
    "its own, sp says nothing of it": ("a.example", {"a.example": SUBS}, (), ("a.example", "reject")),
    "its own in a sub-domain, sp says nothing of it": (
        "b.a.example",
        {"b.a.example": SUBS, "a.example": NONE},
        (),
        ("b.a.example", "reject"),
    ),
    "the organisation's, p": ("b.a.example", {"a.example": REJECT}, (), ("a.example", "reject")),
    "the organisation's, sp": ("b.a.example", {"a.example": SUBS}, ("b.a.example",), ("a.example", "quarantine")),
    "the organisation's, np": ("b.a.example", {"a.example": SUBS}, (), ("a.example", "none")),
    "np where the name exists, no sp": (
        "b.a.example",
        {"a.example": "v=DMARC1; p=quarantine; np=reject"},
        ("b.a.example",),
        ("a.example", "quarantine"),
    ),
    "np where the name does not exist, no sp": (
        "b.a.example",
        {"a.example": "v=DMARC1; p=quarantine; np=reject"},
        (),
        ("a.example", "reject"),
    ),
    "sp where the name does not exist, no np": (
        "b.a.example",
        {"a.example": "v=DMARC1; p=none; sp=reject"},
        (),
        ("a.example", "reject"),
    ),
    "the highest of several": (
        "d.c.b.a.example",
        {"c.b.a.example": REJECT, "b.a.example": QUARANTINE, "a.example": NONE},
        (),
        ("a.example", "none"),
    ),
    "psd=n ends the walk": (
        "d.c.b.a.example",
        {"c.b.a.example": NONE, "b.a.example": "v=DMARC1; p=quarantine; psd=n", "a.example": REJECT},
        (),
        ("b.a.example", "quarantine"),
    ),
    "below a public suffix": (
        "c.b.a.example",
        {"b.a.example": QUARANTINE, "a.example": PSD},
        (),
        ("b.a.example", "quarantine"),
    ),
    "the public suffix's, p": ("b.a.example", {"a.example": PSD}, (), ("a.example", "reject")),
    "the public suffix's, sp": ("c.b.a.example", {"a.example": PSD_SUB}, (), ("a.example", "quarantine")),
    "the public suffix's, np": (
        "b.a.example",
        {"a.example": "v=DMARC1; p=none; sp=none; np=reject; psd=y"},
        (),
        ("a.example", "reject"),
    ),
    "the public suffix's, over a record that is not the organisation's": (
        "d.c.b.a.example",
        {"c.b.a.example": NONE, "a.example": PSD},
        (),
        ("a.example", "reject"),
    ),
    "the public suffix itself": ("a.example", {"a.example": PSD_SUB, "example": REJECT}, (), ("a.example", "none")),
    "above a public suffix nothing counts": (
        "b.a.example",
        {"b.a.example": [], "a.example": PSD, "example": NONE},
        (),
        ("a.example", "reject"),
    ),
    "a top-level domain's": ("b.a.example", {"example": PSD}, (), ("example", "reject")),
    "a top-level domain's, no public suffix": ("b.a.example", {"example": QUARANTINE}, (), ("example", "quarantine")),
    "one label": ("example", {"example": REJECT}, (), ("example", "reject")),
    # Appendix B.3.
    "simple example": (
        "example.com",
        {"example.com": REJECT, "signing.example.com": NONE},
        (),
        ("example.com", "reject"),
    ),
    "deep example": (
        "a.b.c.d.e.f.g.h.i.j.k.example.com",
        {"example.com": "v=DMARC1; p=reject; sp=quarantine", "signing.example.com": NONE},
        (),
        ("example.com", "quarantine"),
    ),
    "public suffix example": (
        "giant.bank.example",
        {"giant.bank.example": QUARANTINE, "bank.example": PSD},
        (),
        ("giant.bank.example", "quarantine"),
    ),
    "too deep to be looked at": ("a.b.c.d.e.f.g.h.example", {"b.c.d.e.f.g.h.example": REJECT}, (), None),
    "deep, its own": (
        "a.b.c.d.e.f.g.h.i.example",
        {"a.b.c.d.e.f.g.h.i.example": REJECT},
        (),
        ("a.b.c.d.e.f.g.h.i.example", "reject"),
    ),
}


@pytest.mark.parametrize(("author", "records", "existing", "applies"), DISCOVERY.values(), ids=DISCOVERY.keys())
def test_policy_discovery(author, records, existing, applies):
    """Whose record applies to an author domain, and which of its policies (section 4.10.1)."""
    found = published(author, Zone(records, existing))
    assert (found and (found.record.domain, found.policy)) == applies


@pytest.mark.parametrize(
    ("record", "policy", "applied"),
    [
        ("v=DMARC1; p=reject", "reject", "reject"),
        ("v=DMARC1; p=reject; t=y", "reject", "quarantine"),
        ("v=DMARC1; p=quarantine; t=y", "quarantine", "none"),
        ("v=DMARC1; p=none; t=y", "none", "none"),
        ("v=DMARC1; p=reject; t=n", "reject", "reject"),
        ("v=DMARC1; p=reject; pct=0", "reject", "reject"),
    ],
)
def test_test_mode(record, policy, applied):
    """t=y is one level below what is published (section 4.7); pct= is no more."""
    found = published("a.example", Zone({"a.example": record}))
    assert (found.policy, found.applied) == (policy, applied)


def test_test_mode_of_sub_domains():
    """It holds for sp and np too."""
    zone = Zone({"a.example": "v=DMARC1; p=none; sp=quarantine; np=reject; t=y"}, ("b.a.example",))
    assert [published(author, zone).applied for author in ("b.a.example", "c.a.example")] == ["none", "quarantine"]


WALKS = {
    # Section 4.10's own example.
    "a.b.c.d.e.f.g.h.i.j.mail.example.com": [
        "a.b.c.d.e.f.g.h.i.j.mail.example.com",
        "g.h.i.j.mail.example.com",
        "h.i.j.mail.example.com",
        "i.j.mail.example.com",
        "j.mail.example.com",
        "mail.example.com",
        "example.com",
        "com",
    ],
    "a.mail.example.com": ["a.mail.example.com", "mail.example.com", "example.com", "com"],
    "example.com": ["example.com", "com"],
    "com": ["com"],
    # Seven, eight and nine labels.
    "7.6.5.4.3.2.1": ["7.6.5.4.3.2.1", "6.5.4.3.2.1", "5.4.3.2.1", "4.3.2.1", "3.2.1", "2.1", "1"],
    "8.7.6.5.4.3.2.1": ["8.7.6.5.4.3.2.1", "7.6.5.4.3.2.1", "6.5.4.3.2.1", "5.4.3.2.1", "4.3.2.1", "3.2.1", "2.1", "1"],
    "9.8.7.6.5.4.3.2.1": [
        "9.8.7.6.5.4.3.2.1",
        "7.6.5.4.3.2.1",
        "6.5.4.3.2.1",
        "5.4.3.2.1",
        "4.3.2.1",
        "3.2.1",
        "2.1",
        "1",
    ],
}


@pytest.mark.parametrize(("author", "asked"), WALKS.items(), ids=WALKS.keys())
def test_walk(author, asked):
    """Which names are asked about, in order: at most eight, whatever the number of labels (section 4.10)."""
    zone = Zone({})
    assert published(author, zone) is None
    assert zone.asked == [f"_dmarc.{one}" for one in asked]


@pytest.mark.parametrize("psd", ["y", "n"])
def test_walk_stops(psd):
    """At psd=y and at psd=n nothing above is asked about."""
    zone = Zone({"b.a.example": f"v=DMARC1; p=reject; psd={psd}"})
    published("d.c.b.a.example", zone)
    assert zone.asked == ["_dmarc.d.c.b.a.example", "_dmarc.c.b.a.example", "_dmarc.b.a.example"]


def test_each_name_is_asked_about_once():
    """One message's walks share what they have found."""
    zone = Zone({"a.example": REJECT})

    async def work():
        tree = Tree(zone)
        for author in ("b.a.example", "a.example", "c.a.example"):
            assert await tree.published(author)
        assert await tree.aligned("b.a.example", "c.a.example", "r")

    asyncio.run(work())
    assert sorted(zone.asked) == sorted(
        f"_dmarc.{one}" for one in ("a.example", "b.a.example", "c.a.example", "example")
    )


def test_what_is_not_needed_is_not_asked():
    """An author domain with a record of its own costs one question; whether a name exists is asked for np alone."""
    zone = Zone({"a.example": SUBS})
    published("a.example", zone)
    assert zone.asked == ["_dmarc.a.example"]
    zone = Zone({"a.example": "v=DMARC1; p=none; sp=reject"})
    published("b.a.example", zone)
    assert "b.a.example" not in zone.asked


# A domain, the records of its world, its organisational domain (section 4.10.2).
ORGANISATIONS = {
    "no records": ("a.mail.example.com", {}, "a.mail.example.com"),
    "the highest record": ("a.mail.example.com", {"mail.example.com": NONE, "example.com": NONE}, "example.com"),
    "its own record": ("mail.example.com", {"mail.example.com": NONE}, "mail.example.com"),
    "psd=n": (
        "a.mail.example.com",
        {"mail.example.com": "v=DMARC1; p=none; psd=n", "example.com": NONE},
        "mail.example.com",
    ),
    "psd=n of its own": ("a.example.com", {"a.example.com": "v=DMARC1; psd=n", "example.com": NONE}, "a.example.com"),
    "psd=y": ("a.mail.example.com", {"com": PSD}, "example.com"),
    "psd=y right above": ("mail.example.com", {"example.com": PSD}, "mail.example.com"),
    "psd=y of its own": ("example.com", {"example.com": PSD, "com": PSD}, "example.com"),
    "psd=y above a record": ("a.b.example.com", {"b.example.com": NONE, "com": PSD}, "example.com"),
    "psd=y far above": ("a.b.c.d.e.f.g.h.example.com", {"com": PSD}, "example.com"),
    "a record without a policy": ("a.example.com", {"example.com": "v=DMARC1; p=bogus"}, "example.com"),
    "psd=y without a policy": ("a.bank.example", {"bank.example": "v=DMARC1; p=bogus; psd=y"}, "a.bank.example"),
    "psd=n without a policy": (
        "a.mail.example.com",
        {"mail.example.com": "v=DMARC1; p=bogus; psd=n", "example.com": NONE},
        "mail.example.com",
    ),
    "two records": ("a.example.com", {"a.example.com": NONE, "example.com": [NONE, NONE]}, "a.example.com"),
}


@pytest.mark.parametrize(("domain", "records", "organisation"), ORGANISATIONS.values(), ids=ORGANISATIONS.keys())
def test_organisational_domain(domain, records, organisation):
    """The organisational domain of a domain, whatever else its record is good for."""
    assert asyncio.run(Tree(Zone(records)).organisational(domain)) == organisation


SIMPLE = {"example.com": NONE, "signing.example.com": NONE}
BANKS = {"giant.bank.example": NONE, "bank.example": PSD}
# Author domain, authenticated identifier, records; whether they align relaxed (strict is the same name, no more).
ALIGNMENTS = {
    "the same": ("example.com", "example.com", SIMPLE, True),
    "the same, no records": ("example.com", "example.com", {}, True),
    "identifier below": ("example.com", "child.example.com", SIMPLE, True),
    "identifier above": ("child.example.com", "example.com", SIMPLE, True),
    "siblings": ("news.example.com", "foo.example.com", SIMPLE, True),
    "siblings' children": ("a.news.example.com", "b.foo.example.com", SIMPLE, True),
    "another domain": ("child.example.com", "example.net", SIMPLE | {"example.net": NONE}, False),
    "another domain of that top-level domain": ("example.com", "other.com", SIMPLE | {"other.com": NONE}, False),
    "a name that ends alike": ("example.com", "badexample.com", SIMPLE, False),
    "a name that begins alike": ("example.com", "example.com.evil.example", SIMPLE, False),
    "the top-level domain": ("example.com", "com", SIMPLE, False),
    "no identifier": ("example.com", "", SIMPLE, False),
    "siblings without records": ("a.example.com", "b.example.com", {}, False),
    "a sub-domain with a record, its parent with none": (
        "a.example.com",
        "example.com",
        {"a.example.com": NONE},
        False,
    ),
    "psd=n between": (
        "a.mail.example.com",
        "example.com",
        {"mail.example.com": "v=DMARC1; psd=n", "example.com": NONE},
        False,
    ),
    "psd=n above both": ("a.example.com", "b.example.com", {"example.com": "v=DMARC1; p=none; psd=n"}, True),
    "below one public suffix": ("a.bank.example", "b.bank.example", {"bank.example": PSD}, False),
    "below a public suffix whose policy is broken": (
        "a.bank.example",
        "b.bank.example",
        {"bank.example": "v=DMARC1; p=bogus; psd=y"},
        False,
    ),
    "the public suffix": ("a.bank.example", "bank.example", {"bank.example": PSD}, False),
    # Appendix B.3.
    "simple example": ("example.com", "signing.example.com", SIMPLE, True),
    "deep example, SPF": ("a.b.c.d.e.f.g.h.i.j.k.example.com", "example.com", SIMPLE, True),
    "deep example, DKIM": ("a.b.c.d.e.f.g.h.i.j.k.example.com", "signing.example.com", SIMPLE, True),
    "public suffix example, SPF": ("giant.bank.example", "mail.giant.bank.example", BANKS, True),
    "public suffix example, DKIM": ("giant.bank.example", "mail.mega.bank.example", BANKS, False),
}


@pytest.mark.parametrize(("author", "identifier", "records", "relaxed"), ALIGNMENTS.values(), ids=ALIGNMENTS.keys())
def test_alignment(author, identifier, records, relaxed):
    """Relaxed: one organisational domain; strict: the same name. Either way the other order is no different."""
    for one, other in ((author, identifier), (identifier, author)):
        zone = Zone(records)
        assert asyncio.run(Tree(zone).aligned(one, other, "r")) is relaxed
        zone.asked.clear()
        assert asyncio.run(Tree(zone).aligned(one, other, "s")) is (author == identifier)
        assert zone.asked == []


@pytest.mark.parametrize("silent", ["b.a.example", "a.example", "example"])
def test_no_answer_is_no_missing_record(silent):
    """Where DNS gives no answer on the way, there is no policy and no alignment, but the error."""
    zone = Zone({"a.example": NONE} | {silent: None})
    with pytest.raises(NoAnswerError):
        published("b.a.example", zone)
    if silent == "example":
        # Whatever stands there, their ways meet below it.
        assert asyncio.run(Tree(zone).aligned("c.a.example", "b.a.example", "r"))
        return
    with pytest.raises(NoAnswerError):
        asyncio.run(Tree(zone).aligned("c.a.example", "b.a.example", "r"))


NAMES = ("example", "a.example", "b.a.example", "c.a.example", "d.b.a.example")
RECORDS = (NONE, "v=DMARC1; p=none; psd=n", PSD, "v=DMARC1; p=bogus")


@given(
    st.dictionaries(st.sampled_from(NAMES), st.sampled_from(RECORDS)),
    st.sampled_from(NAMES),
    *[st.sampled_from(NAMES)] * 2,
)
def test_alignment_is_known_without_what_cannot_matter(records, silent, one, other):
    """It is that of the organisational domains; with a silent name, it is the same whatever that name had said."""

    def aligned(zone):
        return asyncio.run(Tree(zone).aligned(one, other, "r"))

    def compared(zone):
        tree = Tree(zone)
        return asyncio.run(tree.organisational(one)) == asyncio.run(tree.organisational(other))

    assert aligned(Zone(records)) == compared(Zone(records))
    try:
        found = aligned(Zone(records | {silent: None}))
    except NoAnswerError:
        return
    others = {name: record for name, record in records.items() if name != silent}
    assert {found} == {aligned(Zone(others)), *(aligned(Zone(others | {silent: record})) for record in RECORDS)}


def test_no_answer_whether_a_name_exists():
    """Then it is not known whether np applies."""

    class Silent(Zone):
        async def exists(self, name):
            raise NoAnswerError

    with pytest.raises(NoAnswerError):
        published("b.a.example", Silent({"a.example": "v=DMARC1; p=none; np=reject"}))


def test_an_answer_makes_up_for_none_above():
    """What is not needed may be silent: above a record of the author's own, and above psd=n."""
    zone = Zone({"b.a.example": REJECT, "a.example": None})
    assert published("b.a.example", zone).policy == "reject"
    zone = Zone({"b.a.example": "v=DMARC1; p=reject; psd=n", "a.example": None})
    assert published("c.b.a.example", zone).policy == "reject"


def test_published_is_a_record_and_its_policy():
    """The record stays whole, for the report."""
    record = parse("a.example", "v=DMARC1; p=reject; sp=none; t=y")
    assert published("b.a.example", Zone({"a.example": "v=DMARC1; p=reject; sp=none; t=y"})) == Published(
        record, "none"
    )


def test_what_gives_no_answer_is_asked_once():
    """A name whose DNS is silent takes its time once for a message, however often its tree is walked."""
    zone = Zone({"a.example": None, "example": "v=DMARC1; p=none"})

    async def walk():
        tree = Tree(zone)
        for question in (tree.published("a.example"), tree.organisational("a.example")):
            with pytest.raises(NoAnswerError):
                await question

    asyncio.run(walk())
    assert zone.asked == ["_dmarc.a.example"]
