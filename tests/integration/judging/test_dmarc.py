"""DMARC from outside, as a table: what a domain publishes, what comes in its name, and what becomes of it.

Every row is asserted on the SMTP reply, on the delivered copy or that there is none, and on the verdict on record.
"""

from collections.abc import Mapping
from functools import partial

import pytest

from integration.conftest import FORWARDER, OUTSIDER, site
from integration.dmarc_mail import (
    GARBAGE,
    Came,
    Domain,
    Keys,
    Mail,
    altered,
    assert_judged,
    by,
    by_ed25519,
    garbage,
    publish,
    send_all,
    sign,
    verdict_of,
    whole,
    without_key,
)
from mailstack.world.containers import Machine
from mailstack.world.internet import Internet
from mailstack.world.site import Site, parse
from support import address_of, count, delivered, dmarc_result, message, properties, results, send, subject

# SPF records: the outsider may send, or another host alone, strictly or not.
HERE = f"v=spf1 ip4:{OUTSIDER} -all"
ELSEWHERE = "v=spf1 ip4:192.0.2.1 ~all"
ELSEWHERE_ALONE = "v=spf1 ip4:192.0.2.1 -all"

# Eleven labels and more are walked from the domain itself, and then from its last seven on (RFC 9989 section 4.10).
EIGHT = "d.e.f.g.h.i.deep.example"
SEVEN = "e.f.g.h.i.deeper.example"

DOMAINS = {
    # The three policies
    "monitor.example": Domain("v=DMARC1; p=none", spf=HERE),
    "quarantine.example": Domain("v=DMARC1; p=quarantine", spf=HERE),
    "reject.example": Domain("v=DMARC1; p=reject", spf=HERE),
    "mail.reject.example": Domain(spf=HERE),
    "other.reject.example": Domain(),
    "elsewhere.example": Domain("v=DMARC1; p=reject", spf=ELSEWHERE),
    "monitor-alone.example": Domain("v=DMARC1; p=none", spf=ELSEWHERE_ALONE),
    "reject-alone.example": Domain("v=DMARC1; p=reject", spf=ELSEWHERE_ALONE),
    # Without DMARC
    "other.example": Domain(spf=HERE),
    "notreject.example": Domain(spf=HERE),
    "list.example": Domain(spf=HERE),
    # Policies for sub-domains
    "tree.example": Domain("v=DMARC1; p=none; sp=quarantine; np=reject", spf=HERE),
    "there.tree.example": Domain(),
    "own.tree.example": Domain("v=DMARC1; p=reject; sp=none"),
    "below.empty.tree.example": Domain(),
    "lenient.example": Domain("v=DMARC1; p=reject; sp=none"),
    "there.lenient.example": Domain(),
    "careful.example": Domain("v=DMARC1; p=none; np=reject"),
    "there.careful.example": Domain(),
    # Public suffixes, and organisations that end their tree themselves
    "suffix.example": Domain("v=DMARC1; p=reject; psd=y; np=quarantine", spf=HERE),
    "shop.suffix.example": Domain(spf=HERE),
    "news.shop.suffix.example": Domain(),
    "rival.suffix.example": Domain(spf=HERE),
    "owner.suffix.example": Domain("v=DMARC1; p=none"),
    "news.owner.suffix.example": Domain(),
    "corporation.example": Domain("v=DMARC1; p=none", spf=HERE),
    "department.corporation.example": Domain("v=DMARC1; p=reject; psd=n", spf=HERE),
    "team.department.corporation.example": Domain(),
    "deep.example": Domain("v=DMARC1; p=reject"),
    EIGHT: Domain("v=DMARC1; p=none; psd=n"),
    f"a.b.c.{EIGHT}": Domain(),
    SEVEN: Domain("v=DMARC1; p=quarantine; psd=n"),
    "deeper.example": Domain("v=DMARC1; p=reject"),
    f"a.b.c.d.{SEVEN}": Domain(),
    # Test mode, strict alignment, tags of RFC 7489
    "test-reject.example": Domain("v=DMARC1; p=reject; t=y"),
    "test-quarantine.example": Domain("v=DMARC1; p=quarantine; t=y"),
    "test-none.example": Domain("v=DMARC1; p=none; t=y"),
    "test-over.example": Domain("v=DMARC1; p=reject; t=n"),
    "strict.example": Domain("v=DMARC1; p=reject; adkim=s; aspf=s", spf=HERE),
    "mail.strict.example": Domain(spf=HERE),
    "old.example": Domain(
        "v=DMARC1; p=reject; pct=0; ri=3600; rf=afrf; fo=1; rua=mailto:dmarc@listed.example!10m; ruf=mailto:x@listed.example"
    ),
    "partly.example": Domain("v=DMARC1; p=quarantine; pct=1"),
    # Records as they are found
    "two.example": Domain("v=DMARC1; p=reject", "v=DMARC1; p=quarantine"),
    "bad.example": Domain("v=DMARC1; p=perhaps"),
    "bad-sp.example": Domain("v=DMARC1; p=reject; sp=perhaps"),
    "bad-reported.example": Domain("v=DMARC1; p=perhaps; rua=mailto:dmarc@listed.example"),
    "without-p.example": Domain("v=DMARC1; rua=mailto:dmarc@listed.example"),
    "without-version.example": Domain("p=reject"),
    "late-version.example": Domain("p=reject; v=DMARC1"),
    "another-version.example": Domain("v=DMARC2; p=reject"),
    "small-version.example": Domain("v=dmarc1; p=reject"),
    "loud.example": Domain("V=DMARC1; P=REJECT; ADKIM=S"),
    "mail.loud.example": Domain(),
    "strings.example": Domain(("v=DMARC1; p=re", "ject")),
    "beside.example": Domain("some words", "v=DMARC1; p=reject"),
    "spaced.example": Domain("v = DMARC1 ;  p =reject ; ; "),
    "unknown-tags.example": Domain("v=DMARC1; p=reject; colour=green; adkim=perhaps"),
    "pointer.example": Domain(),
    "xn--bcher-kva.example": Domain("v=DMARC1; p=reject"),
}

