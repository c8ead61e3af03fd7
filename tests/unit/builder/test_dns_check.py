"""mailstack dns check: each mistake that has a name, published at a name server, is reported with what mends it."""

import hashlib
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from mailstack.dns import ask
from mailstack.dns.check import site
from unit.dns_mistakes import ADDRESS, MISTAKES, OTHER_KEY, SELECTOR
from unit.dns_site import (
    DOCUMENT,
    NS1,
    NS2,
    NS3,
    OF_SITES,
    SPELLINGS,
    a_stack,
    check,
    mended,
    publish,
    remove,
    world_of,
    wrong,
)
from unit.dns_world import RESOLVER, Internet

# What a check may say where nobody answers.
UNKNOWN = ("fine", "dnssec", "servers", "silent-server", "unanswered")
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


def test_a_table_of_mistakes():
    """There are as many as the issue wants to see."""
    assert len(MISTAKES) >= 80


@pytest.mark.parametrize("published", SPELLINGS.values(), ids=SPELLINGS.keys())
def test_spellings(published):
    """What means the same is right, however it is written."""
    made = a_stack()
    world = world_of(made)
    for key, values in published.items():
        world.publish(*key.split(" "), *values)
    report = check(world, made)
    assert wrong(report) == [], [one.what for one in report.findings]


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


@pytest.mark.parametrize("behind", ["resolver", "secondary"])
def test_what_is_evaluated(behind):
    """SPF is evaluated for the record as the servers have it, whatever the resolver says of it meanwhile."""
    made = a_stack()
    world = world_of(made)
    (right,) = world.published("example.com", "TXT")
    world.stale["example.com", "TXT"] = [right]
    world.publish("example.com", "TXT", "v=spf1 -ip4:192.0.2.0/24 ip4:192.0.2.25 ~all")
    expected = {"spf-fails"}
    if behind == "secondary":
        world.publish("example.com", "TXT", right, at=NS2)
        expected = {"servers-disagree"}
    assert {one.code for one in check(world, made).findings if one.level == "fault"} == expected


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


def test_a_resolver_that_knows_no_top_level():
    """Whoever asks one of a closed network is not told to register domains; and a host name is not one of them."""
    made = a_stack()
    world = Internet({"example.net": {"ns1.example.net": NS1}})
    found = [one for one in check(world, made).findings if one.code == "no-domain"]
    assert [one.name for one in found] == ["example.com"]
    assert f"{RESOLVER} has no .com at all" in found[0].by_hand


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
    assert {one.code for one in report.findings} <= {*UNKNOWN, "no-zone"}


def test_a_check_that_runs_out_of_time():
    """What was not asked is a warning, and nothing is called missing for it."""
    made = a_stack(domains=" ".join(f"d{number}.example.com" for number in range(200)), mailboxes="user@d0.example.com")
    world = world_of(made)
    with world.served() as port:
        report = ask.look(lambda look: site.check(look, made), [RESOLVER], port, seconds=0.5)
    assert {one.code for one in report.findings} <= {*UNKNOWN, "spf-temperror"}
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


TLSA = "_25._tcp.mail.example.com"
STS, STS_HOST, REPORTS = "_mta-sts.example.com", "mta-sts.example.com", "_smtp._tls.example.com"
# What is published, and what is said of it; nothing: it is fine.
ABOUT_TLS = {
    "the certificate's key": ({f"{TLSA} TLSA": ["3 1 1 KEY"]}, None),
    "the certificate itself": ({f"{TLSA} TLSA": ["3 0 2 WHOLE"]}, None),
    "its issuer": ({f"{TLSA} TLSA": ["2 1 1 ISSUER"]}, None),
    "the next key beside it": ({f"{TLSA} TLSA": ["3 1 1 KEY", f"3 1 1 {'ab' * 32}"]}, None),
    "another key": ({f"{TLSA} TLSA": [f"3 1 1 {'ab' * 32}"]}, "no record is that of a certificate in tls/"),
    "a usage that SMTP does not know": (
        {f"{TLSA} TLSA": ["1 1 1 KEY", "3 1 1 KEY"]},
        "usage 1 is not for SMTP, so servers pass over the record",
    ),
    "MTA-STS": ({f"{STS} TXT": ["v=STSv1; id=20261130"], f"{STS_HOST} A": [ADDRESS]}, None),
    "MTA-STS without a host": ({f"{STS} TXT": ["v=STSv1; id=1;"]}, f"{STS_HOST} has no address, so nobody can get"),
    "MTA-STS with a bad id": (
        {f"{STS} TXT": ["v=STSv1; id=2026-11-30"], f"{STS_HOST} A": [ADDRESS]},
        "the MTA-STS record has not the form",
    ),
    "MTA-STS twice": (
        {f"{STS} TXT": ["v=STSv1; id=1", "v=STSv1; id=2"], f"{STS_HOST} A": [ADDRESS]},
        "2 MTA-STS records share one name",
    ),
    "TLS reports": ({f"{REPORTS} TXT": ["v=TLSRPTv1; rua=mailto:tls@example.com,https://example.com/tls"]}, None),
    "TLS reports without a scheme": ({f"{REPORTS} TXT": ["v=TLSRPTv1; rua=tls@example.com"]}, "the TLS report record"),
    "an authority": ({"example.com CAA": ['0 issue "ca.example; account=1"', '0 iodef "mailto:a@example.com"']}, None),
    "no authority": ({"mail.example.com CAA": ['0 issue ";"']}, "nobody may issue a certificate for mail.example.com"),
    "no wildcards": ({"example.com CAA": ['0 issuewild ";"']}, None),
}


