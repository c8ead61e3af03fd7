"""Domains made for two programs that judge SPF and DMARC records, what is right of them, and where checkdmarc differs."""

from collections.abc import Collection, Mapping, Sequence
from typing import Literal, NamedTuple

from unit.dns_world import Value

ADDRESS = "192.0.2.25"
_OWN = f"v=spf1 ip4:{ADDRESS} -all"
_NONE = "v=DMARC1; p=none"
_EVERYBODY = "RFC 7208 section 5.1 allows it, but every host of the Internet passes, and checkdmarc judges the syntax"
_DEFAULT = "RFC 9989 section 4.8: of a value that is wrong the default is taken, and the record stays valid"
_IGNORED = "RFC 9989 section 4.8: what is no tag is ignored, and the record stays valid"


def _includes(count: int) -> str:
    return " ".join(f"include:_spf{number}.partner.example" for number in range(count))


Kind = Literal["spf", "dmarc"]
BOTH: tuple[Kind, ...] = ("spf", "dmarc")


class Domain(NamedTuple):
    """TXT records at the domain and at _dmarc, and what they refer to.

    faults are those of the two that have one, and unlike why it is so where checkdmarc says the opposite.
    """

    spf: Sequence[Value]
    dmarc: Sequence[Value]
    more: Mapping[str, Sequence[Value]] = {}
    faults: Collection[Kind] = ()
    unlike: Mapping[Kind, str] = {}


