"""A site and its records at name servers: a mistake is published, checked, mended by what the check says, and checked again."""

from dataclasses import replace
from pathlib import Path

from mailstack.dns import ask
from mailstack.dns.check import site
from mailstack.dns.check.wanted import row
from mailstack.dns.records import records
from unit.dns_mistakes import ADDRESS, KEY, OTHER_KEY, PTR, SELECTOR, text_of_key
from unit.dns_world import RESOLVER, Internet
from unit.sites import stack

DOCUMENT = Path(__file__).parents[2] / "docs/dns-check.md"
NS1, NS2, NS3 = "127.0.0.2", "127.0.0.3", "127.0.0.4"
ZONES = {
    "example.com": {"ns1.example.net": NS1, "ns2.example.net": NS2},
    "example.net": {"ns1.example.net": NS1},
    "partner.example": {"ns1.partner.example": NS3},
    "2.0.192.in-addr.arpa": {"ns1.example.net": NS1},
    "example": {"ns1.example.net": NS1},
}
SITE = {"public_addresses": ADDRESS}


def a_stack(**changes):
    """A site whose keys are real ones, each domain's another."""
    made = stack(**(SITE | changes))
    keys = {}
    for one in made.keys.published:
        keys.setdefault(one.key, replace(one.key, record=text_of_key(len(keys))))
    published = tuple(replace(one, key=keys[one.key]) for one in made.keys.published)
    signing = tuple(replace(one, key=keys[one.key]) for one in made.keys.signing)
    return replace(made, keys=replace(made.keys, published=published, signing=signing))


def world_of(made, kind=Internet):
    """A world in which all that a site needs is published."""
    world = kind(ZONES)
    publish(world, [row(one) for one in records(made)])
    world.publish(made.hostname, "A", ADDRESS)
    world.publish(PTR, "PTR", f"{made.hostname}.")
    world.publish("_spf.partner.example", "TXT", "v=spf1 ip4:192.0.2.64/28 -all")
    return world


def publish(world, rows):
    for one in rows:
        value = one.value if one.type in {"TXT", "A", "AAAA"} else f"{one.value}."
        world.publish(one.name, one.type, *world.published(one.name, one.type), value)


def remove(world, rows):
    """Remove records as a person finds them in a form: by their text."""
    for one in rows:
        left = [value for value in world.published(one.name, one.type) if shown(value) != one.value]
        world.publish(one.name, one.type, *left)


def shown(value):
    text = value if isinstance(value, str) else "".join(value)
    return text if text.endswith(" .") else text.removesuffix(".")


def check(world, made):
    with world.served() as port:
        return ask.look(lambda look: site.check(look, made), [RESOLVER], port)


def wrong(report):
    """What is not fine: (level, code, name, type)."""
    return [(one.level, one.code, one.name, one.type) for one in report.findings if one.level != "fine"]


def mended(made, world, published, words, paste):
    """Publish a mistake, see what the check says of it, do that, and check again."""
    for key, values in published.items():
        world.publish(*key.split(" "), *values)
    report = check(world, made)
    level, _, text = words.partition(": ")
    found = [one for one in report.findings if one.level == level and text in one.what]
    assert found, wrong(report) + [one.what for one in report.findings]
    assert f"`{found[0].code}`" in DOCUMENT.read_text()
    assert [f"{one.name} {one.type} {one.value}" for one in found[0].publish] == [paste] * bool(paste)
    rows = [one for one in report.findings if one.level != "fine"]
    remove(world, [one for finding in rows for one in finding.remove])
    publish(world, dict.fromkeys(one for finding in rows for one in finding.publish))
    again = check(world, made)
    assert wrong(again) == [], [one.what for one in again.findings]


SPELLINGS = {
    "blanks in p=": {f"{SELECTOR} TXT": [KEY.replace("MII", "MII ")]},
    "no blanks": {f"{SELECTOR} TXT": [KEY.replace("; ", ";")]},
    "a semicolon at the end": {f"{SELECTOR} TXT": [f"{KEY};"]},
    "no v=, no h=, no k=": {f"{SELECTOR} TXT": ["p=" + KEY.partition("p=")[2]]},
    "another order of tags": {f"{SELECTOR} TXT": ["k=rsa; p=" + KEY.partition("p=")[2] + "; h=sha1:sha256"]},
    "other strings": {f"{SELECTOR} TXT": [[KEY[:10], KEY[10:200], KEY[200:]]]},
    "a note and a flag": {f"{SELECTOR} TXT": [f"{KEY}; n=2026; t=s; s=email"]},
    "SPF in upper case": {"example.com TXT": [f"V=SPF1  IP4:{ADDRESS}  ~ALL"]},
    "SPF in two strings": {"example.com TXT": [["v=spf1 ip4:192.", "0.2.25 ~all"]]},
    "SPF with more senders": {"example.com TXT": [f"v=spf1 include:_spf.partner.example ip4:{ADDRESS} -all", "x=1"]},
    "SPF with a wider network": {"example.com TXT": ["v=spf1 ip4:192.0.2.0/24 -all"]},
    "SPF with a prefix of 32": {"example.com TXT": [f"v=spf1 +ip4:{ADDRESS}/32 -all"]},
    "SPF by MX": {"example.com TXT": ["v=spf1 mx -all"]},
    "SPF by what it includes": {
        "example.com TXT": ["v=spf1 include:own.partner.example -all"],
        "own.partner.example TXT": [f"v=spf1 ip4:{ADDRESS} -all"],
    },
    "SPF with redirect": {"example.com TXT": [f"v=spf1 ip4:{ADDRESS} redirect=_spf.partner.example"]},
    "DMARC in another spelling": {"_dmarc.example.com TXT": ["v = DMARC1 ;P=None;"]},
    "DMARC with more tags": {"_dmarc.example.com TXT": ["v=DMARC1; adkim=s; np=reject; p=none"]},
    "MX with another preference": {"example.com MX": ["20 MAIL.example.com."]},
    "DKIM by a CNAME": {
        f"{SELECTOR} TXT": [],
        f"{SELECTOR} CNAME": ["s.partner.example."],
        "s.partner.example TXT": [KEY],
    },
}