@pytest.fixture(scope="module")
def chain(authority):
    """A certificate for the host name, with its issuer."""
    return x509.load_pem_x509_certificates(authority.issue("mail.example.com").chain)


def with_digests(value, chain):
    leaf, issuer = chain[0], chain[-1]
    key = {one: one.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) for one in chain}
    value = value.replace("KEY", hashlib.sha256(key[leaf]).hexdigest())
    value = value.replace("ISSUER", hashlib.sha256(key[issuer]).hexdigest())
    return value.replace("WHOLE", hashlib.sha512(leaf.public_bytes(Encoding.DER)).hexdigest())


@pytest.mark.parametrize(("published", "words"), ABOUT_TLS.values(), ids=ABOUT_TLS.keys())
def test_records_about_tls(chain, published, words):
    """TLSA, MTA-STS, TLS-RPT and CAA are judged where they are published; nobody has to have them."""
    made = a_stack()
    world = world_of(made)
    for key, values in published.items():
        world.publish(*key.split(" "), *(with_digests(one, chain) for one in values))
    with world.served() as port:
        report = ask.look(lambda look: site.check(look, made, chain), [RESOLVER], port)
    found = [one for one in report.findings if one.level != "fine"]
    assert [one.what for one in found if not one.what.startswith(words or "nothing")] == []
    assert len(found) == (0 if words is None else 1)
    assert all(f"`{one.code}`" in DOCUMENT.read_text() for one in found)
    for one in found:
        remove(world, one.remove)
        publish(world, one.publish)
        if one.remove or one.publish:
            with world.served() as port:
                again = ask.look(lambda look: site.check(look, made, chain), [RESOLVER], port)
            assert wrong(again) == []


def test_tlsa_without_a_certificate():
    """Where no certificate can be read, nothing is said against the records."""
    made = a_stack()
    world = world_of(made)
    world.publish(TLSA, "TLSA", f"3 1 1 {'ab' * 32}")
    report = check(world, made)
    assert wrong(report) == []
    assert any(one.name == TLSA and "no certificate in tls/" in one.what for one in report.findings)


LIST = "list.partner.example"


@pytest.mark.parametrize(
    ("values", "code", "words"),
    [
        ([], "fine", f"{ADDRESS} is not on the list {LIST}"),
        (["127.0.0.2"], "blocklisted", f"{ADDRESS} is on the list {LIST} (127.0.0.2)"),
        (["127.255.255.254"], "blocklist-unknown", f"{LIST} does not answer this resolver (127.255.255.254)"),
        # What a provider's own search page has for names that are not there.
        (["192.0.2.80"], "blocklist-unknown", f"{LIST} does not answer this resolver (192.0.2.80)"),
    ],
)
def test_block_lists(values, code, words):
    """An address that is listed is a fault, with what the list says of it; a list that refuses to answer is a warning."""
    made = a_stack()
    world = world_of(made)
    world.publish(f"25.2.0.192.{LIST}", "A", *values)
    world.publish(f"25.2.0.192.{LIST}", "TXT", *(["see the list"] if values else []))
    with world.served() as port:
        report = ask.look(lambda look: site.check(look, made, blocklists=[LIST]), [RESOLVER], port)
    (found,) = [one for one in report.findings if one.name.endswith(LIST)]
    assert found.code == code
    assert found.what.startswith(words)
    assert f"`{code}`" in DOCUMENT.read_text()
    assert found.found == {"blocklisted": ("see the list",), "fine": ()}.get(code, tuple(values))


def test_a_resolver_that_does_not_validate():
    """It is said, and no fault of the records."""
    made = a_stack()
    (found,) = [one for one in check(world_of(made), made).findings if one.code == "dnssec"]
    assert (found.level, found.name) == ("fine", ".")
    assert f"the resolver {RESOLVER} does not validate" in found.what
