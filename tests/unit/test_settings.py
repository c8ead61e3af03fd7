"""mailstack.settings: what a site says about itself, and every way in which it can be said wrongly."""

import ipaddress

import pytest

from mailstack.environment import load, read_environment
from mailstack.errors import Fault, SettingsError
from mailstack.fields import HostPort, NextHop
from mailstack.settings import Settings
from unit.sites import MINIMAL, environment, faults, settings, variable

FIELDS = Settings.model_fields
# With this the examples of all settings make sense, each alone.
AROUND_EXAMPLES = {
    "domains": "example.com,example.net",
    "mailboxes": "user@example.com,admin@example.com",
}


# fmt: off
DEFAULTS = {
    "public_addresses": (), "delivery": None, "aliases": (), "postmaster": None,
    "dkim_selector": "default", "dkim_key_bits": 2048, "dkim_keys": "shared", "sign_subdomains": True,
    "trusted_networks": (), "spf_qualifier": "~", "spf_record": None,
    "spf_fail": "tag", "spf_softfail": "tag", "spf_permerror": "tag", "spf_temperror": "defer",
    "spf_skip_networks": (), "spf_skip_domains": (), "dmarc_policy": "none", "dmarc_report_addresses": (),
    "local_sender": "discard", "milter_default_action": "tempfail",
    "relay_host": None, "message_size": 50 * 1024 * 1024,
    "publish_addresses": (ipaddress.IPv4Address("0.0.0.0"),), "port_smtp": 25, "port_submission": 587,  # noqa: S104
    "resolver_forwarders": (), "resolver_trust_anchors": (),
    "subnet": ipaddress.IPv4Network("172.30.253.0/27"), "base_image": "debian:trixie-slim",
}
# fmt: on


def test_defaults():
    """What is not set has the documented default, and so has a scalar that is set to nothing."""
    empty = {name: " " for name, value in DEFAULTS.items() if not isinstance(value, tuple)}
    for loaded in (settings(), settings(**empty)):
        assert {name: getattr(loaded, name) for name in FIELDS.keys() - MINIMAL.keys()} == DEFAULTS


@pytest.mark.parametrize("name", FIELDS)
def test_setting_is_documented_by_an_example_that_works(name):
    """Every setting has a description and an example; the example is accepted and is not the default."""
    assert FIELDS[name].description
    assert FIELDS[name].examples
    for example in FIELDS[name].examples:
        loaded = settings(**AROUND_EXAMPLES | {name: example})
        assert getattr(loaded, name) != FIELDS[name].default


def test_white_space_around_a_value_does_not_count():
    """A blank in front, or the CR of a file from Windows behind, changes no setting's meaning."""
    changed = []
    for name, field in FIELDS.items():
        plain = settings(**AROUND_EXAMPLES | {name: field.examples[0]})
        padded = AROUND_EXAMPLES | {name: f" {field.examples[0]}\r"}
        if faults(**padded) or settings(**padded) != plain:
            changed.append(name)
    assert changed == []


TWO = ("example.com", "example.net")