MONITOR = ("monitor.example", "none")
QUARANTINE = ("quarantine.example", "quarantine")
REJECT = ("reject.example", "reject")
STRICT = ("strict.example", "reject")
TREE = ("tree.example", "none")

Passes = partial(Mail, dmarc="pass")
Fails = partial(Mail, dmarc="fail")

PASS = {
    "SPF alone": Passes("reject.example", sender="reject.example", aligned="spf", under=REJECT),
    "SPF of a sub-domain": Passes("reject.example", sender="mail.reject.example", aligned="spf", under=REJECT),
    "SPF of a sub-domain's parent": Passes(
        "other.reject.example", sender="reject.example", aligned="spf", under=REJECT
    ),
    "SPF by HELO of the null sender": Passes(
        "reject.example", sender="", helo="reject.example", aligned="spf", under=REJECT
    ),
    "SPF by HELO of the null sender, a sub-domain": Passes(
        "reject.example", sender="", helo="mail.reject.example", aligned="spf", under=REJECT
    ),
    "DKIM alone": Passes("reject.example", signed=[by("reject.example")], aligned="dkim", under=REJECT),
    "DKIM alone, no SPF record": Passes(
        "reject.example",
        sender="none.example",
        spf="none",
        signed=[by("reject.example")],
        aligned="dkim",
        under=REJECT,
    ),
    "DKIM by Ed25519": Passes("reject.example", signed=[by_ed25519("reject.example")], aligned="dkim", under=REJECT),
    "DKIM of a sub-domain": Passes("reject.example", signed=[by("mail.reject.example")], aligned="dkim", under=REJECT),
    "DKIM of a sub-domain's parent": Passes(
        "other.reject.example", signed=[by("reject.example")], aligned="dkim", under=REJECT
    ),
    "DKIM of a sub-domain's sibling": Passes(
        "other.reject.example", signed=[by("mail.reject.example")], aligned="dkim", under=REJECT
    ),
    "both": Passes(
        "reject.example", sender="reject.example", signed=[by("reject.example")], aligned="spf dkim", under=REJECT
    ),
    "both, of a domain that asks for nothing": Passes(
        "monitor.example", sender="monitor.example", signed=[by("monitor.example")], aligned="spf dkim", under=MONITOR
    ),
    "SPF passes, the signature does not": Passes(
        "reject.example", sender="reject.example", signed=[altered("reject.example")], aligned="spf", under=REJECT
    ),
    "DKIM passes, SPF is of another domain": Passes(
        "quarantine.example", signed=[by("quarantine.example")], aligned="dkim", under=QUARANTINE
    ),
    "upper case everywhere": Passes(
        "REJECT.Example", sender="REJECT.example", signed=[by("Reject.EXAMPLE")], aligned="spf dkim", under=REJECT
    ),
    "a name with a comma, in quotes": Passes(
        "reject.example",
        from_field='"Doe, J." <someone@reject.example>',
        sender="reject.example",
        aligned="spf",
        under=REJECT,
    ),
}