SUB = "default._domainkey.sub.example.com"
OF_SITES = {
    "sub-domain's label missing: DKIM": (
        {"domains": "sub.example.com", "mailboxes": "user@sub.example.com"},
        {f"{SUB} TXT": [], f"{SELECTOR} TXT": [KEY]},
        "fault: the record lies at default._domainkey.example.com: the name lacks the sub-domain's label sub",
        f"{SUB} TXT {KEY}",
    ),
    "the key of another domain of the site": (
        {"domains": "example.com,example.net", "dkim_keys": "per-domain"},
        {f"{SELECTOR} TXT": [OTHER_KEY]},
        "fault: the record holds another key than the one that signs: that of default._domainkey.example.net",
        f"{SELECTOR} TXT {KEY}",
    ),
    "the second domain's CNAME is missing": (
        {"domains": "example.com,example.net"},
        {"default._domainkey.example.net CNAME": []},
        "fault: there is no DKIM record",
        f"default._domainkey.example.net CNAME {SELECTOR}",
    ),
    "the shared key is missing": (
        {"domains": "example.com,example.net"},
        {f"{SELECTOR} TXT": []},
        "fault: there is no DKIM record",
        f"{SELECTOR} TXT {KEY}",
    ),
    "no authorisation of reports": (
        {"dmarc_report_addresses": "dmarc@partner.example"},
        {"example.com._report._dmarc.partner.example TXT": []},
        "warning: there is no DMARC report authorisation record",
        "example.com._report._dmarc.partner.example TXT v=DMARC1;",
    ),
    "reports that nobody gets": (
        {"dmarc_report_addresses": "dmarc@example.com"},
        {"_dmarc.example.com TXT": ["v=DMARC1; p=none; adkim=s"]},
        "warning: rua= does not name mailto:dmarc@example.com",
        "_dmarc.example.com TXT v=DMARC1; p=none; rua=mailto:dmarc@example.com",
    ),
    "another alignment than that of the site's own DMARC record": (
        {"dmarc_record": "v=DMARC1; p=reject; adkim=s; sp=reject"},
        {"_dmarc.example.com TXT": ["v=DMARC1; p=reject; np=reject"]},
        "warning: the record means adkim=r, and the settings adkim=s (MAILSTACK_DMARC_RECORD)",
        "_dmarc.example.com TXT v=DMARC1; p=reject; adkim=s; sp=reject",
    ),
    "no test mode, unlike in the site's own DMARC record": (
        {"dmarc_record": "v=DMARC1; p=reject; t=y; fo=1"},
        {"_dmarc.example.com TXT": ["v=DMARC1; p=reject; fo=1"]},
        "warning: the record means t=n, and the settings t=y (MAILSTACK_DMARC_RECORD)",
        "_dmarc.example.com TXT v=DMARC1; p=reject; t=y; fo=1",
    ),
    "failure reports to another address than in the site's own DMARC record": (
        {"dmarc_record": "v=DMARC1; p=reject; ruf=mailto:user@example.com"},
        {"_dmarc.example.com TXT": ["v=DMARC1; p=reject; ruf=mailto:other@example.com"]},
        "warning: ruf= does not name mailto:user@example.com",
        "_dmarc.example.com TXT v=DMARC1; p=reject; ruf=mailto:user@example.com",
    ),
    "a term of the site's own SPF record is missing": (
        {"spf_record": "v=spf1 ip4:192.0.2.25 include:_spf.partner.example -all"},
        {
            "example.com TXT": ["v=spf1 ip4:192.0.2.25 include:_spf.partner.example.example.net -all"],
            "_spf.partner.example.example.net TXT": ["v=spf1 -all"],
        },
        "fault: the record does not have include:_spf.partner.example",
        (
            "example.com TXT v=spf1 ip4:192.0.2.25 include:_spf.partner.example.example.net "
            "include:_spf.partner.example -all"
        ),
    ),
    "no address at all": (
        {"public_addresses": ""},
        {"mail.example.com A": [], f"{PTR} PTR": []},
        "fault: the host name has no address",
        None,
    ),
}
