"""mailstack.settings: what a site says about itself, and every way in which it can be said wrongly."""

import ipaddress

import pytest
import spf as pyspf

from mailstack.errors import Fault, SettingsError
from mailstack.render.compose import site
from mailstack.settings.checks import warnings
from mailstack.settings.environment import read_environment
from mailstack.settings.load import load, read_settings
from mailstack.settings.model import Settings
from mailstack.settings.reference import settings_rows
from mailstack.values.dnssec import ROOT_ANCHORS, key_tag, trust_anchor
from unit.sites import MINIMAL, environment, faults, settings, stack, variable

FIELDS = Settings.model_fields
# With this the examples of all settings make sense, each alone.
AROUND_EXAMPLES = {
    "domains": "example.com,example.net",
    "mailboxes": "user@example.com,admin@example.com",
    "apt_mirror": "http://snapshots.example.com/debian",
    "postscreen": "on",
}
# What a login at a relay host needs.
LOGIN = {"relay_host": "smtp.example.net", "relay_user": "user", "relay_password": "s3cret, too"}
AROUND_EXAMPLES |= LOGIN | {"relay_hosts": "example.net=smtp.example.net:587"}


# fmt: off
DEFAULTS = {
    "public_addresses": (), "delivery": (), "aliases": (), "srs": True, "postmaster": None,
    "dkim_selector": "default", "dkim_key_bits": 2048, "dkim_keys": "shared", "sign_subdomains": True,
    "trusted_networks": (), "spf_qualifier": "~", "spf_record": None,
    "spf_fail": "reject", "spf_softfail": "tag", "spf_permerror": "tag", "spf_temperror": "defer",
    "spf_skip_networks": (), "spf_skip_domains": (), "dmarc_policy": "none", "dmarc_report_addresses": (),
    "dmarc_record": None,
    "dmarc_action": "follow", "dmarc_skip_networks": (), "dmarc_skip_domains": (),
    "dns_wait_hours": 4, "dns_wait_action": "quarantine", "unknown_sender_domain": "defer",
    "local_sender": "aligned", "local_sender_action": "discard", "milter_default_action": "tempfail", "extra_milters": (), "sasl": None,
    "relay_host": None, "relay_user": None, "relay_password": None, "relay_hosts": (), "relay_logins": (), "message_size": 50 * 1024 * 1024,
    "publish_addresses": (ipaddress.IPv4Address("0.0.0.0"),), "port_smtp": 25, "port_submission": 587,  # noqa: S104
    "port_submissions": 465, "outgoing_address": None, "tls_directory": "tls",
    "limit_sessions": 20, "limit_connections": 300, "limit_messages": 500, "limit_recipients": 1000, "limit_minutes": 1,
    "limit_user_sessions": 20, "limit_user_messages": 300, "limit_user_recipients": 1000, "limit_user_minutes": 60,
    "postscreen": False, "dnsbl": (), "dnsbl_threshold": 1,
    "proxy_networks": (), "port_smtp_proxy": 12525, "port_submission_proxy": 10587, "port_submissions_proxy": 10465,
    "resolver_forwarders": (), "resolver_trust_anchors": (),
    "subnet": ipaddress.IPv4Network("172.30.253.0/25"), "base_image": "debian:trixie-slim",
    "apt_mirror": None, "apt_snapshot": None, "build_proxy": None, "image_max_age": 30,
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
        ("public_addresses", "192.0.2.25 192.0.2.26", ["192.0.2.25", "192.0.2.26"]),
        ("mailboxes", "User@EXAMPLE.com.,a+b@example.com", ["user@example.com", "a+b@example.com"]),
        ("trusted_networks", "192.0.2.7,2001:db8::/32", ["192.0.2.7/32", "2001:db8::/32"]),
        ("publish_addresses", "", []),
        ("resolver_forwarders", "192.0.2.53,192.0.2.54@5353", ["192.0.2.53", "192.0.2.54@5353"]),
        ("delivery", "lmtp:dovecot Example.com=maildir", ["lmtp:dovecot:24", "example.com=maildir"]),
        ("message_size", "25MiB", 25 * 1024 * 1024),
        ("sign_subdomains", "no", False),
        ("srs", "off", False),
        ("dkim_selector", "S2026", "s2026"),
        ("spf_record", "v=spf1  mx   -all", "v=spf1 mx -all"),
        ("dmarc_record", "v=DMARC1;p=reject;", "v=DMARC1; p=reject"),
    ],
)
def test_canonical_value(setting, text, value):
    """Values of every kind are read into their one form; an empty value empties a list that has a default."""
    loaded = getattr(settings(**{setting: text}), setting)
    assert (list(map(str, loaded)) if isinstance(value, list) else loaded) == value