MISALIGNED = {
    "nothing": Fails("reject.example", sender="none.example", spf="none", under=REJECT, then="refused"),
    "SPF of another domain": Fails("reject.example", sender="listed.example", under=REJECT, then="put aside"),
    "SPF of a domain with the same end": Fails(
        "reject.example", sender="notreject.example", under=REJECT, then="put aside"
    ),
    "SPF of its own, which says softfail": Fails(
        "elsewhere.example",
        sender="elsewhere.example",
        spf="softfail",
        under=("elsewhere.example", "reject"),
        then="refused",
    ),
    "DKIM of another domain": Fails("reject.example", signed=[by("other.example")], under=REJECT, then="put aside"),
    "DKIM of a domain with the same end": Fails(
        "reject.example", signed=[by("notreject.example")], under=REJECT, then="put aside"
    ),
    "SPF and DKIM of another domain": Fails(
        "reject.example", sender="other.example", signed=[by("other.example")], under=REJECT, then="put aside"
    ),
    "DKIM of the text before it was changed": Fails(
        "reject.example", signed=[altered("reject.example")], under=REJECT, then="refused"
    ),
    "DKIM by a key that is not there": Fails(
        "reject.example", signed=[without_key("reject.example")], under=REJECT, then="refused"
    ),
    "HELO passes, but there is a MAIL FROM without a record": Fails(
        "reject.example", sender="none.example", helo="reject.example", spf="none", under=REJECT, then="refused"
    ),
    "HELO passes, but there is a MAIL FROM of another domain": Fails(
        "reject.example", sender="listed.example", helo="reject.example", under=REJECT, then="put aside"
    ),
    "HELO of the null sender passes, for another domain": Fails(
        "reject.example", sender="", helo="listed.example", under=REJECT, then="put aside"
    ),
    "HELO of the null sender has no record": Fails(
        "reject.example", sender="", helo="outsider.example", spf="none", under=REJECT, then="refused"
    ),
}

POLICIES = {
    "p=none": Fails("monitor.example", under=MONITOR),
    "p=quarantine": Fails("quarantine.example", under=QUARANTINE, then="quarantined"),
    "p=reject": Fails("reject.example", under=REJECT, then="refused"),
    "no record": Mail("none.example"),
    "p=quarantine, and a mark came with it": Fails(
        "quarantine.example", extra=["x-mailstack-QUARANTINE: no"], under=QUARANTINE, then="quarantined"
    ),
    "a mark came with what passes": Passes(
        "quarantine.example",
        sender="quarantine.example",
        extra=["X-Mailstack-Quarantine: DMARC policy of quarantine.example", "X-Mailstack-Quarantine: again"],
        aligned="spf",
        under=QUARANTINE,
    ),
}

SPF_FAIL = {
    "without a DMARC record": Mail("fail.example", sender="fail.example", spf="fail", then="refused by SPF"),
    "of another domain, without a DMARC record": Mail(
        "none.example", sender="fail.example", spf="fail", then="refused by SPF"
    ),
    "of HELO, by the null sender": Mail(
        "none.example", sender="", helo="fail.example", spf="fail", then="refused by SPF"
    ),
    "under p=none": Fails(
        "monitor-alone.example",
        sender="monitor-alone.example",
        spf="fail",
        under=("monitor-alone.example", "none"),
        then="refused by SPF",
    ),
    "under p=none, saved by DKIM": Passes(
        "monitor-alone.example",
        sender="monitor-alone.example",
        spf="fail",
        signed=[by("monitor-alone.example")],
        aligned="dkim",
        under=("monitor-alone.example", "none"),
    ),
    "under p=none, not saved by DKIM of another domain": Fails(
        "monitor-alone.example",
        sender="monitor-alone.example",
        spf="fail",
        signed=[by("other.example")],
        under=("monitor-alone.example", "none"),
        then="refused by SPF",
    ),
    "under p=reject, saved by DKIM": Passes(
        "reject-alone.example",
        sender="reject-alone.example",
        spf="fail",
        signed=[by("reject-alone.example")],
        aligned="dkim",
        under=("reject-alone.example", "reject"),
    ),
    "under p=reject: DMARC speaks first": Fails(
        "reject-alone.example",
        sender="reject-alone.example",
        spf="fail",
        under=("reject-alone.example", "reject"),
        then="refused",
    ),
    "of the forwarder's envelope, saved by the author's DKIM": Passes(
        "reject.example", sender="fail.example", spf="fail", signed=[by("reject.example")], aligned="dkim", under=REJECT
    ),
    "without a DMARC record, saved by the author's DKIM": Mail(
        "other.example", sender="fail.example", spf="fail", signed=[by("other.example")], aligned="dkim"
    ),
}

SUB_DOMAINS = {
    "p for itself": Fails("tree.example", under=TREE),
    "sp for one that exists": Fails("there.tree.example", under=("tree.example", "quarantine"), then="quarantined"),
    "sp for one with names below it alone": Fails(
        "empty.tree.example", under=("tree.example", "quarantine"), then="quarantined"
    ),
    "np for one that does not exist": Fails("missing.tree.example", under=("tree.example", "reject"), then="refused"),
    "np for one that does not exist, deeper": Fails(
        "a.b.missing.tree.example", under=("tree.example", "reject"), then="refused"
    ),
    "one that does not exist, and passes": Passes(
        "missing.tree.example", sender="tree.example", aligned="spf", under=("tree.example", "reject")
    ),
    "a record of its own": Fails("own.tree.example", under=("own.tree.example", "reject"), then="refused"),
    "no sp: p": Fails("other.reject.example", under=REJECT, then="refused"),
    "no np: p for one that does not exist": Fails("missing.reject.example", under=REJECT, then="refused"),
    "no np: sp for one that does not exist": Fails("missing.lenient.example", under=("lenient.example", "none")),
    "sp=none under p=reject": Fails("there.lenient.example", under=("lenient.example", "none")),
    "sp=none is not for itself": Fails("lenient.example", under=("lenient.example", "reject"), then="refused"),
    "np is not for one that points to a missing name": Fails(
        "pointing.careful.example", under=("careful.example", "none")
    ),
    "np is not for one with many addresses": Fails("many.careful.example", under=("careful.example", "none")),
    "np is not for one that exists": Fails("there.careful.example", under=("careful.example", "none")),
    "np without sp": Fails("missing.careful.example", under=("careful.example", "reject"), then="refused"),
}