# What several domains refer to.
SHARED = {
    **{f"_spf{number}.partner.example TXT": ["v=spf1 ip4:192.0.2.64/28 -all"] for number in range(11)},
    "many.partner.example TXT": [f"v=spf1 {_includes(10)} -all"],
    "below.partner.example TXT": ["v=spf1 include:_spf0.partner.example -all"],
    "alias.partner.example TXT": [_NONE],
    "mx.partner.example A": ["192.0.2.26"],
    "partner.example MX": ["10 mx.partner.example."],
}
# Each is a domain under "example".
DOMAINS = {
    # Right, perhaps with a warning.
    "plain": Domain(["v=spf1 ip4:192.0.2.0/24 -all"], ["v=DMARC1; p=reject; rua=mailto:a@plain.example"]),
    "no-blanks": Domain(["v=spf1 ip6:2001:db8::/32 -all"], ["v=DMARC1;p=none"]),
    "blanks": Domain([f"v=spf1  ip4:{ADDRESS}   -all "], ["v = DMARC1 ; p = quarantine ;"]),
    "by-mx": Domain(
        ["v=spf1 mx -all"],
        ["v=DMARC1; p=none; sp=reject; np=reject"],
        {"by-mx.example MX": ["10 mx.partner.example."]},
    ),
    "by-address": Domain(["v=spf1 a a:mx.partner.example/28 ~all"], ["v=DMARC1; p=none; fo=1:d:s"]),
    "by-alias": Domain(
        ["v=spf1 include:_spf0.partner.example ?all"],
        [],
        {"_dmarc.by-alias.example CNAME": ["alias.partner.example."]},
    ),
    "nested": Domain(["v=spf1 include:below.partner.example -all"], ["v=DMARC1; p=none; psd=n"]),
    "redirected": Domain(["v=spf1 redirect=_spf0.partner.example"], ["v=DMARC1; p=reject; t=y"]),
    "exists": Domain(["v=spf1 exists:%{i}._spf.partner.example -all"], ["v=DMARC1; p=none; pct=50; ri=3600; rf=afrf"]),
    "strings": Domain([["v=spf1 ip4:192.0.", "2.25 -all"]], [["v=DMARC1; p=re", "ject"]]),
    "ten-look-ups": Domain([f"v=spf1 {_includes(10)} -all"], ["v=DMARC1; p=none; x=1"]),
    "two-void": Domain(["v=spf1 a:x.partner.example a:y.partner.example -all"], ["v=DMARC1; p=none; adkim=loose"]),
    "long": Domain(
        ["v=spf1 " + " ".join(f"ip4:192.0.2.{number}" for number in range(40)) + " -all"],
        ["v=DMARC1; p=none; rua=mailto:a@long.example!10m,mailto:b@long.example"],
    ),
    "explained": Domain(
        [f"v=spf1 ip4:{ADDRESS} exp=why.partner.example -all"], ["v=DMARC1; sp=none; p=none; ruf=mailto:a@long.example"]
    ),
    "modifier": Domain([f"v=spf1 moo=%{{d}} ip4:{ADDRESS} -all"], [f"{_NONE};"]),
    "sub.inherits": Domain([_OWN, "site-verification=1"], [], {"_dmarc.inherits.example TXT": ["v=DMARC1; p=reject"]}),
    "by-name": Domain([f"v=spf1 ip4:{ADDRESS} ptr -all"], ["v=DMARC1; p=none; aspf=s"]),
    "no-all": Domain([f"v=spf1 ip4:{ADDRESS}"], ["v=DMARC1; p=none; rua=https://reports.partner.example/"]),
    "after-all": Domain([f"v=spf1 -all ip4:{ADDRESS}"], ["v=DMARC1; p=none; rua=mailto:a@partner.example"]),
    "no-policy": Domain([_OWN], ["v=DMARC1; rua=mailto:a@no-policy.example"]),
    # Wrong, in one or both.
    "two-records": Domain([_OWN, "v=spf1 -all"], [_NONE, "v=DMARC1; p=reject"], faults=BOTH),
    "nothing": Domain([], [], faults=BOTH),
    "eleven-look-ups": Domain([f"v=spf1 {_includes(11)} -all"], ["v=dmarc1; p=none"], faults=BOTH),
    "eleven-below": Domain(["v=spf1 include:many.partner.example -all"], ["p=none; v=DMARC1"], faults=BOTH),
    "three-void": Domain(
        ["v=spf1 a:x.partner.example a:y.partner.example a:z.partner.example -all"],
        ["v=DMARC1, p=none"],
        faults=BOTH,
    ),
    "include-nothing": Domain(["v=spf1 include:nothing.partner.example -all"], ["v=DMARC1; p=monitor"], faults=BOTH),
    "redirect-nothing": Domain(
        ["v=spf1 redirect=nothing.partner.example"], ["v=DMARC1; p=none; sp=monitor"], faults=BOTH
    ),
    "include-loop": Domain(["v=spf1 include:include-loop.example -all"], ["v=DMARC1; p=none; p=reject"], faults=BOTH),
    "redirect-loop": Domain(
        ["v=spf1 redirect=redirect-loop.example"], ["v=DMARC1; p=none; rua=a@redirect-loop.example"], faults=BOTH
    ),
    "no-mechanism": Domain([f"v=spf1 ipv4:{ADDRESS} -all"], [f" {_NONE}"], faults=BOTH),
    "no-address": Domain(["v=spf1 ip4:192.0.2.256 -all"], [_OWN], faults=BOTH),
    "no-prefix": Domain(["v=spf1 ip4:192.0.2.0/33 -all"], [f'"{_NONE}"'], faults=BOTH),
    "semicolons": Domain([f"v=spf1; ip4:{ADDRESS}; -all"], ["v=DMARC1\\; p=none"], faults=BOTH),
    "two-redirects": Domain(
        ["v=spf1 redirect=_spf0.partner.example redirect=_spf1.partner.example"],
        ["v=DMARC1; p=none."],
        faults=BOTH,
    ),
    "joined": Domain(
        [f"v=spf1 ip4:{ADDRESS}-all"], [], {"joined.example TXT": [f"v=spf1 ip4:{ADDRESS}-all", _NONE]}, BOTH
    ),
    "many-mx": Domain(
        ["v=spf1 mx -all"],
        ["v=DMARC1 p=none"],
        {
            "many-mx.example MX": [f"10 mx{number}.many-mx.example." for number in range(11)],
            **{f"mx{number}.many-mx.example A": [f"192.0.2.{number}"] for number in range(11)},
        },
        BOTH,
    ),
    "two-explanations": Domain([f"{_OWN} exp=a.partner.example exp=b.partner.example"], [_NONE], faults=["spf"]),
    "no-macro": Domain(["v=spf1 exists:%{x}.partner.example -all"], [_NONE], faults=["spf"]),
    "sp-twice": Domain(
        ["v=spf1 a/33 -all"], ["v=DMARC1; p=none; sp=none; sp=none; rua=mailto:a@sp-twice.example"], faults=BOTH
    ),
    "policy-and-reports": Domain(
        [_OWN], ["v=DMARC1; p=monitor; rua=mailto:a@policy-and-reports.example"], faults=["dmarc"]
    ),
    # checkdmarc says something else.
    "plus-all": Domain(
        [f"v=spf1 ip4:{ADDRESS} +all"],
        ["v=DMARC1; p=none; fo=9"],
        faults=["spf"],
        unlike={"spf": _EVERYBODY, "dmarc": _DEFAULT},
    ),
    "slash-zero": Domain(
        ["v=spf1 ip4:0.0.0.0/0 -all"],
        ["v=DMARC1; p=none; psd=x"],
        faults=["spf"],
        unlike={"spf": _EVERYBODY, "dmarc": _DEFAULT},
    ),
    "junk-behind": Domain(
        [f"v=spf1 ip4:{ADDRESS} -all ipv4:192.0.2.26"],
        ["v=DMARC1; p=none; t=x"],
        faults=["spf"],
        unlike={
            "spf": "RFC 7208 section 4.6: a syntax error anywhere in the record is permerror, also behind all",
            "dmarc": _DEFAULT,
        },
    ),
    "upper-case": Domain(
        [f"V=SPF1 IP4:{ADDRESS} -ALL"],
        ["V=DMARC1; P=Reject; ADKIM=S"],
        unlike={"spf": "RFC 7208 section 12 with RFC 5234 section 2.3: letters of either case are the same"},
    ),
    "bare": Domain(
        [_OWN],
        ["v=DMARC1"],
        faults=["dmarc"],
        unlike={"dmarc": "RFC 9989 section 4.10.1: without p= and rua= there is no DMARC processing"},
    ),
    "two-of-unknown": Domain(
        [_OWN],
        ["v=DMARC1; p=none; x=1; x=2"],
        faults=["dmarc"],
        unlike={"dmarc": "RFC 6376 section 3.2, which RFC 9989 section 4.7 takes over: no tag may be there twice"},
    ),
    "beside-dmarc": Domain(
        [_OWN],
        [_NONE, "site-verification=1"],
        unlike={"dmarc": "RFC 9989 section 4.10: what does not begin with v=DMARC1 is discarded"},
    ),
    "two-semicolons": Domain([_OWN], ["v=DMARC1;; p=none"], unlike={"dmarc": _IGNORED}),
    "word": Domain([_OWN], ["v=DMARC1; p=none; word"], unlike={"dmarc": _IGNORED}),
}