OLD_ANCHOR, ANCHOR = ROOT_ANCHORS
# setting, value, the token at fault, and what the message says to write in its place
BAD = [
    ("hostname", "mail", "mail", "example.com"),
    ("hostname", "8e4b1f0c2d3a", "8e4b1f0c2d3a", "example.com"),
    ("hostname", "*.example.com", "*.example.com", "example.com"),
    ("domains", "example.com,example.srs.invalid", "example.srs.invalid", "example.com"),
    ("hostname", "localhost.localdomain", "localhost.localdomain", "mail.example.com"),
    ("hostname", "mail.local", "mail.local", "mail.example.com"),
    ("hostname", f"{'a' * 60}.example.com", f"{'a' * 60}.example.com", "mail.example.com"),
    ("domains", "example.com,*", "*", "example.com"),
    ("domains", "example.com .example.net", ".example.net", "example.com"),
    ("domains", "exa\udcffmple.com", "exa\udcffmple.com", "example.com"),
    ("public_addresses", "192.0.2.25,192.0.2.256", "192.0.2.256", "192.0.2.25"),
    ("public_addresses", "2001:db8::25", "2001:db8::25", ""),
    ("public_addresses", "192.0.2.25,::ffff:192.0.2.26", "::ffff:192.0.2.26", "192.0.2.26"),
    ("public_addresses", "fe80::25%eth0", "fe80::25%eth0", "192.0.2.25"),
    ("delivery", "lmtp:", "lmtp:", "maildir"),
    ("delivery", "dovecot:24", "dovecot:24", "maildir"),
    ("delivery", "example.com=dovecot:24", "example.com=dovecot:24", "maildir"),
    ("mailboxes", "user@example.com,info", "info", "user@example.com"),
    ("mailboxes", "@example.com", "@example.com", "user@example.com"),
    ("aliases", "sales@example.com", "sales@example.com", "info@example.com=user@example.com"),
    ("postmaster", "postmaster", "postmaster", "user@example.com"),
    ("dkim_selector", "a.b", "a.b", "a-b"),
    ("dkim_key_bits", "512", "512", "1024"),
    ("dkim_key_bits", "8192", "8192", "4096"),
    ("dkim_keys", "each", "each", "shared"),
    ("sign_subdomains", "perhaps", "perhaps", "true"),
    ("srs", "srs.example.com", "srs.example.com", "true"),
    ("trusted_networks", "192.0.2.0/24,192.0.2.1/24", "192.0.2.1/24", "192.0.2.0/24"),
    ("trusted_networks", "fe80::1%eth0", "fe80::1%eth0", "fe80::/64"),
    ("spf_skip_networks", "fe80::%x;y/64", "fe80::%x;y/64", "fe80::/64"),
    *(
        (setting, f"2001:db8::/32,{one}", one, plain)
        for setting in ("trusted_networks", "spf_skip_networks", "dmarc_skip_networks")
        for one, plain in (
            ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
            ("::ffff:c000:200/120", "192.0.2.0/24"),
            ("::ffff:192.0.2.7", "192.0.2.7/32"),
            ("::ffff:192.0.2.7/120", "192.0.2.0/24"),
        )
    ),
    ("spf_qualifier", "+", "+", "-"),
    ("spf_record", "spf1 mx", "spf1 mx", "v=spf1 mx -all"),
    ("spf_record", "v=spf1 ip:192.0.2.1 -all", "v=spf1 ip:192.0.2.1 -all", "v=spf1 mx -all"),
    ("spf_fail", "defer", "defer", "reject-early"),
    ("spf_softfail", "defer", "defer", "tag"),
    ("spf_permerror", "Tag", "Tag", "tag"),
    ("spf_temperror", "reject-early", "reject-early", "defer"),
    ("spf_skip_networks", "192.0.2.53/33", "192.0.2.53/33", "192.0.2.0/24"),
    ("spf_skip_domains", "*.forwarder.example", "*.forwarder.example", "example.com"),
    ("unknown_sender_domain", "450", "450", "defer"),
    ("dmarc_policy", "refuse", "refuse", "none"),
    ("dmarc_record", "v=spf1 -all", "v=spf1 -all", "v=DMARC1; p=reject"),
    ("dmarc_report_addresses", "mailto:dmarc@example.com", "mailto:dmarc@example.com", "dmarc@example.com"),
    *(
        (setting, f"{'mailto:' * count}dmarc@example.com", f"{'mailto:' * count}dmarc@example.com", "dmarc@example.com")
        for setting in ("dmarc_report_addresses", "mailboxes")
        for count in (2, 20)
    ),
    ("dmarc_action", "quarantine", "quarantine", "follow"),
    ("dns_wait_hours", "97", "97", "96"),
    ("dns_wait_hours", "4h", "4h", "96"),
    ("dns_wait_hours", "-1", "-1", "0"),
    ("dns_wait_action", "discard", "discard", "quarantine"),
    ("dmarc_skip_networks", "192.0.2.54/33", "192.0.2.54/33", "192.0.2.0/24"),
    ("dmarc_skip_domains", "*.lists.example", "*.lists.example", "example.com"),
    ("local_sender", "discard", "discard", "aligned"),
    ("local_sender", "reject", "reject", "envelope"),
    ("local_sender_action", "drop", "drop", "discard"),
    ("milter_default_action", "reject", "reject", "tempfail"),
    ("extra_milters", "unix:/run/rspamd/milter.sock", "unix:/run/rspamd/milter.sock", "unix:run/rspamd/milter.sock"),
    ("extra_milters", "unix:milter.sock", "unix:milter.sock", "unix:rspamd/milter.sock"),
    ("extra_milters", "unix:opendkim/a.sock", "unix:opendkim/a.sock", "unix:rspamd/milter.sock"),
    ("extra_milters", "unix:dmarc/a.sock", "unix:dmarc/a.sock", "unix:rspamd/milter.sock"),
    ("extra_milters", "rspamd:11332", "rspamd:11332", "inet:rspamd:11332"),
    ("extra_milters", "inet:192.0.2.11", "inet:192.0.2.11", "inet:rspamd:11332"),
    ("sasl", "unix:/run/dovecot/auth", "unix:/run/dovecot/auth", "unix:run/dovecot/auth"),
    ("sasl", "dovecot", "dovecot", "inet:dovecot:12345"),
    ("sasl", "inet:dovecot", "inet:dovecot", "inet:dovecot:12345"),
    ("relay_host", "smtp.example.net:smtp", "smtp.example.net:smtp", "smtp.example.net:25"),
    ("outgoing_address", "0.0.0.0", "0.0.0.0", "192.0.2.25"),  # noqa: S104
    ("outgoing_address", "eth0", "eth0", "192.0.2.25"),
    ("relay_hosts", "smtp.example.net", "smtp.example.net", "example.com=smtp.example.net:587"),
    ("message_size", "big", "big", "25MiB"),
    ("message_size", "9999999TB", "9999999TB", "1024GiB"),
    ("message_size", "0", "0", "64KiB"),
    ("limit_sessions", "-1", "-1", "0"),
    ("limit_connections", "300/min", "300/min", "1000000"),
    ("limit_messages", "1000001", "1000001", "1000000"),
    ("limit_recipients", "many", "many", "0"),
    ("limit_minutes", "0", "0", "1"),
    ("limit_user_sessions", "twenty", "twenty", "0"),
    ("limit_user_messages", "unlimited", "unlimited", "0"),
    ("limit_user_recipients", "-5", "-5", "0"),
    ("limit_user_minutes", "1441", "1441", "1440"),
    ("proxy_networks", "192.0.2.10,2001:db8::10", "2001:db8::10", "192.0.2.10"),
    ("proxy_networks", "0.0.0.0/0", "0.0.0.0/0", ""),
    ("proxy_networks", "haproxy", "haproxy", "192.0.2.0/24"),
    ("port_smtp_proxy", "65536", "65536", "65535"),
    ("port_submission_proxy", "-1", "-1", "0"),
    ("port_submissions_proxy", "smtps", "smtps", "0"),
    ("postscreen", "enforce", "enforce", "true"),
    ("dnsbl", "dnsbl", "dnsbl", "example.com"),
    ("dnsbl", "dnsbl.example.net*0", "dnsbl.example.net*0", "dnsbl.example.net*2"),
    ("dnsbl", "a.example*-100", "a.example*-100", "dnsbl.example.net*2"),
    *(
        ("dnsbl", f"a.example={one}*2", f"a.example={one}*2", "dnsbl.example.net=127.0.0.[2..11]")
        for one in ("", "127.0.0", "127.0.0.256", "127.0.0.[4..2]", "127.0.0.[]", "127.0.0.2.3")
    ),
    ("dnsbl_threshold", "0", "0", "1"),
    ("publish_addresses", "2001:db8::25", "2001:db8::25", "192.0.2.25"),
    ("port_smtp", "65536", "65536", "65535"),
    ("port_smtp", "smtp", "smtp", "65535"),
    ("port_submission", "-1", "-1", "0"),
    ("port_submissions", "4650x", "4650x", "0"),
    ("tls_directory", "/", "/", "tls"),
    ("tls_directory", "a/..", "a/..", "tls"),
    ("tls_directory", "${HOME}/tls", "${HOME}/tls", "tls"),
    ("resolver_forwarders", "192.0.2.53:53", "192.0.2.53:53", "192.0.2.53@53"),
    ("resolver_trust_anchors", ". DS 1 8 2 zz", ". DS 1 8 2 zz", ANCHOR),
    ("subnet", "172.30.253.0/28", "172.30.253.0/28", "10.99.0.0/27"),
    ("subnet", "172.30.253.1/27", "172.30.253.1/27", "172.30.253.0/27"),
    ("subnet", "2001:db8::/32", "2001:db8::/32", "10.99.0.0/27"),
    ("subnet", "198.51.100.0/27", "198.51.100.0/27", "10.99.0.0/27"),
    ("base_image", "debian:", "debian:", "debian:trixie-slim"),
    ("base_image", "Debian Trixie", "Debian Trixie", "debian:trixie-slim"),
    ("apt_mirror", "mirror.example.com", "mirror.example.com", "http://mirror.example.com/debian"),
    ("apt_mirror", "http://mirror.example.com/de'b", "http://mirror.example.com/de'b", "http://192.0.2.80:3142"),
    ("apt_mirror", "http://[::1/debian", "http://[::1/debian", "http://mirror.example.com/debian"),
    ("apt_snapshot", "2026-11-01", "2026-11-01", "20261101T000000Z"),
    ("build_proxy", "http://192.0.2.80:x", "http://192.0.2.80:x", "http://mirror.example.com/debian"),
    ("image_max_age", "0", "0", "1"),
]


@pytest.mark.parametrize(("setting", "value", "token", "remedy"), BAD)
def test_bad_value_is_named_and_the_remedy_works(setting, value, token, remedy):
    """The one fault names the variable and the token as it was typed; what it says to write instead renders a site."""
    (fault,) = faults(**{setting: value})
    assert (fault.variable, fault.token) == (variable(setting), token)
    assert str(fault).startswith(f"{variable(setting)}: {token!r}: ")
    assert remedy in fault.remedy
    around = {"apt_mirror": "http://a.example", "postscreen": "on"} | LOGIN
    assert site(stack(**around | {setting: value.replace(token, remedy)}))


@pytest.mark.parametrize("setting", ["mailboxes", "postmaster", "dmarc_report_addresses", "aliases"])
@pytest.mark.parametrize("start", ["mailto:", "a=", "a@", "@", "+", "."])
def test_many_beginnings(setting, start):
    """A beginning that stands there any number of times is one fault, and no traceback."""
    (fault, *_) = faults(**{setting: f"{start * 3000}a@example.com"})
    assert fault.variable == variable(setting)


@pytest.mark.parametrize(
    ("setting", "value", "shown"),
    [
        ("build_proxy", "http://user:s3cr@t@192.0.2.80:3142", "http://…@192.0.2.80:3142"),
        ("build_proxy", "user:s3cr@t@192.0.2.80:3142", "…@192.0.2.80:3142"),
        ("apt_mirror", "http://user:s3c/r@t@a.example", "http://…@a.example"),
        ("relay_host", "user:s3cr@t@smtp.example.net:587", "…@smtp.example.net:587"),
        ("relay_host", "s3cr@t@smtp.example.net", "…@smtp.example.net"),
        ("relay_host", "user:s3c\nr@t@smtp.example.net", "…@smtp.example.net"),
        ("delivery", "lmtp:user:s3cr@t@192.0.2.24", "…@192.0.2.24"),
        ("relay_user", "user:s3cr@t", "user:…"),
        ("relay_hosts", "example.com=user:s3cr@t@smtp.example.net:587", "…@smtp.example.net:587"),
        ("extra_milters", "inet:s3cr@t@192.0.2.24:1", "…@192.0.2.24:1"),
        ("sasl", "inet:s3cr@t@192.0.2.24:1", "…@192.0.2.24:1"),
        ("base_image", "user:s3cr@t@registry.example/debian", "…@registry.example/debian"),
    ],
)
def test_a_password_is_not_shown(setting, value, shown):
    """The message about a server with a password names the variable and holds nothing of the password."""
    (fault,) = faults(**{setting: value, "mailboxes": "user@example.com"})
    assert str(fault).startswith(f"{variable(setting)}: {shown!r}: ")
    assert "s3c" not in str(fault)
    assert "t@" not in str(fault)


