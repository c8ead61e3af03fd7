"""mailstack dns check --domain and --watch: any domain without settings, and waiting until all is right."""

import time

import click
import pytest
from click.testing import CliRunner

from mailstack.cli.app import main
from mailstack.dns import ask, findings
from mailstack.dns.check import domain
from mailstack.tasks.dns_check import watched
from unit.dns_mistakes import KEY, OTHER_KEY, P
from unit.dns_world import RESOLVER, Internet

NAME = "example.org"
ZONES = {
    "example.org": {"ns1.example.org": "127.0.0.2"},
    "example.net": {"ns1.example.net": "127.0.0.3"},
}
GOOD = {
    "example.org MX": ["10 mx.example.net.", "20 mx2.example.net."],
    "mx.example.net A": ["192.0.2.1"],
    "mx2.example.net AAAA": ["2001:db8::1"],
    "example.org TXT": ["v=spf1 include:_spf.example.net -all", "x=1"],
    "_spf.example.net TXT": ["v=spf1 ip4:192.0.2.0/24 -all"],
    "_dmarc.example.org TXT": ["v=DMARC1; p=reject; rua=mailto:a@example.net, mailto:b@example.org"],
    "example.org._report._dmarc.example.net TXT": ["v=DMARC1"],
    "_dmarc.example.net TXT": ["v=DMARC1; p=none"],
}


@pytest.fixture
def world():
    """A domain whose mail is another's business, all of it right."""
    found = Internet(ZONES)
    for key, values in GOOD.items():
        found.publish(*key.split(" "), *values)
    return found


def check(world, name=NAME, selectors=()):
    with world.served() as port:
        return ask.look(lambda look: domain.check(look, name, selectors), [RESOLVER], port)


def wrong(report):
    return [(one.level, one.code, one.name) for one in report.findings if one.level != "fine"]


def test_a_good_domain(world):
    """Nothing is missed that only a site's settings could ask for."""
    report = check(world)
    assert wrong(report) == [], [one.what for one in report.findings]
    said = {f"{one.name} {one.type}": one.what for one in report.findings}
    assert said["example.org MX"] == "mail goes to 10 mx.example.net, 20 mx2.example.net"
    assert said["example.org TXT"] == "SPF is right (1 of 10 look-ups, 0 of 2 void)"
    assert said["example.org._report._dmarc.example.net TXT"] == "example.net takes the reports on example.org"


KEYS = {
    "right": ([KEY], [], "DKIM is right"),
    "another spelling": ([f"k=rsa; p={P}"], [], "DKIM is right"),
    "none": ([], ["missing"], "there is no DKIM record at the selector s1"),
    "revoked": (["v=DKIM1; p="], ["revoked"], "the key is revoked"),
    "quotes": ([f'"{KEY}"'], ["quotes"], "the value holds quotation marks"),
    "cut": ([KEY[:255]], ["not-base64"], "p= is not base64"),
    "two": ([KEY, OTHER_KEY], ["several-records"], "2 records share one selector"),
}


@pytest.mark.parametrize(("values", "codes", "words"), KEYS.values(), ids=KEYS.keys())
def test_a_selector(world, values, codes, words):
    """The key at a selector is read as verifiers read it, at whichever of them."""
    world.publish(f"s1._domainkey.{NAME}", "TXT", *values)
    report = check(world, selectors=["s1"])
    assert [one.code for one in report.findings if one.level != "fine"] == codes
    assert any(one.what.startswith(words) for one in report.findings if one.name == f"s1._domainkey.{NAME}")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--selector", "s1"], "--selector is for --domain"),
        (["--domain", NAME, "--selector", "a b"], "a b"),
        (["--domain", NAME, "--blocklist", "list.example"], "--blocklist is about this host's addresses"),
        (["--blocklist", "*"], "'*'"),
    ],
)
def test_options_that_do_not_go_together(arguments, words):
    """They are refused before anything is asked."""
    done = CliRunner().invoke(main, ["dns", "check", *arguments])
    assert done.exit_code == 2
    assert words in done.stderr


HOSTILE = {
    "thousands of values": {f"_dmarc.{NAME} TXT": [f"p=none{number}" for number in range(2000)]},
    "thousands that are like SPF": {f"{NAME} TXT": [f"v =spf1 a:{number}" for number in range(2000)]},
    "thousands of terms": {f"{NAME} TXT": ["v=spf1 " + "ptr:a.b " * 4000 + "-all"]},
    "thousands of MX": {f"{NAME} MX": [f"10 a{number}.{NAME}." for number in range(2000)]},
    "a receiver that is no name": {f"_dmarc.{NAME} TXT": ["v=DMARC1; p=none; rua=mailto:a@%1B[31mX%0Afine%20%20Y"]},
    "escapes": {f"{NAME} TXT": ["v=spf1 \x1b[31m\nfine -all"]},
}