@pytest.mark.parametrize(
    ("text", "domains"),
    [
        ("example.com", ("example.com",)),
        ("example.com,example.net", TWO),
        ("example.com example.net", TWO),
        ("  example.com\t,\texample.net  ", TWO),
        ("example.com\r\nexample.net\r\n", TWO),
        ("example.com,example.net,", TWO),
        (",,example.com,,example.net", TWO),
        ("example.com,example.net\r", TWO),
        ("example.com,example.net,example.com", TWO),
        ("EXAMPLE.com.,example.com", ("example.com",)),
        ("sub.example.com,example.com", ("sub.example.com", "example.com")),
        ("BÜCHER.example., xn--bcher-kva.example", ("xn--bcher-kva.example",)),
        ("bücher。example", ("xn--bcher-kva.example",)),
    ],
)
def test_domains_as_people_write_them(text, domains):
    """Commas, white space and line ends separate; case, a final dot and the script do not matter; order stays."""
    assert load({**environment(delivery="lmtp:192.0.2.24", mailboxes="", domains=text)}).domains == domains


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("example.com=s1,example.net=s2", ["example.com=s1", "example.net=s2"]),
        ('"example.com,example.net"', ['"example.com', 'example.net"']),
        ("'example.com'", ["'example.com'"]),
        ("example.com,.example.net", [".example.net"]),
        ("*", ["*"]),
        ("*.example.com", ["*.example.com"]),
        ("example.com;example.net", ["example.com;example.net"]),
        ("-example.com", ["-example.com"]),
        ("example..com", ["example..com"]),
        ("user@example.com", ["user@example.com"]),
        ("localhost", ["localhost"]),
        ("192.0.2.1", ["192.0.2.1"]),
        (f"{'a' * 64}.example", [f"{'a' * 64}.example"]),
        (".".join(["a" * 61] * 4) + ".example", [".".join(["a" * 61] * 4) + ".example"]),
        ("b\N{FULLWIDTH ASTERISK}.example", ["b\N{FULLWIDTH ASTERISK}.example"]),
        ("exa\udcffmple.com", ["exa\udcffmple.com"]),
        ("", [""]),
        (" ,\r\n", [","]),
    ],
)
def test_domains_that_are_none(text, tokens):
    """No part of a wrong token becomes a domain: each is refused by its name."""
    found = [fault for fault in faults(domains=text) if fault.variable == "MAILSTACK_DOMAINS"]
    assert [fault.token for fault in found] == tokens


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ("domains", "example.com"),
        ("public_addresses", "192.0.2.25"),
        ("mailboxes", "user@example.com"),
        ("aliases", "info@example.com=user@example.com"),
        ("trusted_networks", "192.0.2.0/28"),
        ("spf_skip_networks", "192.0.2.53"),
        ("spf_skip_domains", "relay.example"),
        ("dmarc_report_addresses", "user@example.com"),
        ("publish_addresses", "192.0.2.25"),
        ("resolver_forwarders", "192.0.2.53"),
    ],
)
def test_duplicates_are_merged(setting, text):
    """What is listed twice is there once: tables and records take no duplicates."""
    assert len(getattr(settings(**{setting: f"{text},{text}"}), setting)) == 1


@pytest.mark.parametrize(
    ("setting", "text", "value"),
    [
        ("public_addresses", "192.0.2.25 2001:DB8::25", ["192.0.2.25", "2001:db8::25"]),
        ("mailboxes", "User@EXAMPLE.com.,a+b@example.com", ["user@example.com", "a+b@example.com"]),
        ("trusted_networks", "192.0.2.7,2001:db8::/32", ["192.0.2.7/32", "2001:db8::/32"]),
        ("publish_addresses", "", []),
        ("resolver_forwarders", "192.0.2.53,192.0.2.54@5353", ["192.0.2.53", "192.0.2.54:5353"]),
        ("delivery", "lmtp:dovecot.example.com", NextHop("lmtp", HostPort("dovecot.example.com", 24))),
        ("message_size", "25MiB", 25 * 1024 * 1024),
        ("sign_subdomains", "no", False),
        ("dkim_selector", "S2026", "s2026"),
        ("spf_record", "v=spf1  mx   -all", "v=spf1 mx -all"),
    ],
)
def test_canonical_value(setting, text, value):
    """Values of every kind are read into their one form; an empty value empties a list that has a default."""
    loaded = getattr(settings(**{setting: text}), setting)
    assert (list(map(str, loaded)) if isinstance(value, list) else loaded) == value


# setting, value, the token at fault
BAD = [
    ("hostname", "mail", "mail"),
    ("hostname", "8e4b1f0c2d3a", "8e4b1f0c2d3a"),
    ("hostname", "*.example.com", "*.example.com"),
    ("hostname", "localhost.localdomain", "localhost.localdomain"),
    ("hostname", "mail.local", "mail.local"),
    ("domains", "example.com,*", "*"),
    ("public_addresses", "192.0.2.25,192.0.2.256", "192.0.2.256"),
    ("public_addresses", "fe80::25%eth0", "fe80::25%eth0"),
    ("delivery", "lmtp:", "lmtp:"),
    ("mailboxes", "user@example.com,info", "info"),
    ("aliases", "sales@example.com", "sales@example.com"),
    ("postmaster", "postmaster", "postmaster"),
    ("dkim_selector", "a.b", "a.b"),
    ("dkim_key_bits", "512", "512"),
    ("dkim_key_bits", "8192", "8192"),
    ("dkim_keys", "each", "each"),
    ("sign_subdomains", "perhaps", "perhaps"),
    ("trusted_networks", "192.0.2.0/24,192.0.2.1/24", "192.0.2.1/24"),
    ("spf_qualifier", "+", "+"),
    ("spf_record", "spf1 mx", "spf1 mx"),
    ("spf_fail", "reject", "reject"),
    ("spf_softfail", "defer", "defer"),
    ("spf_permerror", "Tag", "Tag"),
    ("spf_temperror", "reject-early", "reject-early"),
    ("spf_skip_networks", "192.0.2.53/33", "192.0.2.53/33"),
    ("spf_skip_domains", "relay.example,*.example", "*.example"),
    ("dmarc_policy", "refuse", "refuse"),
    ("dmarc_report_addresses", "mailto:dmarc@example.com", "mailto:dmarc@example.com"),
    ("local_sender", "drop", "drop"),
    ("milter_default_action", "reject", "reject"),
    ("relay_host", "smtp.example.net:smtp", "smtp.example.net:smtp"),
    ("message_size", "big", "big"),
    ("publish_addresses", "2001:db8::25", "2001:db8::25"),
    ("port_smtp", "65536", "65536"),
    ("port_submission", "-1", "-1"),
    ("resolver_forwarders", "192.0.2.53:53", "192.0.2.53:53"),
    ("resolver_trust_anchors", ". DS 1 8 2 zz", ". DS 1 8 2 zz"),
    ("subnet", "172.30.253.0/28", "172.30.253.0/28"),
    ("subnet", "172.30.253.1/27", "172.30.253.1/27"),
    ("subnet", "2001:db8::/32", "2001:db8::/32"),
    ("base_image", "Debian Trixie", "Debian Trixie"),
]