@pytest.mark.parametrize(
    "wrong",
    [
        "s3cr=t",
        "s3cret",
        "example.com=s3cret",
        "example.com=:s3cret",
        "example.com=us er:s3cret",
        "s3cr.et=user s3c=ret",
        f"example.com=user:{'s3cret' * 100}",
        "exa mple.com=user:s3cret",
        "example.com=user:s3cret\u200b",
    ],
)
def test_a_list_of_logins(wrong):
    """A password may hold commas, blanks, equals signs and hashes; of what is wrong only the number is shown."""
    right = "# comment\nexample.com=user@example.com:#s3c, r=et:\n\n"
    given = {"domains": "example.com", "relay_hosts": "example.com=smtp.example.net:587"}
    (login,) = settings(relay_logins=right, **given).relay_logins
    assert (login.user, login.password.get_secret_value()) == ("user@example.com", "#s3c, r=et:")
    assert "s3c" not in str(login)
    (fault,) = faults(relay_logins=f"{right}{wrong}", **given)
    assert (fault.token, fault.remedy.partition(",")[0]) == (None, "entry 2 is not DOMAIN=USER:PASSWORD")
    assert not {"s3c", "r.et", "exa m"} & {
        str(fault)[at : at + length] for at in range(len(str(fault))) for length in (3, 4, 5)
    }


def test_credentials_in_front_of_a_relay():
    """Who writes a password before the relay host learns where it belongs, not that the form is wrong."""
    (fault,) = faults(relay_host="user:secret@smtp.example.net:587")
    assert "write HOST:PORT only. A login at a relay host is MAILSTACK_RELAY_USER" in fault.remedy


@pytest.mark.parametrize("password", ["s3cret\ts3cret", "s3cret" * 100, "s3cret\x00", "s3cret\ns3cret"])
def test_a_password_that_is_refused_is_not_shown(password):
    """The fault names the variable alone."""
    (fault,) = faults(relay_host="smtp.example.net", relay_user="user", relay_password=password)
    assert (fault.variable, fault.token) == ("MAILSTACK_RELAY_PASSWORD", None)
    assert "s3cret" not in str(fault)


def test_a_password_in_a_file(tmp_path):
    """It may begin like a comment; where the password itself stands for the file's name, it is not shown."""
    login = environment() | {variable("relay_host"): "smtp.example.net", variable("relay_user"): "user"}
    (tmp_path / "password").write_text("#s3cret\n")
    chosen = read_settings(tmp_path, login | {"MAILSTACK_RELAY_PASSWORD_FILE": "password"})
    assert chosen.relay_password.get_secret_value() == "#s3cret"
    with pytest.raises(SettingsError, match="MAILSTACK_RELAY_PASSWORD_FILE: cannot be read") as caught:
        read_settings(tmp_path, login | {"MAILSTACK_RELAY_PASSWORD_FILE": "s3cret"})
    assert "s3cret" not in str(caught.value)


def test_a_password_is_not_shown_among_the_settings():
    """Neither where they are listed nor where they are printed."""
    chosen = settings(**LOGIN)
    rows = settings_rows(chosen, {variable(name): ".env" for name in LOGIN})
    assert "s3cret" not in repr(chosen) + str(rows)
    assert chosen.relay_password.get_secret_value() == "s3cret, too"


@pytest.mark.parametrize("name", ["debian@sha256:" + "0" * 64, "registry.example:5000/debian:13@sha256:" + "a" * 64])
def test_base_image_by_digest(name):
    """An image may be named by its digest, with or without a tag."""
    assert settings(base_image=name).base_image == name


def test_a_broken_line_is_not_shown(tmp_path):
    """Of a line that cannot be read nothing is repeated but a name of ours: it may be another program's secret."""
    (tmp_path / ".env").write_text("s3cret two\nTOKEN='s3cret\nMAILSTACK_HOSTNAME='s3cret\n")
    with pytest.raises(SettingsError) as caught:
        read_environment(tmp_path, {})
    assert "s3cret" not in str(caught.value)
    assert "line 1: is not NAME=VALUE" in str(caught.value)


def test_a_file_by_a_path_that_is_none(tmp_path):
    """A NUL in a path is a fault like any other path that cannot be read; a byte order mark is none."""
    (tmp_path / "one").write_bytes(b"\xef\xbb\xbfuser@example.com\n")
    (tmp_path / ".env").write_bytes(b"MAILSTACK_MAILBOXES_FILE=one\n")
    assert read_environment(tmp_path, {}) == {"MAILSTACK_MAILBOXES": "user@example.com"}
    (tmp_path / ".env").write_bytes(b"MAILSTACK_MAILBOXES_FILE=o\0ne\n")
    with pytest.raises(SettingsError, match=r"MAILSTACK_MAILBOXES_FILE: .* cannot be read: embedded null byte"):
        read_environment(tmp_path, {})


def test_every_setting_can_be_wrong():
    """The table above leaves no setting out."""
    assert {setting for setting, *_ in BAD} == set(FIELDS) - {"relay_user", "relay_password", "relay_logins"}


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
        ("MAILSTACK_SASL_PATH", "MAILSTACK_SASL"),
        ("MAILSTACK_FOO", None),
    ],
)
def test_unknown_name(name, meant):
    """A name that is no setting is a fault; what it is nearly like is proposed, and nothing else."""
    with pytest.raises(SettingsError) as caught:
        load(environment() | {name: "1"})
    remedy = f"is not a setting of mailstack; {f'did you mean {meant}?' if meant else 'remove it'}"
    assert caught.value.faults == (Fault(name, None, remedy),)


