"""mailstack dns check: each mistake that has a name, published at a name server, is reported with what mends it."""

import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailstack.dns import ask
from mailstack.dns.check import site
from mailstack.dns.check.wanted import row
from mailstack.dns.records import records
from unit.dns_mistakes import ADDRESS, KEY, MISTAKES, OTHER_KEY, PTR, SELECTOR, text_of_key
from unit.dns_world import RESOLVER, Internet
from unit.sites import stack

DOCUMENT = Path(__file__).parents[3] / "docs/dns-check.md"
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


def world_of(made):
    """A world in which all that a site needs is published."""
    world = Internet(ZONES)
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


OWN = {
    "one domain": {},
    "no addresses": {"public_addresses": ""},
    "host is a domain": {"hostname": "example.com"},
    "two domains, one key": {"domains": "example.com,example.net"},
    "a key for each domain": {"domains": "example.com,example.net", "dkim_keys": "per-domain"},
    "a sub-domain": {"domains": "sub.example.com", "mailboxes": "user@sub.example.com"},
    "reports elsewhere": {"dmarc_report_addresses": "dmarc@partner.example"},
    "its own DMARC record": {"dmarc_record": "v=DMARC1; p=reject; t=y; sp=none; adkim=s; rua=mailto:a@partner.example"},
    "its own SPF record": {"spf_record": "v=spf1 ip4:192.0.2.25 a:mail.example.com include:_spf.partner.example -all"},
}


@pytest.mark.parametrize("changes", OWN.values(), ids=OWN.keys())
def test_own_records_are_green(changes):
    """What `dns records` prints is right, at every server, whatever the settings."""
    made = a_stack(**changes)
    assert wrong(check(world_of(made), made)) == []


