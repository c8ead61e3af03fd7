"""mailstack.values: the finer points of the parsers, one token at a time."""

import ipaddress

import pytest

from mailstack.values import dmarc, dnssec, mail, network, packages, servers, spf
from mailstack.values.mail import Alias
from mailstack.values.servers import Forwarder, HostPort, NextHop, Route

DIGEST = "e06d44b80b8f1d39a95c0b0d7c65d08458e880409bbc683457104237c7f8ec8d"
KEY = "257 3 13 mdsswUyr3DPW132mOi8V9xESWE8jTo0d xCjjnopKl+GqJxpVXckHAeF+KkxLbxIL fDLUT0rAK9iUzy1L53eKGQ=="

ACCEPTED = [
    (servers.host_port, "smtp.example.net", HostPort("smtp.example.net")),
    (servers.host_port, "SMTP.example.net.:25", HostPort("smtp.example.net", 25)),
    (servers.host_port, "[smtp.example.net]:65535", HostPort("smtp.example.net", 65535)),
    (servers.host_port, "[192.0.2.25]", HostPort("192.0.2.25")),
    (servers.host_port, "[2001:DB8::25]", HostPort("2001:db8::25")),
    (servers.host_port, "[2001:db8:0:0::25]:25", HostPort("2001:db8::25", 25)),
    (servers.forwarder, "192.0.2.53", Forwarder("192.0.2.53")),
    (servers.forwarder, "192.0.2.53@5353", Forwarder("192.0.2.53", 5353)),
    (servers.delivery, "maildir", None),
    (servers.delivery, "lmtp:dovecot.example.com", NextHop("lmtp", HostPort("dovecot.example.com", 24))),
    (servers.delivery, "lmtp:192.0.2.24:2424", NextHop("lmtp", HostPort("192.0.2.24", 2424))),
    (servers.delivery, "smtp:[192.0.2.24]", NextHop("smtp", HostPort("192.0.2.24", 25))),
    (servers.milter, "inet:[192.0.2.11]:11332", "inet:192.0.2.11:11332"),
    (servers.milter, "inet:Rspamd.example.net.:11332", "inet:rspamd.example.net:11332"),
    (servers.milter, "inet:rspamd:11332", "inet:rspamd:11332"),
    *((servers.sasl, one, one) for one in (None, "unix:dovecot/auth", "inet:dovecot:12345", "inet:192.0.2.24:12345")),
    (servers.delivery, "lmtp:dovecot", NextHop("lmtp", HostPort("dovecot", 24))),
    (servers.route, "maildir", Route(None, None)),
    (servers.route, "Example.com=smtp:192.0.2.24", Route("example.com", NextHop("smtp", HostPort("192.0.2.24", 25)))),
    (servers.server, "[My_Relay-2]:2525", HostPort("my_relay-2", 2525)),
    (network.public_address, "192.0.2.25", ipaddress.IPv4Address("192.0.2.25")),
    (packages.url, "http://192.0.2.80:3142/", "http://192.0.2.80:3142"),
    (spf.spf_record, "v=spf1 exists:%{i}._spf.example.net  -all", "v=spf1 exists:%{i}._spf.example.net -all"),
    (spf.spf_record, "V=SPF1 ip6:2001:db8::25 ~ALL", "V=SPF1 ip6:2001:db8::25 ~ALL"),
    (spf.spf_record, "v=spf1 redirect=_spf.example.net", "v=spf1 redirect=_spf.example.net"),
    (spf.spf_record, "v=spf1 mx -all exp=why.example.net", "v=spf1 mx -all exp=why.example.net"),
    (spf.spf_record, "v=spf1 include:all.example.net", "v=spf1 include:all.example.net"),
    (dmarc.dmarc_record, "v=DMARC1;p=reject", "v=DMARC1; p=reject"),
    (dmarc.dmarc_record, "v=DMARC1; sp=reject; t=y; p=none", "v=DMARC1; p=none; sp=reject; t=y"),
    (
        dmarc.dmarc_record,
        "V = DMARC1 ; P=Reject; sp=NONE;NP=quarantine; ",
        "v=DMARC1; p=reject; sp=none; np=quarantine",
    ),
    (
        dmarc.dmarc_record,
        "v=DMARC1; p=none; adkim=s; aspf=R; t=y; psd=n; fo=1:d:s",
        "v=DMARC1; p=none; adkim=s; aspf=r; t=y; psd=n; fo=1:d:s",
    ),
    (
        dmarc.dmarc_record,
        "v=DMARC1; p=none; rua=mailto:A@Example.com, MAILTO:b%2Bc@example.net; ruf=mailto:d@example.com",
        "v=DMARC1; p=none; rua=mailto:a@example.com,mailto:b+c@example.net; ruf=mailto:d@example.com",
    ),
    (dnssec.trust_anchor, f". DS 20326 8 2 {DIGEST.upper()}", f". IN DS 20326 8 2 {DIGEST}"),
    (dnssec.trust_anchor, f". IN DS 20326 8 2 {DIGEST[:9]} {DIGEST[9:]}", f". IN DS 20326 8 2 {DIGEST}"),
    (dnssec.trust_anchor, f"example.\tin  ds 20326 8 2 {DIGEST}", f"example. IN DS 20326 8 2 {DIGEST}"),
    (dnssec.trust_anchor, f"example. DNSKEY {KEY}", f"example. IN DNSKEY {KEY}"),
    (mail.alias, "*@Example.com.=user@example.com", Alias("*@example.com", "user@example.com")),
    (mail.alias, "Info@Example.com.=a+b@BÜCHER.example", Alias("info@example.com", "a+b@xn--bcher-kva.example")),
    *((mail.mailbox, f"{one}@Example.com", f"{one.lower()}@example.com") for one in ["A.b", "a_b-C", "a+b", "o'neil"]),
    (mail.mailbox, f"{'x' * 64}@example.com", f"{'x' * 64}@example.com"),
]