# what is set, the setting at fault, its token, words of the message, what the message says to change
TWO_DELIVERIES = {"domains": "example.com,example.net", "delivery": "example.net=lmtp:192.0.2.24:24"}
CONTRADICTIONS = [
    (
        {"mailboxes": "a@example.net"},
        "mailboxes",
        ...,
        "add example.net to MAILSTACK_DOMAINS",
        {"domains": "example.net"},
    ),
    (
        {"mailboxes": ""},
        "mailboxes",
        "",
        "write at least one: user@example.com",
        {"mailboxes": "user@example.com"},
    ),
    (
        {"aliases": "a@example.com=b@example.com"},
        "aliases",
        ...,
        "add b@example.com to MAILSTACK_MAILBOXES",
        {"mailboxes": "user@example.com,b@example.com"},
    ),
    (
        {"aliases": "a@example.com=a@example.com"},
        "aliases",
        ...,
        "add it to MAILSTACK_MAILBOXES",
        {"mailboxes": "user@example.com,a@example.com"},
    ),
    (
        {"aliases": "a@example.com=b@example.com,b@example.com=a@example.com"},
        "aliases",
        "a@example.com=b@example.com",
        "a@example.com → b@example.com → a@example.com; change one of the targets",
        {"aliases": "a@example.com=b@example.com,b@example.com=user@example.com"},
    ),
    (
        {
            "aliases": "a@example.com=user@example.com b@example.com=c@example.com c@example.com=d@example.com "
            "c@example.com=user@example.com d@example.com=x@example.net d@example.com=b+x@example.com"
        },
        "aliases",
        "b@example.com=c@example.com",
        "b@example.com → c@example.com → d@example.com → b@example.com; change one of the targets",
        {"aliases": "b@example.com=user@example.com"},
    ),
    (
        {"aliases": "a@example.com=user@example.com,a@example.com=b@example.com"},
        "aliases",
        "a@example.com=b@example.com",
        "add b@example.com to MAILSTACK_MAILBOXES",
        {"mailboxes": "user@example.com,b@example.com"},
    ),
    (
        {"aliases": "*@example.com=all@example.com"},
        "aliases",
        ...,
        "add all@example.com to MAILSTACK_MAILBOXES",
        {"mailboxes": "user@example.com,all@example.com"},
    ),
    (
        {"aliases": "*@example.com=a@example.com,a@example.com=nobody@example.com"},
        "aliases",
        "*@example.com=a@example.com",
        "*@example.com → a@example.com → *@example.com;",
        {"aliases": "*@example.com=a@example.com,a@example.com=user@example.com"},
    ),
    (
        {"delivery": "lmtp:192.0.2.24", "mailboxes": "", "aliases": "*@example.com=user@example.com"},
        "aliases",
        ...,
        "list the addresses of example.com in MAILSTACK_MAILBOXES",
        {"mailboxes": "user@example.com"},
    ),
    (
        {"aliases": "*@example.net=user@example.com"},
        "aliases",
        ...,
        "add example.net",
        {"domains": "example.com,example.net"},
    ),
    *(
        (
            given | {"aliases": "postmaster@example.com=root@mail.example.com"},
            "aliases",
            "postmaster@example.com=root@mail.example.com",
            "postmaster@example.com → root@mail.example.com → postmaster@example.com;",
            {"aliases": "postmaster@example.com=user@example.net"},
        )
        for given in ({"postmaster": "postmaster@example.com"}, {"delivery": "lmtp:192.0.2.24", "mailboxes": ""})
    ),
    *(
        (
            {"aliases": "user@example.com=x@example.net,user@example.com=x@example.org"},
            "aliases",
            "user@example.com=x@example.net",
            "add user@example.com=user@example.com to keep a copy there, or remove it here",
            {"aliases": mended},
        )
        for mended in ("", "user@example.com=x@example.net,user@example.com=user@example.com")
    ),
    *(
        (
            {"mailboxes": f"user@example.com user+a@example.com {one}+Quarantine@example.com"},
            "mailboxes",
            f"{one}+quarantine@example.com",
            f"is the Junk address of {one}@example.com; choose another",
            {"mailboxes": "user@example.com user+a@example.com user+junk@example.com"},
        )
        # Those that mailstack adds have a Junk too.
        for one in ("user", "user+a", "postmaster", "abuse")
    ),
    *(
        (
            {"aliases": f"info@example.com=user@example.com {one}+quarantine@{at}=x@example.net"},
            "aliases",
            f"{one}+quarantine@{at}=x@example.net",
            f"is the Junk address of {one}@{at}; choose another",
            {"aliases": "info+junk@example.com=x@example.net"},
        )
        for one, at in (("user", "example.com"), ("info", "example.com"), ("root", "mail.example.com"))
    ),
    (
        {"aliases": "a@example.net=user@example.com"},
        "aliases",
        ...,
        "add example.net",
        {"domains": "example.com,example.net"},
    ),
    (
        {"aliases": "a@example.com=user@mail.example.com"},
        "aliases",
        ...,
        "postmaster, abuse, root",
        {"aliases": "a@example.com=root@mail.example.com"},
    ),
    (
        {"aliases": "*@mail.example.com=user@example.com,a@example.com=x@example.net"},
        "aliases",
        "*@mail.example.com=user@example.com",
        "SRS addresses, which have the host name as their domain",
        {"srs": "false"},
    ),
    ({"postmaster": "admin@example.com"}, "postmaster", ..., "MAILSTACK_MAILBOXES", {"mailboxes": "admin@example.com"}),
    (
        {"postmaster": "root@mail.example.com"},
        "postmaster",
        ...,
        "user@example.com",
        {"postmaster": "user@example.com"},
    ),
    (
        {"delivery": "lmtp:mail.example.com"},
        "delivery",
        "lmtp:mail.example.com:24",
        "another machine",
        {"delivery": "lmtp:192.0.2.24"},
    ),
    (
        {"delivery": "lmtp:dovecot:24,smtp:192.0.2.24:25"},
        "delivery",
        "smtp:192.0.2.24:25",
        "is for all domains without their own, and so is lmtp:dovecot:24; keep one of the two",
        {"delivery": "lmtp:dovecot:24"},
    ),
    (
        {"delivery": "example.com=lmtp:dovecot:24,example.com=maildir"},
        "delivery",
        "example.com=maildir",
        "is for example.com, and so is example.com=lmtp:dovecot:24; keep one of the two",
        {"delivery": "example.com=maildir"},
    ),
    (
        {"delivery": "example.net=lmtp:dovecot:24"},
        "delivery",
        ...,
        "add example.net to MAILSTACK_DOMAINS",
        {"domains": "example.com,example.net"},
    ),
    # A mailbox server of another domain does not know the addresses of this one.
    (
        TWO_DELIVERIES | {"mailboxes": ""},
        "mailboxes",
        "",
        "write at least one: user@example.com",
        {"mailboxes": "user@example.com"},
    ),
    (
        TWO_DELIVERIES | {"aliases": "a@example.net=b@example.com"},
        "aliases",
        "a@example.net=b@example.com",
        "add b@example.com to MAILSTACK_MAILBOXES",
        {"aliases": "a@example.net=b@example.net"},
    ),
    (
        TWO_DELIVERIES | {"mailboxes": "user@example.com,user@example.net", "postmaster": "b@example.net"},
        "postmaster",
        ...,
        "add it to MAILSTACK_MAILBOXES",
        {"postmaster": "user@example.net"},
    ),
    ({"delivery": "lmtp:127.0.0.1:24"}, "delivery", ..., "another machine", {"delivery": "lmtp:192.0.2.24"}),
    (
        {"resolver_forwarders": "127.0.0.53"},
        "resolver_forwarders",
        ...,
        "another machine",
        {"resolver_forwarders": "192.0.2.53"},
    ),
    ({"relay_host": "mail.example.com"}, "relay_host", ..., "another machine", {"relay_host": "192.0.2.24"}),
    (
        {"extra_milters": "inet:mail.example.com:11332"},
        "extra_milters",
        "inet:mail.example.com:11332",
        "another machine",
        {"extra_milters": "inet:rspamd:11332"},
    ),
    (
        {"hostname": f"{'a' * 50}.example", "delivery": "lmtp:dovecot:24"},
        "delivery",
        "lmtp:dovecot:24",
        "which is too long; use its address",
        {"delivery": "lmtp:192.0.2.24:24"},
    ),
    ({"relay_host": "[2001:db8::25]:25"}, "relay_host", ..., "write an IPv4 address", {"relay_host": "192.0.2.24"}),
    (
        {"trusted_networks": "192.0.2.0/28,0.0.0.0/0"},
        "trusted_networks",
        "0.0.0.0/0",
        "open relay",
        {"trusted_networks": "192.0.2.0/28"},
    ),
    ({"trusted_networks": "::/0"}, "trusted_networks", ..., "open relay", {"trusted_networks": ""}),
    ({"trusted_networks": "64.0.0.0/2"}, "trusted_networks", ..., "open relay", {"trusted_networks": ""}),
    ({"spf_skip_networks": "0.0.0.0/0"}, "spf_skip_networks", ..., "list the senders' own", {"spf_skip_networks": ""}),
    (
        {"trusted_networks": "10.1.0.0/16", "subnet": "10.1.2.0/27"},
        "subnet",
        ...,
        "overlaps 10.1.0.0/16",
        {"subnet": "10.99.0.0/27"},
    ),
    (
        {"trusted_networks": "172.30.253.1"},
        "trusted_networks",
        "172.30.253.1/32",
        "this host's, own address",
        {"trusted_networks": "192.0.2.1"},
    ),
    (
        {"spf_skip_networks": "172.16.0.0/12"},
        "subnet",
        "172.30.253.0/25",
        "such as 10.99.0.0/25, or list",
        {"subnet": "10.99.0.0/25"},
    ),
    # What is advised has the size of what there is, and overlaps nothing that is listed.
    *(
        (
            {name: f"{before}{host}{after}"} | given,
            name,
            f"{before}{host}{after}",
            f"only for these containers; use another MAILSTACK_SUBNET, such as {other}",
            {"subnet": other},
        )
        for name, before, after in (
            ("delivery", "lmtp:", ":24"),
            ("extra_milters", "inet:", ":11332"),
            ("sasl", "inet:", ":12345"),
            ("resolver_forwarders", "", ""),
            ("resolver_forwarders", "", "@5353"),
            ("relay_host", "", ""),
            ("relay_hosts", "example.com=", ""),
        )
        for host, given, other in (
            ("172.30.253.9", {}, "10.99.0.0/25"),
            ("10.99.0.5", {"subnet": "10.99.0.0/27"}, "10.99.0.32/27"),
            ("10.99.255.5", {"subnet": "10.99.255.0/24"}, "10.99.0.0/24"),
            ("172.30.253.9", {"trusted_networks": "10.99.0.7,10.99.1.0/24"}, "10.99.0.128/25"),
            ("172.30.253.9", {"dmarc_skip_networks": "10.99.0.0/17,10.99.128.0/17"}, "10.0.0.0/25"),
        )
    ),
    *(
        (
            {name: networks, "subnet": subnet},
            "subnet",
            subnet,
            f"Use another MAILSTACK_SUBNET, such as {other}, or list",
            {"subnet": other},
        )
        for name in ("spf_skip_networks", "dmarc_skip_networks", "trusted_networks")
        for networks, subnet, other in (
            ("10.0.0.0/8", "10.1.0.0/24", "172.16.0.0/24"),
            ("10.0.0.0/8,172.16.0.0/13,2001:db8::/32", "10.1.0.0/24", "172.24.0.0/24"),
            ("10.64.0.0/10", "10.99.0.0/16", "10.0.0.0/16"),
            ("10.1.2.3,10.96.0.0/11", "10.112.0.0/12", "10.16.0.0/12"),
        )
    ),
    (
        {"publish_addresses": "0.0.0.0,192.0.2.25"},
        "publish_addresses",
        "0.0.0.0",  # noqa: S104
        "remove it or all others",
        {"publish_addresses": "192.0.2.25"},
    ),
    (
        {"apt_snapshot": "20261101T000000Z"},
        "apt_snapshot",
        ...,
        "MAILSTACK_APT_MIRROR",
        {"apt_mirror": "http://a.example"},
    ),
    ({"relay_host": "192.0.2.24:465"}, "relay_host", ..., "the server's name", {"relay_host": "smtp.example.net:465"}),
    (
        {"relay_host": "smtp.example.net", "relay_user": "user"},
        "relay_user",
        ...,
        "without MAILSTACK_RELAY_PASSWORD;",
        {"relay_password": "x"},
    ),
    ({"relay_password": "x"}, "relay_password", None, "without MAILSTACK_RELAY_USER and MAILSTACK_RELAY_HOST;", LOGIN),
    (
        {"relay_host": "smtp:587", "relay_user": "user", "relay_password": "x"},
        "relay_host",
        ...,
        "by their full name",
        {"relay_host": "smtp.example.net:587"},
    ),
    (
        {"relay_hosts": "example.org=smtp.example.net:25"},
        "relay_hosts",
        ...,
        "add example.org to MAILSTACK_DOMAINS",
        {"domains": "example.com,example.org"},
    ),
    (
        {"relay_hosts": "example.com=smtp.example.net:25 example.com=smtp.example.org:25"},
        "relay_hosts",
        "example.com=smtp.example.org:25",
        "keep one of the two",
        {"relay_hosts": "example.com=smtp.example.net:25"},
    ),
    (
        {"relay_hosts": "example.com=192.0.2.24:465"},
        "relay_hosts",
        ...,
        "the server's name",
        {"relay_hosts": "example.com=smtp.example.net:465"},
    ),
    (
        {"relay_hosts": "example.com=smtp:25", "relay_logins": "example.com=user:s3cret"},
        "relay_hosts",
        "example.com=smtp:25",
        "by their full name",
        {"relay_hosts": "example.com=smtp.example.net:25"},
    ),
    (
        {"relay_logins": "example.com=user:s3cret"},
        "relay_logins",
        None,
        "add example.com=HOST:PORT to MAILSTACK_RELAY_HOSTS",
        {"relay_hosts": "example.com=smtp.example.net:587"},
    ),
    (
        {
            "relay_hosts": "example.com=smtp.example.net:587",
            "relay_logins": "example.com=user:s3cret\nexample.com=other:s3cret",
        },
        "relay_logins",
        None,
        "has 2 logins for example.com; keep one",
        {"relay_logins": "example.com=user:s3cret"},
    ),
    (
        {"outgoing_address": "172.30.253.9"},
        "outgoing_address",
        ...,
        "write an address of this host",
        {"outgoing_address": "192.0.2.25"},
    ),
    ({"port_smtp": "587"}, "port_submission", "587", "0 to publish none", {"port_submission": "0"}),
    ({"port_submission": "465"}, "port_submissions", "465", "0 to publish none", {"port_submissions": "0"}),
    (
        {"proxy_networks": "192.0.2.10", "port_smtp_proxy": "25"},
        "port_smtp_proxy",
        ...,
        "MAILSTACK_PORT_SMTP;",
        {"port_smtp_proxy": "0"},
    ),
    ({"dnsbl": "a.example*2"}, "dnsbl", "a.example=127.0.[0..255].[2..254]*2", "POSTSCREEN=on", {"postscreen": "on"}),
    (
        {"proxy_networks": "172.30.253.1"},
        "proxy_networks",
        "172.30.253.1/32",
        "any client could name any other",
        {"proxy_networks": "192.0.2.10"},
    ),
    (
        {"dmarc_record": "v=DMARC1; p=none", "dmarc_policy": "reject"},
        "dmarc_policy",
        ...,
        "is not the policy of MAILSTACK_DMARC_RECORD, which takes its place; remove one of the two",
        {"dmarc_record": "v=DMARC1; p=reject"},
    ),
    (
        {"dmarc_record": "v=DMARC1; p=none", "dmarc_report_addresses": "user@example.com"},
        "dmarc_report_addresses",
        ...,
        "is not in rua= of MAILSTACK_DMARC_RECORD, which takes its place; add mailto:user@example.com there",
        {"dmarc_record": "v=DMARC1; p=none; rua=mailto:user@example.com"},
    ),
]