SUFFIX = ("suffix.example", "reject")
DEPARTMENT = ("department.corporation.example", "reject")

TREE_WALK = {
    "psd=y for who has no record": Fails("shop.suffix.example", under=SUFFIX, then="refused"),
    "psd=y and np": Fails("missing.suffix.example", under=("suffix.example", "quarantine"), then="quarantined"),
    "psd=y, and the organisation has its own record": Fails(
        "news.owner.suffix.example", under=("owner.suffix.example", "none")
    ),
    "below psd=y an organisation is aligned with itself": Passes(
        "news.shop.suffix.example", signed=[by("shop.suffix.example")], aligned="dkim", under=SUFFIX
    ),
    "below psd=y another organisation's signature": Fails(
        "shop.suffix.example", signed=[by("rival.suffix.example")], under=SUFFIX, then="put aside"
    ),
    "below psd=y another organisation's SPF": Fails(
        "shop.suffix.example", sender="rival.suffix.example", under=SUFFIX, then="put aside"
    ),
    "below psd=y its own signature, beside another organisation's": Passes(
        "shop.suffix.example",
        signed=[by("rival.suffix.example"), whole("shop.suffix.example")],
        aligned="dkim",
        under=SUFFIX,
    ),
    "the suffix itself does not vouch for who is below": Fails(
        "shop.suffix.example", sender="suffix.example", signed=[by("suffix.example")], under=SUFFIX, then="put aside"
    ),
    "the suffix itself may send": Passes("suffix.example", sender="suffix.example", aligned="spf", under=SUFFIX),
    "psd=n ends the walk": Fails("team.department.corporation.example", under=DEPARTMENT, then="refused"),
    "psd=n: aligned within": Passes(
        "team.department.corporation.example",
        signed=[by("department.corporation.example")],
        aligned="dkim",
        under=DEPARTMENT,
    ),
    "psd=n: not aligned with what is above": Fails(
        "department.corporation.example",
        sender="corporation.example",
        signed=[by("corporation.example")],
        under=DEPARTMENT,
        then="put aside",
    ),
    "above psd=n: not aligned with what is below": Fails(
        "corporation.example",
        sender="department.corporation.example",
        signed=[by("department.corporation.example")],
        under=("corporation.example", "none"),
    ),
    "eleven labels: the organisation's record": Fails(
        f"a.b.c.{EIGHT}", under=("deep.example", "reject"), then="refused"
    ),
    "eleven labels: aligned with the organisation": Passes(
        f"a.b.c.{EIGHT}", signed=[by("deep.example")], aligned="dkim", under=("deep.example", "reject")
    ),
    "eleven labels: a record at seven is found first": Fails(
        f"a.b.c.d.{SEVEN}", under=(SEVEN, "quarantine"), then="quarantined"
    ),
    "eight labels: its own record": Fails(EIGHT, under=(EIGHT, "none")),
}

TESTED = {"override": "policy_test_mode"}

MODES = {
    "t=y: reject becomes quarantine": Fails(
        "test-reject.example",
        under=("test-reject.example", "reject"),
        tested="quarantine",
        then="quarantined",
        **TESTED,
    ),
    "t=y: quarantine becomes none": Fails(
        "test-quarantine.example", under=("test-quarantine.example", "quarantine"), tested="none", **TESTED
    ),
    "t=y: none stays": Fails("test-none.example", under=("test-none.example", "none")),
    "t=y: what passes is no matter": Passes(
        "test-reject.example",
        signed=[by("test-reject.example")],
        aligned="dkim",
        under=("test-reject.example", "reject"),
        tested="quarantine",
    ),
    "t=n": Fails("test-over.example", under=("test-over.example", "reject"), then="refused"),
    "adkim=s: a sub-domain's signature": Fails(
        "strict.example", signed=[by("mail.strict.example")], under=STRICT, then="put aside"
    ),
    "adkim=s: a parent's signature": Fails(
        "mail.strict.example", signed=[by("strict.example")], under=STRICT, then="put aside"
    ),
    "adkim=s: its own signature beside a parent's": Passes(
        "mail.strict.example",
        signed=[by("strict.example"), whole("mail.strict.example")],
        aligned="dkim",
        under=STRICT,
    ),
    "adkim=s: its own signature": Passes("strict.example", signed=[by("strict.example")], aligned="dkim", under=STRICT),
    "aspf=s: a sub-domain's SPF": Fails("strict.example", sender="mail.strict.example", under=STRICT, then="put aside"),
    "aspf=s: its own SPF": Passes("strict.example", sender="strict.example", aligned="spf", under=STRICT),
    "aspf=s: HELO of the null sender, a sub-domain": Fails(
        "strict.example", sender="", helo="mail.strict.example", under=STRICT, then="put aside"
    ),
    "pct=0, ri, rf, a size in rua: not known any more": Fails(
        "old.example", under=("old.example", "reject"), then="refused"
    ),
    "pct=1 of quarantine": Fails("partly.example", under=("partly.example", "quarantine"), then="quarantined"),
}