@pytest.mark.parametrize(("setting", "value", "token"), BAD)
def test_bad_value_is_named(setting, value, token):
    """The one fault, and its text, names the variable and the token as it was typed."""
    (fault,) = faults(**{setting: value})
    assert (fault.variable, fault.token) == (variable(setting), token)
    assert str(fault).startswith(f"{variable(setting)}: {token!r}: ")
    assert fault.remedy


def test_every_setting_can_be_wrong():
    """The table above leaves no setting out."""
    assert {setting for setting, _, _ in BAD} == set(FIELDS)


def test_all_faults_are_reported_together():
    """One load() names every wrong token of every variable, unknown names included, one line for each."""
    wrong = environment(hostname="mail", domains="*,example.com,.example.net", port_smtp="x", spf_record="mx")
    with pytest.raises(SettingsError) as caught:
        load(wrong | {"MAILSTACK_DOMIANS": "example.com"})
    assert {(fault.variable, fault.token) for fault in caught.value.faults} == {
        ("MAILSTACK_HOSTNAME", "mail"),
        ("MAILSTACK_DOMAINS", "*"),
        ("MAILSTACK_DOMAINS", ".example.net"),
        ("MAILSTACK_PORT_SMTP", "x"),
        ("MAILSTACK_SPF_RECORD", "mx"),
        ("MAILSTACK_DOMIANS", None),
    }
    assert str(caught.value).splitlines() == [str(fault) for fault in caught.value.faults]
    assert caught.value.exit_code == 2


def test_nothing_set():
    """Without any variable the three that must be set are asked for, by name."""
    with pytest.raises(SettingsError) as caught:
        load({})
    assert {fault.variable for fault in caught.value.faults} == {
        variable(name) for name in ("hostname", "domains", "mailboxes")
    }


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("MAILSTACK_DOMAIN", "MAILSTACK_DOMAINS"),
        ("MAILSTACK_HOST_NAME", "MAILSTACK_HOSTNAME"),
        ("MAILSTACK_DKIM_BITS", "MAILSTACK_DKIM_KEY_BITS"),
        ("mailstack_relay_host", "MAILSTACK_RELAY_HOST"),
        ("MAILSTACK_FOO", None),
    ],
)
def test_unknown_name(name, meant):
    """A name that is no setting is a fault; what it is nearly like is proposed, and nothing else."""
    with pytest.raises(SettingsError) as caught:
        load(environment() | {name: "1"})
    remedy = f"is no setting of mailstack; {f'did you mean {meant}?' if meant else 'remove it'}"
    assert caught.value.faults == (Fault(name, None, remedy),)