@pytest.mark.parametrize(("changes", "setting", "token", "words", "mended"), CONTRADICTIONS)
def test_settings_that_contradict_each_other(changes, setting, token, words, mended):
    """What can only be wrong together is refused by variable, token (...: all of it) and remedy; the remedy works."""
    (fault,) = faults(**changes)
    assert (fault.variable, fault.token) == (variable(setting), changes[setting] if token is ... else token)
    assert words in fault.remedy
    assert site(stack(**changes | mended))


@pytest.mark.parametrize(
    ("network", "taken"), [("::ffff:0:0/96", False), ("::fffe:0:0/95", True), ("::fffe:0:0/96", True), ("::/64", True)]
)
def test_ipv4_in_the_form_of_ipv6(network, taken):
    """All of IPv4 is told as such; networks of IPv6 around and beside it are none."""
    found = faults(spf_skip_networks=network)
    assert not found if taken else "write 0.0.0.0/0" in found[0].remedy


@pytest.mark.parametrize("subnet", ["10.1.0.0/24", "192.168.1.0/24", "172.30.253.0/25"])
def test_no_network_is_free(subnet):
    """Where every private network is listed, none is advised."""
    (fault,) = faults(spf_skip_networks="10.0.0.0/8,172.16.0.0/12,192.168.0.0/16", subnet=subnet)
    assert fault.token == subnet
    assert "Use another MAILSTACK_SUBNET and smaller networks: no private one is free" in fault.remedy


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        # What a bad token may have been meant to name is not called missing; what it cannot mean is.
        ({"domains": "example..com"}, {("domains", "example..com")}),
        (
            {"domains": "example..com,example.net", "mailboxes": "user@example.com,user@other.example"},
            {("domains", "example..com"), ("mailboxes", "user@other.example")},
        ),
        (
            {"mailboxes": "user@example.com,us er@example.com", "aliases": "a@example.com=user2@example.com"},
            {("mailboxes", "us"), ("aliases", "a@example.com=user2@example.com")},
        ),
        (
            {"mailboxes": "user@example.com,x@other.example", "aliases": "a@example.com=a@example.com"},
            {("mailboxes", "x@other.example"), ("aliases", "a@example.com=a@example.com")},
        ),
        (
            {"hostname": "mail", "domains": "*", "port_smtp": "587"},
            {
                ("hostname", "mail"),
                ("domains", "*"),
                ("mailboxes", "user@example.com"),
                ("port_submission", "587"),
            },
        ),
        (
            {"domains": "", "aliases": "a@example.com=a@example.com", "postmaster": "b@example.com"},
            {("domains", "")},
        ),
        (
            {"delivery": "lmtp:", "mailboxes": "", "relay_host": "x y"},
            {("delivery", "lmtp:"), ("relay_host", "x y")},
        ),
        (
            {"domains": "example..net,example.com", "delivery": "example.net=maildir,other.example=maildir"},
            {("domains", "example..net"), ("delivery", "other.example=maildir")},
        ),
    ],
)
def test_a_fault_hides_no_other(changes, expected):
    """A refused value hides only what it may have been meant to say; all else is judged in the same run."""
    found = {(fault.variable, fault.token) for fault in faults(**changes)}
    assert found == {(variable(setting), token) for setting, token in expected}


ANCHORS = "MAILSTACK_RESOLVER_TRUST_ANCHORS"
SPF = "v=spf1 include:_spf.example.net -all"
# As Debian's dns-root-data has it.
KEY_2024 = (
    ". IN DNSKEY 257 3 8 AwEAAa96jeuknZlaeSrvyAJj6ZHv28hhOKkx3rLGXVaC6rXTsDc449/cidltpkyGwCJNnOAlFNKF2jBosZBU5eeHspaQ"
    "WOmOElZsjICMQMC3aeHbGiShvZsx4wMYSjH8e7Vrhbu6irwCzVBApESjbUdpWWmEnhathWu1jo+siFUiRAAxm9qyJNg/wOZqqzL/dL/q8PkcRU5o"
    "UKEpUge71M3ej2/7CPqpdVwuMoTvoB+ZOT4YeGyxMvHmbrxlFzGOHOijtzN+u1TQNatX2XBuzZNQ1K+s2CXkPIZo7s6JgZyvaBevYtxPvYLw4z9m"
    "R7K2vaF18UYH9Z9GNUUeayffKC73PYc="
)
LMTP = {"delivery": "lmtp:192.0.2.24", "mailboxes": ""}