RECORDS = {
    "two are none": Mail("two.example"),
    "a bad policy": Mail("bad.example", dmarc="permerror"),
    "a bad policy for sub-domains": Mail("bad-sp.example", dmarc="permerror"),
    "a bad policy, with an address for reports": Fails("bad-reported.example", under=("bad-reported.example", "none")),
    "no policy": Fails("without-p.example", under=("without-p.example", "none")),
    "no version": Mail("without-version.example"),
    "the version is not the first": Mail("late-version.example"),
    "another version": Mail("another-version.example"),
    "the version in small letters": Mail("small-version.example"),
    "names and values in capitals": Fails("loud.example", under=("loud.example", "reject"), then="refused"),
    "names and values in capitals, of alignment": Fails(
        "loud.example", signed=[by("mail.loud.example")], under=("loud.example", "reject"), then="put aside"
    ),
    "two strings": Fails("strings.example", under=("strings.example", "reject"), then="refused"),
    "other texts beside it": Fails("beside.example", under=("beside.example", "reject"), then="refused"),
    "space and empty tags": Fails("spaced.example", under=("spaced.example", "reject"), then="refused"),
    "unknown tags and values": Fails("unknown-tags.example", under=("unknown-tags.example", "reject"), then="refused"),
    "by a CNAME": Fails("pointer.example", under=("pointer.example", "reject"), then="refused"),
    "a domain that is not there, of nobody": Mail("missing.nobody.example"),
}

BOOKS = ("xn--bcher-kva.example", "reject")

INTERNATIONAL = {
    "A-labels fail": Fails("xn--bcher-kva.example", under=BOOKS, then="refused"),
    "U-labels fail": Fails("bücher.example", known_as=BOOKS[0], under=BOOKS, then="refused"),
    "U-labels fail, in capitals": Fails("BÜCHER.example", known_as=BOOKS[0], under=BOOKS, then="refused"),
    "A-labels pass": Passes("XN--Bcher-kva.example", signed=[by(BOOKS[0])], aligned="dkim", under=BOOKS),
    "U-labels pass": Passes("bücher.example", known_as=BOOKS[0], signed=[by(BOOKS[0])], aligned="dkim", under=BOOKS),
}

ours, theirs = by("reject.example"), by("other.example")

SIGNATURES = {
    "ours, theirs": Passes("reject.example", signed=[ours, theirs], aligned="dkim", under=REJECT),
    "theirs, ours": Passes("reject.example", signed=[theirs, ours], aligned="dkim", under=REJECT),
    "ours, theirs altered": Passes(
        "reject.example", signed=[ours, altered("other.example")], aligned="dkim", under=REJECT
    ),
    "theirs altered, ours": Passes(
        "reject.example", signed=[altered("other.example"), ours], aligned="dkim", under=REJECT
    ),
    "ours twice, one altered": Passes(
        "reject.example", signed=[altered("reject.example"), ours], aligned="dkim", under=REJECT
    ),
    "ours by both kinds of key": Passes(
        "reject.example", signed=[by_ed25519("reject.example"), ours], aligned="dkim", under=REJECT
    ),
    "ours, and one whose key is not there": Passes(
        "reject.example", signed=[without_key("reject.example"), ours], aligned="dkim", under=REJECT
    ),
    "ours altered, theirs": Fails(
        "reject.example", signed=[altered("reject.example"), theirs], under=REJECT, then="put aside"
    ),
    "theirs, ours altered": Fails(
        "reject.example", signed=[theirs, altered("reject.example")], under=REJECT, then="put aside"
    ),
    "seven, the last one ours": Passes(
        "reject.example",
        signed=[
            *map(by, ("other.example", "list.example", "monitor.example", "tree.example", "strict.example")),
            by("deep.example"),
            ours,
        ],
        aligned="dkim",
        under=REJECT,
    ),
}

KINDS = tuple(GARBAGE)

GOOD_AND_GARBAGE = {
    f"{kind}, {where}": Passes("reject.example", signed=signed, aligned="dkim", under=REJECT)
    for kind in GARBAGE
    for where, signed in {
        "before": [garbage(kind, "reject.example"), ours],
        "behind": [ours, garbage(kind, "reject.example")],
    }.items()
} | {
    "of another domain, before": Passes(
        "reject.example", signed=[garbage("bad base64 in b=", "other.example"), ours], aligned="dkim", under=REJECT
    ),
    "much of it, around": Passes(
        "reject.example",
        signed=[
            *(garbage(kind, "other.example") for kind in KINDS[::2]),
            ours,
            *(garbage(kind, "reject.example") for kind in KINDS[1::3]),
        ],
        aligned="dkim",
        under=REJECT,
    ),
}

