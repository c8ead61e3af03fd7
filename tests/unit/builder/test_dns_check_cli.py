"""mailstack dns check as a command: text, JSON, the line for monitoring, exit codes."""

import json
from contextlib import contextmanager

import pytest
from click.testing import CliRunner

from mailstack.cli.app import main
from mailstack.dns.check.wanted import row
from mailstack.dns.records import records
from mailstack.settings.environment import read_environment
from mailstack.settings.load import load
from mailstack.tasks.load import load_stack, make_secrets
from unit.dns_mistakes import ADDRESS, PTR
from unit.dns_world import RESOLVER, Internet
from unit.sites import environment

ZONES = {
    "example.com": {"ns1.example.net": "127.0.0.2", "ns2.example.net": "127.0.0.3"},
    "example.net": {"ns1.example.net": "127.0.0.2"},
    "2.0.192.in-addr.arpa": {"ns1.example.net": "127.0.0.2"},
}
VARIABLES = environment(public_addresses=ADDRESS)
SELECTOR = "default._domainkey.example.com"


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A site in the current directory, and the DNS that it needs."""
    monkeypatch.chdir(tmp_path)
    make_secrets(tmp_path, load(read_environment(tmp_path, VARIABLES)))
    stack, _ = load_stack(tmp_path, VARIABLES)
    found = Internet(ZONES)
    for one in map(row, records(stack)):
        value = one.value if one.type in {"TXT", "A"} else f"{one.value}."
        found.publish(one.name, one.type, value)
    found.publish(PTR, "PTR", "mail.example.com.")
    return found


@pytest.fixture
def check(world):
    """The command, with the world's resolver, and port 25 if it is asked for."""

    def run(*arguments, color=False, smtp=False, **variables):
        with world.served() as port:
            whole = ["dns", "check", "--resolver", RESOLVER, "--port", str(port), *arguments]
            whole += [] if smtp else ["--no-smtp"]
            return CliRunner().invoke(main, whole, env=VARIABLES | variables, color=color)

    return run


def test_all_is_right(check):
    """Exit code 0; every record is listed, without colours in a pipe; --quiet leaves the summary."""
    done = check("--strict")
    assert done.exit_code == 0, done.output
    assert "fine     example.com MX: mail goes to mail.example.com\n" in done.stdout
    assert f"fine     {SELECTOR} TXT: DKIM is right\n" in done.stdout
    assert "\x1b" not in done.stdout
    assert check("--quiet").stdout == done.stdout.splitlines(keepends=True)[-1]


def test_port_25(check):
    """It is looked at, too; nobody answers at an address of the documentation (RFC 5737)."""
    done = check("--strict", "--quiet", smtp=True)
    assert done.exit_code == 7
    assert f"warning  mail.example.com SMTP: port 25 of {ADDRESS} does not answer from here: " in done.stdout


def test_a_fault(check, world):
    """Exit code 6; what is published and where, what is wrong, what to remove and to paste, each on a line."""
    world.publish(SELECTOR, "TXT", "v=DKIM1")
    done = check("--quiet")
    assert done.exit_code == 6
    first = done.stdout.splitlines()[:5]
    assert first[:4] == [
        f"fault    {SELECTOR} TXT: the value is cut at its first semicolon",
        "         found    v=DKIM1",
        "         at       ns1.example.net (127.0.0.2), serial 1; ns2.example.net (127.0.0.3), serial 1",
        "         remove   v=DKIM1",
    ]
    assert first[4].startswith("         publish  v=DKIM1; h=sha256; k=rsa; p=MII")
    assert first[4].endswith("IDAQAB")
    assert "error: the published records have faults\n" in done.stderr


def test_a_warning(check, world):
    """Exit code 0, and 7 with --strict."""
    world.publish("_dmarc.example.com", "TXT", "v=DMARC1; p=none; pct=50")
    assert check().exit_code == 0
    done = check("--strict")
    assert done.exit_code == 7
    assert "error: the published records have warnings\n" in done.stderr


def test_json(check, world):
    """All of it for programs, with the same exit code."""
    world.publish("example.com", "TXT")
    done = check("--json")
    data = json.loads(done.stdout)
    assert (done.exit_code, data["worst"], data["counts"]["fault"]) == (6, "fault", 1)
    assert data["servers"] == [
        "ns1.example.net (127.0.0.2), serial 1",
        "ns2.example.net (127.0.0.3), serial 1",
    ]
    first = data["findings"][0]
    assert (first["code"], first["name"], first["type"]) == ("missing", "example.com.", "TXT")
    assert first["publish"] == [{"name": "example.com.", "type": "TXT", "value": f"v=spf1 ip4:{ADDRESS} ~all"}]


@contextmanager
def silent(world):
    world.behaviours[RESOLVER] = "silent"
    yield
    del world.behaviours[RESOLVER]


def test_nagios(check, world):
    """One line, and the exit codes of monitoring plugins."""
    done = check("--nagios")
    assert (done.exit_code, done.stdout.partition(" | ")[0][:8], done.stdout.count("\n")) == (0, "DNS OK -", 1)
    world.publish("_dmarc.example.com", "TXT", "v=DMARC1; p=none; pct=50")
    assert check("--nagios").exit_code == 1
    world.publish("example.com", "TXT")
    done = check("--nagios")
    assert done.exit_code == 2
    assert done.stdout.startswith("DNS CRITICAL - example.com TXT: there is no SPF record; 1 fault, 1 warning, ")
    assert " | fault=1 warning=1 fine=" in done.stdout
    with silent(world):
        done = check("--nagios")
    assert (done.exit_code, done.stdout[:31]) == (3, "DNS UNKNOWN - no resolver answe")


def test_colours(check):
    """On a terminal the levels have colours, unless NO_COLOR is set."""
    assert "\x1b[32mfine" in check(color=True).stdout
    assert "\x1b" not in check(color=True, NO_COLOR="1").stdout


def test_no_resolver(check, world):
    """Nothing can be said then: exit code 1."""
    with silent(world):
        done = check()
    assert done.exit_code == 1
    assert "no resolver answers (127.0.0.1)" in done.stderr


def test_a_resolver_is_an_address():
    """A name cannot be looked up without a resolver."""
    done = CliRunner().invoke(main, ["dns", "check", "--resolver", "dns.example"])
    assert done.exit_code == 2
    assert "'dns.example' is no address; write one such as 192.0.2.53" in done.stderr