@pytest.mark.parametrize(
    "changes",
    [
        LMTP,
        LMTP | {"delivery": "smtp:mailboxes.example.net:2525"},
        LMTP | {"aliases": "a@example.com=anybody@example.com"},
        TWO_DELIVERIES | {"aliases": "a@example.com=anybody@example.net", "postmaster": "anybody@example.net"},
        TWO_DELIVERIES | {"mailboxes": "", "aliases": "a@example.com=anybody@example.net"},
        TWO_DELIVERIES | {"mailboxes": "user@example.com,user+quarantine@example.net,user@example.net"},
        TWO_DELIVERIES | {"dmarc_report_addresses": "dmarc@example.net"},
        LMTP | {"postmaster": "anybody@example.com"},
        {"aliases": "a@example.com=b@example.com,b@example.com=user@example.com"},
        {"aliases": "a@example.com=x@example.net"},
        {"aliases": "a@example.com=abuse@example.com"},
        {"aliases": "a@example.com=user+a@example.com", "postmaster": "user+pm@example.com"},
        {
            "mailboxes": "user@example.com other+quarantine@example.com",
            "aliases": "a+quarantine@example.com=x@example.net",
        },
        {"aliases": "a@example.com=user+quarantine@example.com", "postmaster": "user+quarantine@example.com"},
        LMTP | {"mailboxes": "user@example.com user+quarantine@example.com"},
        {"spf_record": "v=spf1 a:_h.example.com/24//64 mx//64 ip6:2001:db8::/32 exists:%{i}.example.com -all"},
        {"aliases": "a@example.com=user@example.com", "postmaster": "a@example.com"},
        # Several targets, a copy that stays, two who keep each other's, and what nobody else has.
        {"aliases": "a@example.com=user@example.com,a@example.com=x@example.net"},
        {"aliases": "user@example.com=user@example.com,user@example.com=x@example.net"},
        LMTP | {"aliases": "user@example.com=user@example.com,user@example.com=x@example.net"},
        {
            "mailboxes": "user@example.com a@example.com",
            "aliases": "user@example.com=user@example.com user@example.com=a@example.com a@example.com=a@example.com "
            "a@example.com=user@example.com",
        },
        {"aliases": "*@example.com=user@example.com,*@example.com=x@example.net"},
        {"aliases": "*@mail.example.com=user@example.com,*@example.com=user@example.com"},
        {"aliases": "*@mail.example.com=user@example.com,a@example.com=x@example.net", "srs": "false"},
        {"aliases": "*@example.com=a@example.com,a@example.com=user@example.com", "postmaster": "any@example.com"},
        {"aliases": "*@example.com=user@example.com", "dmarc_report_addresses": "reports@example.com"},
        LMTP | {"aliases": "*@mail.example.com=user@example.com"},
        {"postmaster": "hostmaster@example.net"},
        {"trusted_networks": "2001:db8::/32,172.30.252.0/24"},
        {"port_smtp": "0", "port_submission": "0"},
        {"port_smtp_proxy": "25"},
        {"dmarc_report_addresses": "user+dmarc@example.com,postmaster@example.com,x@example.net,x@sub.example.com"},
        LMTP | {"dmarc_report_addresses": "dmarc@example.com"},
    ],
)
def test_settings_that_agree(changes):
    """What looks like a contradiction and is none is accepted, without a warning."""
    assert warnings(settings(**changes)) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"dkim_key_bits": "4096"}, []),
        # What other servers never see: private networks, those of carriers (RFC 6598), and of documents.
        *(
            ({"public_addresses": f"192.0.1.25,{one}"}, [f"MAILSTACK_PUBLIC_ADDRESSES: {one} "])
            for one in ("10.1.2.3", "172.31.255.1", "192.168.1.1", "100.64.0.1", "100.127.255.254", "198.51.100.1")
        ),
        ({"public_addresses": "100.63.255.255,100.128.0.0"}, []),
        (
            {"relay_host": "smtp.example.net:587", "spf_record": SPF},
            ["MAILSTACK_RELAY_HOST: smtp.example.net:587: most servers require"],
        ),
        ({"relay_host": "smtp.example.net:25", "spf_record": SPF}, []),
        *(
            ({"outgoing_address": one, "public_addresses": public}, [f"MAILSTACK_OUTGOING_ADDRESS: {one} "] * warned)
            for one, public, warned in [
                ("192.0.1.26", "192.0.1.25", 1),
                ("192.0.1.26", "192.0.1.25,192.0.1.26", 0),
                ("192.0.1.26", "", 0),
                ("10.0.0.26", "192.0.1.25", 0),
            ]
        ),
        (
            {"relay_hosts": "example.com=smtp.example.net:465"},
            [
                "MAILSTACK_RELAY_HOSTS: mail leaves through smtp.example.net, which the printed",
                "MAILSTACK_RELAY_HOSTS: example.com=smtp.example.net:465: most servers require",
            ],
        ),
        (
            {
                "relay_hosts": "example.com=smtp.example.net:465",
                "relay_logins": "example.com=user:s3cret",
                "spf_record": SPF,
            },
            [],
        ),
        ({"relay_hosts": "news.example.com=smtp.example.net", "spf_record": SPF}, []),
        ({"resolver_trust_anchors": OLD_ANCHOR}, [f"{ANCHORS}: the root key 38696 is missing"]),
        ({"resolver_trust_anchors": ANCHOR}, [f"{ANCHORS}: the root key 20326 is missing"]),
        ({"resolver_trust_anchors": KEY_2024}, [f"{ANCHORS}: the root key 20326 is missing"]),
        ({"resolver_trust_anchors": f"{OLD_ANCHOR},{KEY_2024}"}, []),
        ({"resolver_trust_anchors": ANCHOR.replace("38696", "1")}, []),
        ({"resolver_trust_anchors": OLD_ANCHOR.replace(".", "example.", 1)}, []),
        *(
            ({"spf_record": f"v=spf1 {record}"} | given, [f"MAILSTACK_SPF_RECORD: {words}"])
            for record, given, words in [
                ("a all", {}, "'all' lets every host send"),
                ("a +ALL", {}, "'+all' lets every host send"),
                ("mx ip4:0.0.0.0/0 -all", {}, "'ip4:0.0.0.0/0' lets a large part"),
                ("mx ip4:192.0.0.0/7 -all", {}, "'ip4:192.0.0.0/7' lets a large part"),
                ("mx ip6:::/0 -all", {}, "'ip6:::/0' lets a large part"),
                ("mx/0 -all", {}, "'mx/0' lets a large part"),
                ("mx a:example.net//15 -all", {}, "'a:example.net//15' lets a large part"),
                ("mx ptr -all", {}, "'ptr' is slow"),
                (
                    "mx redirect=_spf.example.net -all",
                    {},
                    "'redirect=_spf.example.net' has no effect next to 'all'",
                ),
                ("mx a:h.example.net a:h.example.net -all", {}, "'a:h.example.net' is listed twice"),
                ("mx", {}, "it says nothing about all other hosts; end it with"),
                ("mx " + " ".join(f"ip4:192.0.2.{one}" for one in range(30)) + " -all", {}, "it has 4"),
                ("ip4:198.51.100.1 -all", {"public_addresses": "192.0.1.25"}, "it does not list this host"),
                ("ip6:2001:db8::25 -all", {"public_addresses": "192.0.1.25"}, "it does not list this host"),
                ("-mx -all", {}, "it does not list this host"),
                (
                    "-all",
                    {},
                    "it does not list this host, so SPF fails for its mail at other servers; add a:mail.example.com",
                ),
            ]
        ),
        *(
            ({"spf_record": f"v=spf1 {record}"} | given, [])
            for record, given in [
                ("mx -all", {}),
                ("mx:example.com/24 -all", {}),
                ("mx:example.net -all", {"domains": "example.com,example.net"}),
                ("a:mail.example.com ~all", {}),
                ("redirect=_spf.example.net", {}),
                ("include:_spf.example.net -all", {}),
                ("exists:%{ir}.%{v}._spf.%{d2} -all", {}),
                ("ip4:192.0.1.0/24 -all", {"public_addresses": "192.0.1.25"}),
                ("ip4:198.51.100.1 -all", {}),
                ("ip4:198.51.100.1 -all", {"relay_host": "smtp.example.net"}),
                ("mx -ip4:0.0.0.0/0 -all", {}),
                # Modifiers, which receivers pass over where they do not know them.
                ("mx x=mail.example.com all.x=all include-x=_spf.example.net -all", {}),
                ("mx exp=explain.example.net -all", {}),
            ]
        ),
        ({"local_sender": "off", "local_sender_action": "reject"}, ["MAILSTACK_LOCAL_SENDER_ACTION: 'reject' "]),
        ({"local_sender": "off"}, []),
        ({"local_sender": "envelope", "local_sender_action": "reject"}, []),
        ({"trusted_networks": "203.0.0.0/8"}, ["MAILSTACK_TRUSTED_NETWORKS: 203.0.0.0/8 is wider"]),
        ({"trusted_networks": "198.50.0.0/15"}, ["MAILSTACK_TRUSTED_NETWORKS: 198.50.0.0/15 is wider"]),
        ({"trusted_networks": "2001:da8::/31"}, ["MAILSTACK_TRUSTED_NETWORKS: 2001:da8::/31 is wider"]),
        ({"trusted_networks": "198.51.0.0/16,2001:db8::/32"}, []),
        ({"trusted_networks": "2a00::/8"}, ["MAILSTACK_TRUSTED_NETWORKS: 2a00::/8 is wider"]),
        ({"milter_default_action": "accept"}, ["MAILSTACK_MILTER_DEFAULT_ACTION: "]),
        (
            {"spf_skip_networks": "192.0.2.53,192.0.2.54", "dmarc_skip_networks": "192.0.2.54,2001:db8::/32"},
            ["MAILSTACK_SPF_SKIP_NETWORKS: SPF does not check mail from the forwarder 192.0.2.53/32"],
        ),
        ({"spf_skip_networks": "192.0.2.53", "dmarc_action": "mark"}, []),
        (
            {"dmarc_report_addresses": "user@example.com,dmarc@example.com"},
            ["MAILSTACK_DMARC_REPORT_ADDRESSES: dmarc@example.com is not a mailbox here"],
        ),
        (
            {"dmarc_record": "v=DMARC1; p=none; rua=mailto:user@example.com; ruf=mailto:b@example.com"},
            ["MAILSTACK_DMARC_RECORD: b@example.com is not a mailbox here"],
        ),
        (
            LMTP | {"dmarc_report_addresses": "dmarc@mail.example.com,root@mail.example.com"},
            ["MAILSTACK_DMARC_REPORT_ADDRESSES: dmarc@mail.example.com is not a mailbox here"],
        ),
        ({"trusted_networks": "192.168.7.0/24,10.1.0.0/16"}, []),
        ({"postscreen": "on", "dnsbl": "a.example*2,b.example*-3", "dnsbl_threshold": "2"}, []),
        (
            {"postscreen": "on", "dnsbl": "a.example*2,b.example*-3", "dnsbl_threshold": "3"},
            ["MAILSTACK_DNSBL_THRESHOLD: 3 is more than all weights of MAILSTACK_DNSBL together"],
        ),
        (
            {"postscreen": "on", "dnsbl": "a.example", "resolver_forwarders": "192.0.2.53"},
            ["MAILSTACK_RESOLVER_FORWARDERS: 192.0.2.53 asks the lists of MAILSTACK_DNSBL"],
        ),
        ({"limit_sessions": "49"}, []),
        ({"limit_sessions": "50"}, ["MAILSTACK_LIMIT_SESSIONS: 50: two clients could take all 100 sessions"]),
        ({"limit_sessions": "0"}, ["MAILSTACK_LIMIT_SESSIONS: 0: one client could take all 100 sessions"]),
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
    found = warnings(settings(**changes))
    assert [one[: len(start)] for one, start in zip(found, expected, strict=True)] == expected