GARBAGE_ALONE = {
    kind: Fails("reject.example", signed=[garbage(kind, "reject.example")], under=REJECT, then="refused")
    for kind in GARBAGE
}

TABLE = {
    f"{about}: {row}": mail
    for about, rows in {
        "passes by": PASS,
        "does not pass by": MISALIGNED,
        "fails under": POLICIES,
        "SPF fail": SPF_FAIL,
        "sub-domains": SUB_DOMAINS,
        "tree walk": TREE_WALK,
        "modes": MODES,
        "records": RECORDS,
        "international": INTERNATIONAL,
        "signatures": SIGNATURES,
        "a good signature and garbage": GOOD_AND_GARBAGE,
        "garbage alone": GARBAGE_ALONE,
    }.items()
    for row, mail in rows.items()
}


@pytest.fixture(scope="module")
def keys(world: Internet) -> Keys:
    """The keys of DOMAINS, which are published."""
    keys = Keys()
    publish(world.names, DOMAINS, keys, str(OUTSIDER))
    world.names.set("_dmarc.pointer.example", "CNAME", "_dmarc.reject.example.")
    world.names.set("pointing.careful.example", "CNAME", "missing.nobody.example.")
    world.names.set("many.careful.example", "A", *(f"192.0.2.{at}" for at in range(1, 200)))
    world.names.publish()
    return keys


@pytest.fixture(scope="module")
def table_sent(request: pytest.FixtureRequest, keys: Keys, outsider: Machine, bravo: Site) -> Mapping[str, Came]:
    """The whole table, or what was selected of it."""
    params = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
    return send_all({row: mail for row, mail in TABLE.items() if {"row": row} in params}, outsider, bravo, keys)


@pytest.mark.parametrize("row", TABLE)
def test_from_outside(
    row: str, table_sent: Mapping[str, Came], world: Internet, outsider: Machine, bravo: Site
) -> None:
    """With the default settings: the published policy is followed."""
    assert_judged(TABLE[row], table_sent[row], outsider, bravo, world.names)


AUTHORS = {
    "no From": [],
    "an empty From": ["From:"],
    "two From fields": ["From: a@reject.example", "From: b@none.example"],
    "two From fields, the same": ["From: a@reject.example", "From: a@reject.example"],
    "two From fields, apart": ["From: a@none.example", "X-Between: yes", "FROM: b@reject.example"],
    "two From fields, one with a space": ["From: a@none.example", "From : b@reject.example"],
    "two authors": ["From: a@none.example, b@reject.example"],
    "two authors of one domain": ["From: a@none.example, b@none.example"],
    "two authors of two domains": ["From: A <a@none.example>, B <b@reject.example>", "Sender: a@none.example"],
    "a group": ["From: Friends: a@none.example, b@none.example;"],
    "a group of one": ["From: Friends: a@none.example;"],
    "a group of none": ["From: undisclosed:;"],
    "no address": ["From: Somebody"],
    "no domain": ["From: somebody"],
    "an empty domain": ["From: somebody@"],
    "an address literal": ["From: somebody@[192.0.2.1]"],
    "a domain that is no name": ["From: somebody@none..example"],
    "two addresses in brackets": ["From: <a@none.example> <b@reject.example>"],
    "another domain's address as the name": ["From: a@reject.example <b@none.example>"],
    "a route": ["From: <@reject.example:b@none.example>"],
}


def test_space_before_the_colon(outsider: Machine, bravo: Site) -> None:
    """Postfix closes it up (RFC 5322 section 4.5), so that all readers see the author that was judged."""
    about = subject("From with a space")
    content = message("AUTHOR", "user@bravo.example", about, extra=["From : someone@listed.example"])
    content = content.replace(b"From: AUTHOR\r\n", b"")
    assert send(outsider, address_of(bravo), "x@listed.example", "user@bravo.example", content).code == 250
    arrived = delivered(bravo, "user@bravo.example", about)
    assert b"\nFrom: someone@listed.example\n" in arrived
    assert properties(dmarc_result(arrived, bravo))["header.from"] == "listed.example"


@pytest.mark.parametrize("fields", AUTHORS.values(), ids=AUTHORS.keys())
def test_ambiguous_author(fields: list[str], outsider: Machine, bravo: Site) -> None:
    """Whatever SPF says: where readers might not agree on one author, the message is refused for good."""
    about = subject("ambiguous")
    content = message("AUTHOR", "user@bravo.example", about)
    content = content.replace(b"From: AUTHOR\r\n", "".join(f"{one}\r\n" for one in fields).encode())
    reply = send(outsider, address_of(bravo), "someone@listed.example", "user@bravo.example", content)
    assert (reply.code, reply.text.split()[0]) == (550, "5.7.1")
    assert "From" in reply.text
    verdict = verdict_of(bravo, content)
    assert (verdict["action"], verdict["result"], verdict["source_ip"]) == (
        "reject",
        "ambiguous",
        str(outsider.address),
    )
    assert reply.text == f"5.7.1 {verdict['reason']}"
    assert count(bravo, "user@bravo.example", about) == 0