@pytest.mark.parametrize(
    ("changes", "setting", "token", "remedy"),
    [
        ({"mailboxes": "user@example.net"}, "mailboxes", "user@example.net", "add example.net to MAILSTACK_DOMAINS"),
        ({"mailboxes": "", "delivery": "maildir"}, "mailboxes", "", "at least one mailbox"),
        ({"aliases": "a@example.com=b@example.com"}, "aliases", ..., "add b@example.com to MAILSTACK_MAILBOXES"),
        ({"aliases": "a@example.com=a@example.com"}, "aliases", ..., "leads to no mailbox"),
        ({"aliases": "user@example.com=x@example.net"}, "aliases", ..., "is a mailbox as well"),
        ({"aliases": "a@example.net=user@example.com"}, "aliases", ..., "is outside the domains"),
        ({"postmaster": "admin@example.com"}, "postmaster", ..., "is no mailbox"),
        ({"trusted_networks": "192.0.2.0/28,0.0.0.0/0"}, "trusted_networks", "0.0.0.0/0", "open relay"),
        ({"trusted_networks": "::/0"}, "trusted_networks", ..., "open relay"),
        ({"spf_skip_networks": "0.0.0.0/0"}, "spf_skip_networks", ..., "part of the Internet"),
        ({"trusted_networks": "10.1.0.0/16", "subnet": "10.1.2.0/27"}, "subnet", ..., "overlaps 10.1.0.0/16"),
        ({"trusted_networks": "172.30.253.5"}, "subnet", None, "overlaps 172.30.253.5/32"),
        ({"subnet": "127.0.0.0/27"}, "subnet", ..., "overlaps 127.0.0.0/8"),
    ],
)
def test_settings_that_contradict_each_other(changes, setting, token, remedy):
    """What can only be wrong together is refused, with the variable to change, its token (...: all), and the way out."""
    (fault,) = faults(**changes)
    assert (fault.variable, fault.token) == (variable(setting), changes[setting] if token is ... else token)
    assert remedy in fault.remedy


@pytest.mark.parametrize(
    ("changes", "setting"),
    [
        ({"aliases": "a@example.com=user@mail.example.com"}, "aliases"),
        ({"postmaster": "nobody@mail.example.com"}, "postmaster"),
        ({"postmaster": "root@mail.example.com"}, "postmaster"),
        # The container itself.
        ({"resolver_forwarders": "127.0.0.53"}, "resolver_forwarders"),
        ({"delivery": "lmtp:127.0.0.1:24"}, "delivery"),
        ({"relay_host": "mail.example.com"}, "relay_host"),
        ({"relay_host": "[2001:db8::25]:25"}, "relay_host"),
        ({"trusted_networks": "64.0.0.0/2"}, "trusted_networks"),
        ({"spf_skip_networks": "0.0.0.0/1,128.0.0.0/1"}, "spf_skip_networks"),
        ({"spf_record": "v=spf1 ip:192.0.2.1 -all"}, "spf_record"),
        ({"hostname": f"{'a' * 60}.example.com"}, "hostname"),
        ({"message_size": "0"}, "message_size"),
        ({"subnet": "198.51.100.0/27"}, "subnet"),
        # They lead to no mailbox, only to each other.
        ({"aliases": "a@example.com=b@example.com,b@example.com=a@example.com"}, "aliases"),
        # A table has one row for an address; one of the targets would get nothing.
        ({"aliases": "a@example.com=user@example.com,a@example.com=x@example.net"}, "aliases"),
        # A port of the host can be published once.
        ({"port_smtp": "587"}, "port_submission"),
    ],
)
def test_values_that_exclude_each_other(changes, setting):
    """Values that are right one by one and cannot be together are refused."""
    assert {fault.variable for fault in faults(**changes)} == {variable(setting)}


LMTP = {"delivery": "lmtp:192.0.2.24", "mailboxes": ""}