def test_key_tag():
    """A key has the tag under which it is published, as DNSKEY and as DS."""
    assert [key_tag(trust_anchor(one)) for one in (KEY_2024, ANCHOR, OLD_ANCHOR)] == [38696, 38696, 20326]


@pytest.mark.parametrize(
    ("address", "expected"),
    [("dmarc@example.com", ["mailboxes", "aliases"]), ("dmarc@mail.example.com", ["aliases"])],
)
def test_where_a_report_address_is_added(address, expected):
    """Each variable that the warning names takes the address; only those of the domains are mailboxes."""
    changes = LMTP | {"mailboxes": "user@example.com", "dmarc_report_addresses": address}
    (found,) = warnings(settings(**changes))
    values = {"mailboxes": f"user@example.com,{address}", "aliases": f"{address}=user@example.com"}
    assert [name for name in values if f"MAILSTACK_{name.upper()}" in found] == expected
    for name in expected:
        assert warnings(settings(**changes | {name: values[name]})) == []


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("MAILSTACK_SPF_RECORD=v=spf1 mx -all", "v=spf1 mx -all"),
        ("MAILSTACK_SPF_RECORD='v=spf1 mx -all'", "v=spf1 mx -all"),
        ('MAILSTACK_SPF_RECORD="v=spf1 mx -all"  # ours', "v=spf1 mx -all"),
        ("export MAILSTACK_SPF_RECORD=v=spf1", "v=spf1"),
        ("MAILSTACK_SPF_RECORD='$HOME ${HOME} $$'", "$HOME ${HOME} $$"),
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
    [
        "MAILSTACK_TRUSTED_NETWORKS='192.0.2.0/28",
        "MAILSTACK_SPF_FAIL: reject-early",
        "MAILSTACK_SPF_FAIL",
        "MAILSTACK_HOSTNAME=mx.example.com",
        "MAILSTACK_MAILBOXES=cash$HOME@example.com",
        'MAILSTACK_MAILBOXES="cash$HOME@example.com"',
    ],
)
def test_env_line_that_cannot_be_read(tmp_path, line):
    """A line of .env that would be lost, or mean something else to compose, is a fault, by its number."""
    (tmp_path / ".env").write_text(f"MAILSTACK_HOSTNAME=mail.example.com\n{line}\n")
    with pytest.raises(SettingsError, match=r"\.env, line 2"):
        read_environment(tmp_path, {})


def test_value_from_a_file(tmp_path):
    """NAME_FILE is a file's content from .env's directory, lists line by line, without lines of comment."""
    (tmp_path / ".env").write_text("MAILSTACK_HOSTNAME=mail.example.com\nMAILSTACK_DOMAINS_FILE=domains.txt\n")
    (tmp_path / "domains.txt").write_text("# ours\nexample.com\n  # theirs\nexample.net\n")
    (tmp_path / "mailboxes").write_text("user@example.com\n")
    read = read_environment(tmp_path, {"MAILSTACK_MAILBOXES_FILE": str(tmp_path / "mailboxes")})
    assert load(read).domains == ("example.com", "example.net")
    assert load(read).mailboxes == ("user@example.com",)


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"MAILSTACK_DOMAINS_FILE": "none.txt"}, "'none.txt': cannot be read: No such file"),
        ({"MAILSTACK_DOMAINS_FILE": "."}, "'.': cannot be read: not a regular file"),
        ({"MAILSTACK_DOMAINS_FILE": "latin.txt"}, "'latin.txt': is not UTF-8"),
        (
            {"MAILSTACK_DOMAINS_FILE": "latin.txt", "MAILSTACK_DOMAINS": "example.com"},
            "is set, and so is MAILSTACK_DOMAINS",
        ),
    ],
)
def test_file_that_gives_no_value(tmp_path, extra, words):
    """A file that is missing, unreadable, or one of two sources is a fault of its variable."""
    (tmp_path / "latin.txt").write_bytes(b"b\xfccher.example\n")
    with pytest.raises(SettingsError) as caught:
        read_environment(tmp_path, {"MAILSTACK_HOSTNAME": "mail.example.com"} | extra)
    assert str(caught.value).startswith("MAILSTACK_DOMAINS_FILE: ")
    assert words in str(caught.value)


def test_file_of_no_setting(tmp_path):
    """NAME_FILE of a name that is no setting is unknown, like the name."""
    with pytest.raises(SettingsError, match="MAILSTACK_DOMIANS_FILE: is not a setting"):
        load(read_environment(tmp_path, environment() | {"MAILSTACK_DOMIANS_FILE": "x"}))


def test_env_file_that_is_not_text(tmp_path):
    """A .env that is not UTF-8 is a fault like any other: text that names the file, and exit code 2."""
    (tmp_path / ".env").write_bytes("MAILSTACK_DOMAINS=bücher.example\n".encode("latin-1"))
    with pytest.raises(SettingsError, match=r"\.env"):
        read_environment(tmp_path, {})


def test_no_env_file(tmp_path):
    """In a directory without settings the message names the file that is missing, and not a dozen variables."""
    with pytest.raises(SettingsError, match=r"\.env: does not exist; 'mailstack init' writes one") as caught:
        read_environment(tmp_path, {"PATH": "/bin"})
    assert len(caught.value.faults) == 1


@pytest.mark.parametrize("action", ["discard", "reject"])
def test_a_value_of_an_older_version(action):
    """It is refused with what to write now, which does the same."""
    (fault,) = faults(local_sender=action)
    assert f"write MAILSTACK_LOCAL_SENDER=envelope and MAILSTACK_LOCAL_SENDER_ACTION={action}," in fault.remedy
    assert stack(local_sender="envelope", local_sender_action=action).local_envelope == action


@pytest.mark.parametrize(
    "name",
    [
        "MAILSTACK_RELAY_USERNAME",
        "MAILSTACK_RELAY_HOST_PASSWORD",
        "MAILSTACK_SASL_PASSWORD_FILE",
        "MAILSTACK_SMTP_USERNAME",
    ],
)
def test_a_log_in_at_a_relay(name):
    """Settings that other products have for it are refused with the reason, and what they hold is shown to nobody."""
    with pytest.raises(SettingsError, match="a login at the relay host is MAILSTACK_RELAY_USER and ") as caught:
        load(environment() | {name: "s3cret"})
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("MAILSTACK_MAILBOXES=user@${DOMAIN}", "variables are not expanded here: write the value itself"),
        ("MAILSTACK_HOSTNAME=mx.example.com", "is set twice; remove one line"),
        ("MAILSTACK_HOSTNAME_FILE=name", "is set, and so is MAILSTACK_HOSTNAME, in .env or in the environment"),
    ],
)
def test_cause_in_an_env_file(tmp_path, line, words):
    """What is said of a line is the cause, and what to do about it."""
    (tmp_path / ".env").write_text(f"MAILSTACK_HOSTNAME=mail.example.com\n{line}\n")
    with pytest.raises(SettingsError) as caught:
        read_environment(tmp_path, {})
    (fault,) = caught.value.faults
    assert words in fault.remedy