# Author, envelope sender, and what aligns.
GENUINE = {
    "its first domain": ("user@alpha.example", "user@alpha.example", "spf dkim"),
    "its second domain, whose records are CNAMEs": ("user@alpine.example", "user@alpine.example", "spf dkim"),
    "its host name": ("root@mail.alpha.example", "root@mail.alpha.example", "spf dkim"),
    "a sub-domain, whose SPF aligns with its parent alone": ("user@sub.alpha.example", "user@alpha.example", "dkim"),
    "an envelope of its second domain": ("user@alpha.example", "user@alpine.example", "dkim"),
    "an envelope of a domain without SPF": ("user@alpha.example", "someone@none.example", "dkim"),
    "an envelope of a domain that forbids it": ("user@alpha.example", "someone@fail.example", "dkim"),
}


@pytest.mark.parametrize(("author", "sender", "aligned"), GENUINE.values(), ids=GENUINE.keys())
@pytest.mark.parametrize("way", ["submission", "sendmail"])
def test_genuine_mail_passes(
    way: str, author: str, sender: str, aligned: str, insider: Machine, alpha_rejects: Site, bravo: Site
) -> None:
    """From stack to stack, under p=reject: delivered, dmarc=pass, and the record says by what."""
    about = subject("genuine")
    content = message(author, "user@bravo.example", about)
    if way == "submission":
        assert send(insider, address_of(alpha_rejects), sender, "user@bravo.example", content, port=587).code == 250
    else:
        alpha_rejects.sendmail(content.replace(b"\r\n", b"\n"), "-t", "-f", sender)
    assert_genuine(delivered(bravo, "user@bravo.example", about), author.partition("@")[2], aligned, bravo)


def test_genuine_bounce_passes(insider: Machine, alpha_rejects: Site, bravo: Site) -> None:
    """A bounce has the host's name as its author and in HELO, and passes by it and by its signature."""
    about = subject("to nobody")
    content = message("user@bravo.example", "nobody@bravo.example", about)
    reply = send(insider, address_of(alpha_rejects), "user@bravo.example", "nobody@bravo.example", content, port=587)
    assert reply.code == 250
    bounce = bravo.wait_for_mail(
        "user@bravo.example",
        lambda one: one.get_content_type() == "multipart/report" and about in one.as_string(),
    )
    assert_genuine(bounce, "mail.alpha.example", "spf dkim", bravo)


def test_forwarded_mail_passes_by_dkim(keys: Keys, outsider: Machine, alpha_rejects: Site, bravo: Site) -> None:
    """Signed mail that alpha's alias hands on: SPF forbids alpha to send it, the author's signature saves it."""
    about = subject("handed on")
    content = message("someone@reject.example", "away@alpha.example", about)
    content = sign(ours, content, keys) + content
    reply = send(outsider, address_of(alpha_rejects), "someone@listed.example", "away@alpha.example", content)
    assert reply.code == 250
    arrived = delivered(bravo, "user@bravo.example", about)
    assert parse(arrived).get_all("Received-SPF")[0].startswith("Fail (mailfrom) ")
    assert_genuine(arrived, "reject.example", "dkim", bravo)
    # What alpha wrote stays, under alpha's name.
    (theirs,) = results(arrived, "mail.alpha.example")
    assert [one.result for one in theirs.results if one.method in {"spf", "dmarc"}] == ["pass", "pass"]


def assert_genuine(content: bytes, author: str, aligned: str, target: Site) -> None:
    """What must hold for mail that is what it says, in a mailbox and on record."""
    (header,) = results(content, target.stack.hostname)
    *_, dkim, dmarc = header.results
    assert (dkim.method, dkim.result) == ("dkim", "pass")
    assert (dmarc.method, dmarc.result, properties(dmarc)) == (
        "dmarc",
        "pass",
        {"header.from": author, "policy.dmarc": "reject"},
    )
    assert parse(content)["X-Mailstack-Quarantine"] is None
    verdict = verdict_of(target, content)
    assert verdict["action"] == "accept"
    assert verdict["policy_evaluated"] == {
        "disposition": "none",
        "dkim": "pass" if "dkim" in aligned else "fail",
        "spf": "pass" if "spf" in aligned else "fail",
        "override": None,
    }


# What india is set to, one after the other.
SETTINGS: Mapping[str, Mapping[str, str]] = {
    "mark": {"DMARC_ACTION": "mark"},
    "reject": {"DMARC_ACTION": "reject"},
    "skip": {"DMARC_SKIP_NETWORKS": f"{FORWARDER}/32", "DMARC_SKIP_DOMAINS": "list.example"},
}


@pytest.fixture(scope="module")
def plain_india(world: Internet) -> Site:
    return site(world, "mail.india.example", "india.example", MAILBOXES="user@india.example")