@pytest.mark.parametrize(("published", "words", "paste"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes(published, words, paste):
    """A mistake is named, its remedy is what to paste, and whoever pastes it has no finding any more."""
    made = a_stack()
    mended(made, world_of(made), published, words, paste)


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


def test_a_table_of_mistakes():
    """There are as many as the issue wants to see."""
    assert len(MISTAKES) >= 80


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


@pytest.mark.parametrize("published", SPELLINGS.values(), ids=SPELLINGS.keys())
def test_spellings(published):
    """What means the same is right, however it is written."""
    made = a_stack()
    world = world_of(made)
    for key, values in published.items():
        world.publish(*key.split(" "), *values)
    report = check(world, made)
    assert wrong(report) == [], [one.what for one in report.findings]


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


@pytest.mark.parametrize(("changes", "published", "words", "paste"), OF_SITES.values(), ids=OF_SITES.keys())
def test_mistakes_of_other_sites(changes, published, words, paste):
    """Sub-domains, several domains and their keys, report addresses, a site's own SPF record."""
    made = a_stack(**changes)
    if paste is not None:
        mended(made, world_of(made), published, words, paste)
        return
    world = world_of(made)
    for key, values in published.items():
        world.publish(*key.split(" "), *values)
    assert words.partition(": ")[2] in [one.what for one in check(world, made).findings]


def test_a_stale_secondary():
    """A server that lacks the record is named with its serial, and nothing is to be pasted."""
    made = a_stack()
    world = world_of(made)
    world.publish(SELECTOR, "TXT", OTHER_KEY, at=NS2)
    world.serials |= {NS1: 7, NS2: 5}
    (found,) = [one for one in check(world, made).findings if one.level != "fine"]
    assert (found.level, found.code, found.name, found.publish) == ("fault", "servers-disagree", SELECTOR, ())
    assert found.what == (
        f"servers disagree: ns2.example.net ({NS2}), serial 5 has not what ns1.example.net ({NS1}), serial 7 has "
        "(the zone was not transferred)"
    )


@pytest.mark.parametrize(
    ("name", "kind", "old"),
    [("example.com", "MX", "10 mx.partner.example."), ("mail.example.com", "A", "192.0.2.99")],
)
def test_a_stale_secondary_for_addresses(name, kind, old):
    """MX and A are compared between the servers, too."""
    made = a_stack()
    world = world_of(made)
    world.publish(name, kind, old, at=NS2)
    (found,) = [one for one in check(world, made).findings if one.level != "fine"]
    assert (found.code, found.name, found.type, found.publish) == ("servers-disagree", name, kind, ())


def test_servers_with_one_serial_that_disagree():
    """With equal serials no transfer can mend it."""
    made = a_stack()
    world = world_of(made)
    world.publish("example.com", "TXT", at=NS2)
    (found,) = [one for one in check(world, made).findings if one.level != "fine"]
    assert found.code == "servers-disagree"
    assert "the serial is the same: raise it" in found.what


@pytest.mark.parametrize(
    ("behaviour", "expected"),
    [
        ("silent", ("warning", f"the name server ns2.example.net ({NS2}) does not answer")),
        ("refused", ("fault", f"the name server ns2.example.net ({NS2}) answers REFUSED")),
        ("not authoritative", ("fault", f"the name server ns2.example.net ({NS2}) is not authoritative (no AA)")),
    ],
)
def test_a_server_that_does_not_work(behaviour, expected):
    """A silent server is a warning and a lame one a fault; those that work are named with their serials."""
    made = a_stack()
    world = world_of(made)
    world.behaviours[NS2] = behaviour
    (found,) = [one for one in check(world, made).findings if one.level != "fine"]
    assert (found.level, found.what.partition(";")[0]) == expected
    assert f"others do: ns1.example.net ({NS1}), serial 1" in found.what


def test_a_server_that_does_not_answer_by_tcp():
    """It is one warning, however many records were asked for."""
    made = a_stack()
    world = world_of(made)
    world.behaviours[NS2] = "silent by TCP"
    (found,) = [one for one in check(world, made).findings if one.level != "fine"]
    assert (found.level, found.code, found.name) == ("warning", "no-tcp", "example.com")
    assert found.what.startswith(f"the name server ns2.example.net ({NS2}) ")


def test_a_server_that_is_wrong_by_udp():
    """No record is called missing for what a server leaves out by UDP alone."""
    made = a_stack()
    world = world_of(made)
    world.behaviours[NS2] = "wrong by UDP"
    found = [one for one in check(world, made).findings if one.level != "fine"]
    assert {one.code for one in found} == {"udp-differs"}
    assert found[0].found[0] == "by UDP: nothing"


def test_a_resolver_with_an_old_answer():
    """What the servers have is right, and the world sees it when the TTL is over."""
    made = a_stack()
    world = world_of(made)
    world.stale["example.com", "TXT"] = ["v=spf1 -all"]
    (found,) = [one for one in check(world, made).findings if one.level != "fine"]
    assert (found.level, found.code, found.found) == ("warning", "resolver-old", ("v=spf1 -all",))
    assert "for 300 s at most" in found.what


def test_a_bogus_zone():
    """If the resolver answers without validation only, DNSSEC is named."""
    made = a_stack()
    world = world_of(made)
    world.bogus.add("example.com")
    found = [one for one in check(world, made).findings if one.level != "fine"]
    assert {one.code for one in found} == {"bogus"}
    assert "the zone's signatures or its DS record are wrong" in found[0].what


def test_a_domain_that_does_not_exist():
    """A domain that is not delegated is one fault of its own."""
    made = a_stack(domains="example.com,nobody.example")
    world = world_of(a_stack())
    found = [one for one in check(world, made).findings if one.code == "no-domain"]
    assert [(one.level, one.name) for one in found] == [("fault", "nobody.example")]


@pytest.mark.parametrize("patient", [False, True], ids=["SERVFAIL", "patient"])
@pytest.mark.parametrize(
    ("silent", "words"),
    [
        ([NS2], f"the name server ns2.example.net ({NS2}) does not answer; others do"),
        ([NS3], "nobody says what is there: the resolver "),
        ([NS1, NS2, NS3], "the resolver {} for example.com, and names no servers of it"),
    ],
    ids=["a secondary", "another zone's", "all"],
)
def test_silence_costs_seconds(silent, words, patient):
    """Whatever is silent, the check ends within its time, and no record is called missing for it."""
    made = a_stack(dmarc_report_addresses="dmarc@partner.example")
    world = world_of(made)
    world.behaviours |= dict.fromkeys(silent, "silent")
    world.patient = patient
    start = time.monotonic()
    report = check(world, made)
    assert time.monotonic() - start < ask.SECONDS + 1
    words = words.format("does not answer" if patient else "answers SERVFAIL")
    assert [one.what for one in report.findings if words in one.what]
    assert {one.code for one in report.findings} <= {"fine", "servers", "silent-server", "unanswered", "no-zone"}


def test_a_check_that_runs_out_of_time():
    """What was not asked is a warning, and nothing is called missing for it."""
    made = a_stack(domains=" ".join(f"d{number}.example.com" for number in range(200)), mailboxes="user@d0.example.com")
    world = world_of(made)
    with world.served() as port:
        report = ask.look(lambda look: site.check(look, made), [RESOLVER], port, seconds=0.5)
    assert {one.code for one in report.findings} <= {"fine", "servers", "silent-server", "unanswered", "spf-temperror"}
    assert report.worst == "warning"
    assert any("the resolver was not asked in time" in one.what for one in report.findings)


SITES = st.fixed_dictionaries(
    {
        "hostname": st.sampled_from(["mail.example.com", "example.com", "mx.example.net", "mail.sub.example.com"]),
        "domains": st.lists(
            st.sampled_from(["example.com", "example.net", "sub.example.com", "bücher.example.net", "partner.example"]),
            min_size=1,
            unique=True,
        ).map(" ".join),
        "public_addresses": st.sampled_from(["", ADDRESS]),
        "dkim_keys": st.sampled_from(["shared", "per-domain"]),
        "dkim_selector": st.sampled_from(["default", "s2026"]),
        "spf_qualifier": st.sampled_from(["-", "~"]),
        "spf_record": st.sampled_from(["", f"v=spf1 mx ip4:{ADDRESS} include:_spf.partner.example -all"]),
        "dmarc_policy": st.sampled_from(["none", "quarantine", "reject"]),
        "dmarc_report_addresses": st.sampled_from(["", "dmarc@example.com", "a@partner.example b+c@example.net"]),
    }
)


@settings(max_examples=25)
@given(SITES)
def test_whatever_is_printed_is_right(changes):
    """The generator and the checker agree, whatever the settings."""
    chosen = {name: value for name, value in changes.items() if value or name == "public_addresses"}
    made = a_stack(**chosen, mailboxes=f"user@{chosen['domains'].split()[0]}")
    assert wrong(check(world_of(made), made)) == []