@pytest.mark.parametrize(
    "changes",
    [
        LMTP,
        LMTP | {"delivery": "smtp:mailboxes.example.net:2525"},
        LMTP | {"aliases": "a@example.com=anybody@example.com"},
        LMTP | {"postmaster": "anybody@example.com"},
        {"aliases": "a@example.com=b@example.com,b@example.com=user@example.com"},
        {"aliases": "a@example.com=x@example.net"},
        {"aliases": "a@example.com=user@example.com", "postmaster": "a@example.com"},
        {"postmaster": "hostmaster@example.net"},
        {"trusted_networks": "2001:db8::/32,172.30.252.0/24"},
        {"port_smtp": "0", "port_submission": "0"},
    ],
)
def test_settings_that_agree(changes):
    """What looks like a contradiction and is none is accepted, without a warning."""
    assert settings(**changes).warnings() == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"dkim_key_bits": "4096"}, []),
        ({"dkim_key_bits": "1024"}, ["MAILSTACK_DKIM_KEY_BITS: 1024 "]),
        ({"milter_default_action": "accept"}, ["MAILSTACK_MILTER_DEFAULT_ACTION: "]),
        ({"trusted_networks": "192.168.7.0/24,10.1.0.0/16"}, []),
        *(
            ({"trusted_networks": one, "subnet": subnet}, [f"MAILSTACK_TRUSTED_NETWORKS: {one} "])
            for subnet, ones in [
                ("172.30.253.0/27", ["10.0.0.0/8", "fc00::/7"]),
                ("10.99.0.0/27", ["172.16.0.0/12", "192.168.0.0/16"]),
            ]
            for one in ones
        ),
        (
            {"trusted_networks": "10.0.0.0/8 192.168.0.0/16", "milter_default_action": "accept"},
            ["MAILSTACK_TRUSTED_NETWORKS: 10", "MAILSTACK_TRUSTED_NETWORKS: 192", "MAILSTACK_MILTER_DEFAULT_ACTION"],
        ),
    ],
)
def test_warnings(changes, expected):
    """What is allowed and probably not meant is warned about, once for each, with its variable and value."""
    found = settings(**changes).warnings()
    assert [one[: len(start)] for one, start in zip(found, expected, strict=True)] == expected


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("MAILSTACK_SPF_RECORD=v=spf1 mx -all", "v=spf1 mx -all"),
        ("MAILSTACK_SPF_RECORD='v=spf1 mx -all'", "v=spf1 mx -all"),
        ('MAILSTACK_SPF_RECORD="v=spf1 mx -all"  # ours', "v=spf1 mx -all"),
        ("export MAILSTACK_SPF_RECORD=v=spf1", "v=spf1"),
        ("MAILSTACK_SPF_RECORD='$HOME ${HOME} $$'", "$HOME ${HOME} $$"),
        ("MAILSTACK_SPF_RECORD=$HOME ${HOME}", "$HOME ${HOME}"),
        ("MAILSTACK_SPF_RECORD=", ""),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_env_file(tmp_path, line, value, end):
    """A value of .env is what stands there without its quotes: nothing is put in for $, and CRLF is a line end."""
    lines = ["# a site", "MAILSTACK_HOSTNAME=mail.example.com", line, "HOME_PAGE=x", ""]
    (tmp_path / ".env").write_bytes(end.join(lines).encode())
    assert read_environment(tmp_path, {"HOME": "/home/user"}) == {
        "MAILSTACK_HOSTNAME": "mail.example.com",
        "MAILSTACK_SPF_RECORD": value,
    }


def test_environment_wins_over_env_file(tmp_path):
    """A variable of the environment counts before .env, as in compose, even if it is empty; others are left out."""
    (tmp_path / ".env").write_text("MAILSTACK_HOSTNAME=a.example\nMAILSTACK_ALIASES=x\nMAILSTACK_DOMAINS=a.example\n")
    given = {"MAILSTACK_HOSTNAME": "b.example", "MAILSTACK_ALIASES": "", "PATH": "/bin"}
    expected = {"MAILSTACK_HOSTNAME": "b.example", "MAILSTACK_ALIASES": "", "MAILSTACK_DOMAINS": "a.example"}
    assert read_environment(tmp_path, given) == expected
    assert read_environment(tmp_path / "elsewhere", given) == {name: given[name] for name in list(given)[:2]}


@pytest.mark.parametrize(
    "line",
    ["MAILSTACK_TRUSTED_NETWORKS='192.0.2.0/28", "MAILSTACK_SPF_FAIL: reject-early", "MAILSTACK_SPF_FAIL"],
)
def test_env_line_that_cannot_be_read(tmp_path, line):
    """A line of .env that would be lost is a fault, by its number."""
    (tmp_path / ".env").write_text(f"MAILSTACK_HOSTNAME=mail.example.com\n{line}\n")
    with pytest.raises(SettingsError, match=r"\.env, line 2"):
        read_environment(tmp_path, {})


def test_env_file_that_is_not_text(tmp_path):
    """A .env that is not UTF-8 is a fault like any other: text that names the file, and exit code 2."""
    (tmp_path / ".env").write_bytes("MAILSTACK_DOMAINS=bücher.example\n".encode("latin-1"))
    with pytest.raises(SettingsError, match=r"\.env"):
        read_environment(tmp_path, {})


def test_no_env_file(tmp_path):
    """In a directory without settings the message names the file that is missing, and not a dozen variables."""
    with pytest.raises(SettingsError, match=r"\.env: is not there; copy env\.example") as caught:
        read_environment(tmp_path, {"PATH": "/bin"})
    assert len(caught.value.faults) == 1