@pytest.fixture(scope="module")
def india(request: pytest.FixtureRequest, plain_india: Site) -> Site:
    """A stack with other settings about DMARC."""
    changes = {f"MAILSTACK_{name}": value for name, value in SETTINGS[request.param].items()}
    plain = {name: value for name, value in plain_india.environment.items() if "DMARC" not in name}
    plain_india.build({**plain, **changes})
    plain_india.up()
    return plain_india


Marked = partial(Fails, override="local_policy")
Spared = partial(Fails, override="trusted_forwarder")

ONLY_MARKED = {
    "p=reject": Marked("reject.example", under=REJECT),
    "p=quarantine": Marked("quarantine.example", under=QUARANTINE),
    "p=none": Fails("monitor.example", under=MONITOR),
    "p=reject, passed": Passes("reject.example", sender="reject.example", aligned="spf", under=REJECT),
    "a bad record": Mail("bad.example", dmarc="permerror"),
    "a mark that came with it": Marked("quarantine.example", extra=["X-Mailstack-Quarantine: yes"], under=QUARANTINE),
    "SPF fail is another matter": Mail("fail.example", sender="fail.example", spf="fail", then="refused by SPF"),
}

THE_OLD_WAY = {
    "nothing passes": Fails("reject.example", under=REJECT, then="refused"),
    "another domain's SPF": Fails("reject.example", sender="other.example", under=REJECT, then="refused"),
    "another domain's signature": Fails("reject.example", signed=[by("other.example")], under=REJECT, then="refused"),
    "p=quarantine": Fails("quarantine.example", sender="other.example", under=QUARANTINE, then="quarantined"),
    "p=none": Fails("monitor.example", sender="other.example", under=MONITOR),
    "a pass": Passes("reject.example", sender="reject.example", aligned="spf", under=REJECT),
}

SKIPPED = {
    "from the network, p=reject": Spared(
        "reject.example", sender="none.example", spf="none", host="forwarder", under=REJECT
    ),
    "from the network, p=quarantine": Spared(
        "quarantine.example", sender="none.example", spf="none", host="forwarder", under=QUARANTINE
    ),
    "from the network, p=none": Fails(
        "monitor.example", sender="none.example", spf="none", host="forwarder", under=MONITOR
    ),
    "from the network, what passes": Passes(
        "reject.example",
        sender="none.example",
        spf="none",
        host="forwarder",
        signed=[by("reject.example")],
        aligned="dkim",
        under=REJECT,
    ),
    "from the network, SPF fail is another matter": Mail(
        "none.example", sender="fail.example", spf="fail", host="forwarder", then="refused by SPF"
    ),
    "from elsewhere": Fails("reject.example", sender="none.example", spf="none", under=REJECT, then="refused"),
    "the list by SPF": Spared("reject.example", sender="list.example", under=REJECT),
    "the list by SPF, p=quarantine": Spared("quarantine.example", sender="list.example", under=QUARANTINE),
    "the list by HELO of the null sender": Spared("reject.example", sender="", helo="list.example", under=REJECT),
    "the list by DKIM": Spared("reject.example", signed=[by("list.example")], under=REJECT),
    "the list by DKIM, and the author's broken on the way": Spared(
        "reject.example", signed=[by("list.example"), altered("reject.example")], under=REJECT
    ),
    "the list's name without a pass": Fails(
        "reject.example",
        sender="none.example",
        helo="list.example",
        spf="none",
        signed=[altered("list.example")],
        under=REJECT,
        then="refused",
    ),
    "another domain's pass": Fails("reject.example", sender="other.example", under=REJECT, then="put aside"),
    "the list by DKIM, with l=": Spared("reject.example", signed=[whole("list.example")], under=REJECT),
    **{
        f"the list by DKIM, and beside it {kind}": Spared(
            "reject.example", signed=[garbage(kind, "other.example"), by("list.example")], under=REJECT
        )
        for kind in ("unparsable", "an odd i=", "an algorithm that is none any more", "a long name")
    },
    "the list by DKIM, the last of eleven": Spared(
        "reject.example", signed=[*[altered("other.example")] * 10, by("list.example")], under=REJECT
    ),
    "SPF fail is another matter for the list too": Mail(
        "none.example", sender="fail.example", spf="fail", signed=[by("list.example")], then="refused by SPF"
    ),
}


@pytest.mark.parametrize(
    ("india", "mail"),
    [
        pytest.param(setting, mail, id=f"{setting}: {row}")
        for setting, rows in {"mark": ONLY_MARKED, "reject": THE_OLD_WAY, "skip": SKIPPED}.items()
        for row, mail in rows.items()
    ],
    indirect=["india"],
    # Each setting is built once, and not for each row.
    scope="module",
)
def test_with_other_settings(
    india: Site, mail: Mail, keys: Keys, world: Internet, request: pytest.FixtureRequest
) -> None:
    """Marking alone refuses and quarantines nothing; trusted forwarders and lists are spared what DMARC asks for."""
    machine = request.getfixturevalue(mail.host)
    came = send_all({"": mail}, machine, india, keys)[""]
    assert_judged(mail, came, machine, india, world.names)