@pytest.mark.parametrize("published", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_zones(world, published):
    """However much a stranger publishes, the report stays one that a person can read, and nothing steers a terminal."""
    for key, values in published.items():
        world.publish(*key.split(" "), *values)
    report = check(world)
    assert len(report.findings) < 600
    said = findings.as_text(report)
    assert len(said) < 1_000_000
    assert "\x1b" not in click.unstyle(said)
    assert not any(line.startswith("fine  ") and "Y" in line for line in said.splitlines())


OTHERS = {
    "report addresses that are no names": (
        {"_dmarc.example.org TXT": [f"v=DMARC1; p=none; rua=mailto:a@{'x' * 70}.example, mailto:b@{'y.' * 130}z, c"]},
        [
            ("warning", "report-missing", f"example.org._report._dmarc.{'x' * 70}.example"),
            ("warning", "report-missing", f"example.org._report._dmarc.{'y.' * 130}z"),
        ],
    ),
    "no mail": ({"example.org MX": ["0 ."]}, []),
    "an MX that does not exist": (
        {"example.org MX": ["10 mx3.example.net."]},
        [("fault", "mx-dangling", NAME)],
    ),
    "no SPF record": ({"example.org TXT": ["x=1"]}, [("fault", "missing", NAME)]),
    "two SPF records": ({"example.org TXT": ["v=spf1 -all", "v=spf1 mx -all"]}, [("fault", "several-records", NAME)]),
    "quotes": ({"example.org TXT": ['"v=spf1 -all"']}, [("fault", "quotes", NAME)]),
    "no DMARC record": ({"_dmarc.example.org TXT": []}, [("fault", "missing", "_dmarc.example.org")]),
    "backslashes": (
        {"_dmarc.example.org TXT": ["v=DMARC1\\; p=reject"]},
        [("fault", "backslashes", "_dmarc.example.org")],
    ),
    "a removed tag": (
        {"_dmarc.example.org TXT": ["v=DMARC1; p=reject; pct=5"]},
        [("warning", "removed-tags", "_dmarc.example.org")],
    ),
    "reports to one who did not ask": (
        {"example.org._report._dmarc.example.net TXT": []},
        [("warning", "report-missing", "example.org._report._dmarc.example.net")],
    ),
}


@pytest.mark.parametrize(("published", "expected"), OTHERS.values(), ids=OTHERS.keys())
def test_other_domains(world, published, expected):
    """The mistakes that need no settings are named."""
    for key, values in published.items():
        world.publish(*key.split(" "), *values)
    assert wrong(check(world)) == expected


MENDED = {
    "no such policy": ("v=DMARC1; p=monitor; adkim=s", "v=DMARC1; p=none; adkim=s"),
    "no such policy, but reports": (
        "v=DMARC1; p=reject; np=none.; rua=mailto:b@example.org",
        "v=DMARC1; p=reject; np=none; rua=mailto:b@example.org",
    ),
    "no policy": ("v=DMARC1; rua=mailto:b@example.org", "v=DMARC1; p=none; rua=mailto:b@example.org"),
    "a tag twice": ("v=DMARC1; aspf=s; p=reject; p=none", "v=DMARC1; p=reject; aspf=s"),
    "no record": ("v=DMARC1, p=reject", "v=DMARC1; p=none"),
}


@pytest.mark.parametrize(("published", "paste"), MENDED.values(), ids=MENDED.keys())
def test_what_to_paste(world, published, paste):
    """Without settings, a record is mended so that its owner loses nothing that receivers take from it."""
    world.publish("_dmarc.example.org", "TXT", published)
    (found,) = [one for one in check(world).findings if one.level != "fine"]
    assert [one.value for one in found.publish] == [paste]
    world.publish("_dmarc.example.org", "TXT", paste)
    assert wrong(check(world)) == []


def test_a_sub_domain_has_the_policy_from_above(world):
    """The tree walk finds the policy of a domain without a record of its own."""
    world.publish("sub.example.org", "MX", "10 mx.example.net.")
    world.publish("sub.example.org", "TXT", "v=spf1 -all")
    report = check(world, "sub.example.org")
    assert wrong(report) == []
    assert "the policy is p=reject, by the record of example.org" in [one.what for one in report.findings]


def test_the_command(world, tmp_path, monkeypatch):
    """It needs no .env, and takes a name of other letters."""
    monkeypatch.chdir(tmp_path)
    with world.served() as port:
        options = ["--resolver", RESOLVER, "--port", str(port)]
        done = CliRunner().invoke(main, ["dns", "check", "--domain", "Example.ORG", *options])
    assert done.exit_code == 0, done.output
    assert "0 faults, 0 warnings, " in done.stdout
    assert CliRunner().invoke(main, ["dns", "check", "--domain", "-"]).exit_code == 2


def test_watch(world):
    """It checks until all is right, and says what changes; without a change it says nothing."""
    world.publish(NAME, "TXT")
    said = []
    checks = []

    def once():
        checks.append(1)
        if len(checks) == 4:
            world.publish(NAME, "TXT", *GOOD["example.org TXT"])
        elif len(checks) == 3:
            world.publish("_dmarc.example.org", "TXT", "v=DMARC1; p=none; pct=5")
        elif len(checks) == 5:
            world.publish("_dmarc.example.org", "TXT", "v=DMARC1; p=none")
        return check(world)

    assert watched(once, 60, said.append, interval=0.01).worst == "fine"
    assert (len(checks), [one.counts["fault"] for one in said]) == (5, [1, 1, 0])


def test_watch_ends(world):
    """At the limit the last report is what there is."""
    world.publish(NAME, "TXT")
    start = time.monotonic()
    assert watched(lambda: check(world), 1, lambda _: None, interval=0.2).worst == "fault"
    assert time.monotonic() - start < 3