def test_env_file_that_sets_nothing(tmp_path):
    """It is not called missing, and nobody is sent to a command that refuses to write over it; nor a link to nothing."""
    (tmp_path / ".env").write_text("HOME_PAGE=x\n")
    with pytest.raises(SettingsError, match="sets no MAILSTACK_ variable; add MAILSTACK_HOSTNAME"):
        read_environment(tmp_path, {})
    (tmp_path / ".env").unlink()
    (tmp_path / ".env").symlink_to("elsewhere")
    with pytest.raises(SettingsError, match="is a link to elsewhere, which does not exist"):
        read_environment(tmp_path, {})


def test_another_project_name(tmp_path):
    """A name by which compose would start another project than the one that status looks at is refused."""
    (tmp_path / ".env").write_text("MAILSTACK_HOSTNAME=mail.example.com\nCOMPOSE_PROJECT_NAME=mail\n")
    with pytest.raises(SettingsError, match=r"COMPOSE_PROJECT_NAME: 'mail': .*; remove it"):
        read_environment(tmp_path, {})


def test_what_cannot_be_read_hides_nothing(tmp_path):
    """A broken line and a file that is not there are reported together with every other fault, and nothing of theirs."""
    (tmp_path / ".env").write_text(
        "MAILSTACK_HOSTNAME=bad_name\nMAILSTACK_DOMAINS_FILE=missing\nMAILSTACK_DKIM_KEY_BITS=7\n"
        "MAILSTACK_MAILBOXES_FILE='mailboxes\nCOMPOSE_PROJECT_NAME=mail\nMAILSTACK_FOO\n"
    )
    with pytest.raises(SettingsError) as caught:
        read_settings(tmp_path, {"MAILSTACK_ALIASES": "a@example.com=user@example.com"})
    assert sorted(fault.variable.rpartition("/")[2] for fault in caught.value.faults) == [
        ".env, line 4",
        ".env, line 6",
        "COMPOSE_PROJECT_NAME",
        "MAILSTACK_DKIM_KEY_BITS",
        "MAILSTACK_DOMAINS_FILE",
        "MAILSTACK_HOSTNAME",
    ]


@pytest.mark.parametrize(
    ("term", "words"),
    [
        ("ip4:192.0.2.300", "no IPv4 address"),
        ("ip4:2001:db8::1", "no IPv4 address"),
        ("ip6:zz", "no IPv6 address"),
        ("mx/99", "a prefix longer"),
        ("a:h.example.com//129", "a prefix longer"),
        ("a:h.example.com/24/64", "no domain name"),
        ("include:example.net..", "no domain name"),
        ("redirect=a", "no domain name"),
        ("redirect=a.example redirect=b.example", "redirect= more than once"),
        ("a:%(x)", "a % that does not begin a macro"),
        ("exists:%{i", "a % that does not begin a macro"),
        ("exists:%{c}.example.com", "a % that does not begin a macro"),
        ("exists:%{i0}.example.com", "a % that does not begin a macro"),
        ("exists:100%.example.com", "a % that does not begin a macro"),
        ("ip4:192.0.2.0/024", "no IPv4 address"),
        ("ip4:192.0.2.0/255.255.255.0", "no IPv4 address"),
        ("mx/08", "no domain name"),
        ("include:example.com", "is the record of example.com and refers to itself with 'include:example.com'"),
        ("redirect=Example.com.", "is the record of example.com and refers to itself with 'redirect=example.com.'"),
        (" ".join(f"include:_{one}.example.net" for one in range(11)), "has 11 terms that need DNS lookups"),
        ("include=_spf.example.net", "'include=_spf.example.net', which receivers ignore"),
        *((f"{one}=h.example.net", f"; write {one}:h.example.net") for one in ("include", "a", "mx", "ptr", "exists")),
        *((f"{one}=192.0.2.1", f"; write {one}:192.0.2.1") for one in ("ip4", "-ip4")),
        ("IP6=2001:db8::/32", "; write IP6:2001:db8::/32"),
        ("all=x mx", "; write all"),
        ("mx=", "; write mx"),
        *((f"{one}mx", f"not an SPF mechanism: '{one}mx'") for one in ("++", "-+~", "--", "~?")),
        ("+redirect=_spf.example.net", "not an SPF mechanism: '+redirect=_spf.example.net'"),
        *((f"{one}:/24", "no domain name") for one in ("a", "mx", "-a")),
        ("a://64", "no domain name"),
        ("a:%{d}/33", "a prefix longer"),
        *(
            (f"{one}{'a.' * 127}example", "of more than 253 characters")
            for one in ("a:", "include:", "exists:", "redirect=", "exp=")
        ),
        ("a:" + "a." * 200_000 + "example", "has 400021 characters"),
        ("x=" + "a" * 70_000, "has 70014 characters"),
        ("a mx ptr exists:%{i}.example.net " + " ".join(f"a:{one}.example.net" for one in "abcdefg"), "has 11 terms"),
    ],
)
def test_terms_of_an_spf_record(term, words):
    """A term whose value is none of its kind is a permerror to every receiver, and a fault here."""
    (fault,) = faults(spf_record=f"v=spf1 {term} -all")
    assert fault.variable == "MAILSTACK_SPF_RECORD"
    assert words in fault.remedy


def test_a_domain_as_long_as_may_be():
    """253 characters, with or without a final dot."""
    name = "a." * 123 + "example"
    assert len(name) == 253
    for end in ("", ".", "/24"):
        assert not faults(spf_record=f"v=spf1 a:{name}{end} -all")


def test_ten_lookups_are_as_many_as_may_be():
    """What is not evaluated does not count: redirect= beside 'all'."""
    ten = " ".join(f"include:_{one}.example.net" for one in range(10))
    assert not faults(spf_record=f"v=spf1 {ten} redirect=_spf.example.net -all")
    assert faults(spf_record=f"v=spf1 {ten} redirect=_spf.example.net")


# Terms as receivers read them, right and wrong ones.
TERMS = [
    *("a", "a:example.net", "a/24", "a:example.net/24//64", "mx//64", "mx:example.net/0", "ptr", "ptr:example.net"),
    *("include:_spf.example.net", "exists:%{i}.example.net", "exists:%{ir}.%{v}._spf.%{d2}", "ip4:192.0.2.1/24", "ip6:2001:db8::/32"),
    *("++mx", "-+~mx", "a:/24", "mx:/24", "a://64", "a:%{d}/33", "a:%{d}/24"),
    *("a/33", "a//129", "a:", "a/", "mx/08", "mx:/", "ip4:192.0.2.300", "ip4:192.0.2.1/33", "ip4:192.0.2.1/024", "ip4:192.0.2.1/"),
    *("ip6:2001:db8::/129", "ip6:192.0.2.1", "include:", "include:example", "include:example.net/24", "exists:%(x)", "exists:%{z}.example.net"),
]  # fmt: skip


@pytest.mark.parametrize("term", TERMS)
def test_terms_as_pyspf_reads_them(term):
    """The verifier that the containers use calls the same terms an error."""
    query = pyspf.query("192.0.2.1", "user@example.com", "mail.example.com")
    try:
        query.validate_mechanism(term)
        good = True
    except pyspf.PermError:
        good = False
    assert bool(faults(spf_record=f"v=spf1 {term} -all")) != good


def test_a_trust_anchor_on_each_line(tmp_path):
    """A file with a record a line, as unbound-anchor writes it, is a list."""
    (tmp_path / "anchors").write_text(f"# ours\n{OLD_ANCHOR}\n{ANCHOR}\n")
    given = environment() | {"MAILSTACK_RESOLVER_TRUST_ANCHORS_FILE": "anchors"}
    assert len(read_settings(tmp_path, given).resolver_trust_anchors) == 2


@pytest.mark.parametrize("name", ["MAILSTAC_HOSTNAME", "MAIL_STACK_HOSTNAME", "mailstak_hostname"])
def test_a_slip_in_the_prefix(tmp_path, name):
    """In .env a name that is all but one of ours is a fault; other programs' names are theirs."""
    (tmp_path / ".env").write_text(
        f"HOSTNAME=x\nSTACK_DOMAINS=x\nMAILSTACK_DOMAINS=example.com\n{name}=mail.example.com\n"
    )
    with pytest.raises(SettingsError) as caught:
        read_environment(tmp_path, {})
    (fault,) = caught.value.faults
    assert (fault.token, fault.remedy) == (name, "is not read by mailstack; did you mean MAILSTACK_HOSTNAME?")