SPELLING = "is not HOST:PORT, as in smtp.example.net:25; write an IPv6 address in brackets"
UNKNOWN = "is not a delivery; write maildir, lmtp:HOST:PORT"
LOCAL_PART = "has a local part that cannot be used"

REFUSED = [
    *((servers.host_port, one, SPELLING) for one in ["2001:db8::25", "[2001:db8::25", "[]:25", ":25", "a.example:"]),
    (servers.host_port, "smtp.example.net:٢٥", SPELLING),
    (servers.host_port, "smtp.example.net:0", "has a port outside 1 to 65535"),
    (servers.host_port, "smtp.example.net:65536", "has a port outside 1 to 65535"),
    *(
        (servers.host_port, f"{one}:25", f"'{one}' is not a host; for no host")
        for one in ["null", "none", "true", "OFF"]
    ),
    *((servers.host_port, one, f"'{one}' is not") for one in ["25", "-a", "a-", "a" * 64]),
    *((servers.host_port, one, "is one of these containers") for one in ["localhost", *servers.ALL_NAMES]),
    (servers.delivery, "smtp:mailboxes.example.net:465", "which needs TLS from the start"),
    *(
        (network.public_address, one, "is not the address of a host")
        for one in ["0.0.0.0", "127.0.0.1", "169.254.1.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"]  # noqa: S104
    ),
    *(
        (network.public_address, one, "IPv4 only; remove it")
        for one in ["::", "::1", "fe80::1", "ff02::1", "2001:db8::25"]
    ),
    (network.public_address, "::ffff:192.0.2.1", "; write 192.0.2.1."),
    (servers.host_port, "192.0.2.256:25", "'192.0.2.256' is not an IP address"),
    # A zone id may hold any character, so it would carry lines into a daemon's configuration.
    (servers.host_port, "[fe80::25%eth0]:25", "'fe80::25%eth0' is not"),
    (servers.host_port, "[fe80::25%x\nmynetworks = static:all]:25", "'fe80::25%x\\n"),
    (network.address, "fe80::25%eth0", "is not an IP address"),
    (servers.forwarder, "fe80::53%eth0@53", "is not an IP address"),
    (network.address, "192.0.2.025", "is not an IP address"),
    (network.address, "3221225985", "is not an IP address"),
    (servers.forwarder, "dns.example.net", "is not an IP address"),
    (servers.forwarder, "192.0.2.53:53", "has its port after a colon; write 192.0.2.53@53"),
    (servers.forwarder, "dns.example.net:53", "is not an IP address"),
    *((servers.forwarder, f"192.0.2.53@{one}", "ADDRESS@PORT") for one in ["0", "65536", "dns", "", "²"]),
    *((servers.delivery, one, UNKNOWN) for one in ["", "mbox", "lmtp", "lmtps:dovecot.example.com", "Maildir"]),
    (servers.route, "*=maildir", "'*' is a wildcard"),
    (servers.route, "example.com=", "'' is not a delivery"),
    (servers.route, "example.com=lmtp:user:secret@192.0.2.24", "has a user name or a password"),
    (servers.delivery, "lmtp:unix:/run/lmtp", "'unix:/run/lmtp' is not HOST:PORT"),
    (servers.delivery, "smtp:dovecot.example.com:0", "has a port outside"),
    *((spf.spf_record, one, "a record starts with v=spf1") for one in ["", "mx", "v=spf10 mx", "v=DMARC1", '"v=spf1"']),
    (spf.spf_record, 'v=spf1 mx" "-all', "without quotes and backslashes"),
    (spf.spf_record, "v=spf1 mx\\ -all", "without quotes and backslashes"),
    (spf.spf_record, "v=spf1 mx\n-all", "has characters that an SPF record cannot have"),
    (spf.spf_record, "v=spf1 a:bücher.example -all", "has characters that an SPF record cannot have"),
    (spf.spf_record, "v=spf1 ~all -all", "'all' more than once"),
    (spf.spf_record, "v=spf1 -all mx", "not at its end"),
    (spf.spf_record, "v=spf1 -all mx exp=why.example.net", "not at its end"),
    *((dmarc.dmarc_record, one, "the first tag is 'v=DMARC1;'") for one in ["v=DMARC1 p=none", "v=dmarc1; p=none"]),
    *(
        (dmarc.dmarc_record, one, "a record starts with v=DMARC1")
        for one in ["", "p=none", "v=spf1", "p=none; v=DMARC1"]
    ),
    *((dmarc.dmarc_record, f"v=DMARC1; {one}", "has no p=") for one in ["", "sp=none", "rua=mailto:a@example.com"]),
    *(
        (dmarc.dmarc_record, f"v=DMARC1; p=none; {one}", words)
        for one, words in [
            ("pct=50", "has pct=, which was removed from DMARC"),
            ("ri=86400", "has ri=, which was removed"),
            ("rf=afrf", "has rf=, which was removed"),
            ("p=reject", "has p= more than once"),
            ("sp=refuse", "has 'sp=refuse'; write sp= with one of none, quarantine, reject"),
            ("adkim=strict", "write adkim= with one of r, s"),
            ("t=yes", "write t= with one of y, n"),
            ("psd=y", "write psd= with one of n, u"),
            ("fo=2", "write fo= with 0, 1, d or s"),
            ("polcy=none", "'polcy', which is no tag of DMARC; the tags are v, p, sp, np"),
            ("rua=a@example.com", "'a@example.com' is no mailto: URI"),
            ("rua=https://example.com/", "'https://example.com/' is no mailto: URI"),
            ("rua=mailto:a@example.com!10m", "has a size limit, which was removed"),
            ("rua=mailto:a", "'a' is not an address"),
            ("rua=", "'' is no mailto: URI"),
            ('sp="none"', "without quotes and backslashes"),
            ("sp=none\\; np=none", "without quotes and backslashes"),
            ("rua=mailto:b\u00fc@example.com", "has characters that a DMARC record cannot have"),
            (f"rua={','.join(['mailto:a@example.com'] * 250)}", "and receivers read 4096 at most"),
        ]
    ),
    *((dnssec.trust_anchor, one, "is not a trust anchor") for one in ["", ".", f"20326 8 2 {DIGEST}", ". TXT x"]),
    *((dnssec.trust_anchor, f". DS 20326 8 2 {one}", "is not a DS record") for one in ["", DIGEST[:-2], "zz"]),
    (dnssec.trust_anchor, ". DNSKEY 257 3 13 !", "is not a DNSKEY record"),
    # The owner name ends up between quotes in unbound.conf.
    (dnssec.trust_anchor, f'" DS 20326 8 2 {DIGEST}', "is not"),
    (dnssec.trust_anchor, f"a..b. DS 20326 8 2 {DIGEST}", "is not"),
    (mail.alias, "info@example.com", "has no =; write ADDRESS=TARGET"),
    (mail.alias, "info=user@example.com", "'info' is not an address"),
    (mail.alias, "info@example.com=", "'' is not an address"),
    (mail.alias, "a@example.com=b@example.com=c@example.com", LOCAL_PART),
    *((mail.mailbox, f"{one}@example.com", LOCAL_PART) for one in [".a", "a..b", '"a b"', "a/b", "x" * 65]),
    *((mail.mailbox, f"{one}@example.com", LOCAL_PART) for one in ["a%example.net", "example.net!a", "bücher"]),
    *((mail.mailbox, f"{one}@example.com", "is an alias: *@example.com=user@example.com") for one in ["", "*"]),
    (mail.alias, "@example.com=user@example.com", "'@example.com' names no mailbox"),
    (mail.alias, "*@=user@example.com", "'' is not a domain name"),
    (mail.alias, "a@example.com=*@example.net", "'*@example.net' names no mailbox"),
    (mail.selector, "s1.mail", "has several labels, which is not supported; write one, such as s1-mail"),
    (mail.selector, "s1..", "is not a selector"),
    (mail.mailbox, "mailto:a b@example.com", LOCAL_PART),
    (servers.forwarder, "2001:db8::53@53", "is an IPv6 address"),
    (servers.delivery, "smtp:[2001:db8::24]", "is an IPv6 address"),
    (servers.milter, "unix:../opendkim/a.sock", "has no path in a directory of its own"),
    (servers.milter, "unix:a/b c", "has no path in a directory of its own"),
    (servers.milter, "inet:127.0.0.1:11332", "points to the container itself"),
    (servers.milter, "unix:postfix/a.sock", "of our own services"),
    (servers.milter, "local:rspamd/a.sock", "is not a milter"),
    (servers.sasl, "private/auth", "is not an auth service; write unix:DIRECTORY/SOCKET or inet:HOST:PORT"),
    (servers.sasl, "unix:auth", "has no path in a directory of its own; write, for example: unix:dovecot/auth"),
    (servers.sasl, "inet:127.0.0.1:12345", "points to the container itself"),
    (packages.url, "http://user:secret@mirror.example.com/debian", "has a password in it"),
    (packages.url, "http://mirror.example.com/debian?x=1", "is not a URL"),
    (packages.url, "ftp://mirror.example.com/debian", "is not a URL"),
    (packages.url, "http://mirror.example.com/debian|id", "has characters"),
    # [a-z] matches it where case is ignored.
    (mail.mailbox, "\N{LATIN SMALL LETTER LONG S}ales@example.com", LOCAL_PART),
    # A comment in Postfix's tables; and what Postfix takes for no recipient (postconf(5), allow_min_user).
    (mail.mailbox, "#user@example.com", LOCAL_PART),
    (mail.mailbox, "-user@example.com", LOCAL_PART),
]


def case_name(value):
    return value.__name__ if callable(value) else None


@pytest.mark.parametrize(("parser", "token", "value"), ACCEPTED, ids=case_name)
def test_accepted(parser, token, value):
    """What people write for it has this one canonical form."""
    assert parser(token) == value


@pytest.mark.parametrize(("parser", "token", "remedy"), REFUSED, ids=case_name)
def test_refused(parser, token, remedy):
    """What is something else is refused, and the message says what would be right."""
    with pytest.raises(ValueError) as caught:
        parser(token)
    assert remedy in str(caught.value)


@pytest.mark.parametrize("text", ["smtp.example.net", "smtp.example.net:25", "[2001:db8::25]", "[2001:db8::25]:25"])
def test_host_port_as_text(text):
    """str() gives a host and port back as it is written, with brackets where they are needed."""
    assert str(servers.host_port(text)) == text


def test_a_part_of_a_part_is_named_once():
    """A message begins with the innermost part that is wrong, and with that alone."""
    with pytest.raises(ValueError, match=r"^'a_b\.example' is not a domain name; use only letters, digits"):
        servers.delivery("lmtp:a_b.example:24")
