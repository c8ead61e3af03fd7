"""mailstack.fields: the finer points of the parsers, one token at a time."""

import pytest

from mailstack import fields
from mailstack.fields import Alias, HostPort, NextHop

DIGEST = "e06d44b80b8f1d39a95c0b0d7c65d08458e880409bbc683457104237c7f8ec8d"
DNSKEY = "257 3 13 mdsswUyr3DPW132mOi8V9xESWE8jTo0dxCjjnopKl+GqJxpVXckHAeF+KkxLbxILfDLUT0rAK9iUzy1L53eKGQ=="


@pytest.mark.parametrize(
    ("token", "host", "port", "text"),
    [
        ("smtp.example.net", "smtp.example.net", None, "smtp.example.net"),
        ("SMTP.example.net.:25", "smtp.example.net", 25, "smtp.example.net:25"),
        ("[smtp.example.net]:587", "smtp.example.net", 587, "smtp.example.net:587"),
        ("192.0.2.25:65535", "192.0.2.25", 65535, "192.0.2.25:65535"),
        ("[192.0.2.25]", "192.0.2.25", None, "192.0.2.25"),
        ("[2001:DB8::25]", "2001:db8::25", None, "[2001:db8::25]"),
        ("[2001:db8:0:0::25]:25", "2001:db8::25", 25, "[2001:db8::25]:25"),
    ],
)
def test_host_port(token, host, port, text):
    """A host with or without a port and brackets; str() gives it back with brackets where they are needed."""
    parsed = fields.host_port(token)
    assert (parsed, str(parsed)) == (HostPort(host, port), text)


@pytest.mark.parametrize(
    ("token", "remedy"),
    [
        ("2001:db8::25", "brackets"),
        ("[2001:db8::25", "brackets"),
        ("[2001:db8::25]25", "brackets"),
        ("[]:25", "brackets"),
        (":25", "brackets"),
        ("smtp.example.net:", "HOST:PORT"),
        ("smtp.example.net:0", "port outside 1 to 65535"),
        ("smtp.example.net:65536", "port outside 1 to 65535"),
        ("smtp.example.net:٢٥", "HOST:PORT"),
        ("smtp:25", "'smtp' is not fully qualified"),
        ("192.0.2.256:25", "fully qualified"),
        # A zone id may hold any character, so it would carry lines into a daemon's configuration.
        ("[fe80::25%eth0]:25", "fe80::25%eth0"),
        ("[fe80::25%x\nmynetworks = static:all]:25", "fe80::25%x"),
    ],
)
def test_no_host_port(token, remedy):
    """What is no host and port is refused with what would be right."""
    with pytest.raises(ValueError, match=remedy):
        fields.host_port(token)


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        ("192.0.2.53", HostPort("192.0.2.53")),
        ("192.0.2.53@5353", HostPort("192.0.2.53", 5353)),
        ("2001:DB8::53@53", HostPort("2001:db8::53", 53)),
    ],
)
def test_forwarder(token, expected):
    """An address, and a port after @, as in unbound.conf."""
    assert fields.forwarder(token) == expected


@pytest.mark.parametrize(
    ("token", "remedy"),
    [
        ("dns.example.net", "not an IP address"),
        ("192.0.2.53:53", "not an IP address"),
        ("[2001:db8::53]@53", "not an IP address"),
        ("192.0.2.53@0", "ADDRESS@PORT"),
        ("192.0.2.53@65536", "ADDRESS@PORT"),
        ("192.0.2.53@dns", "ADDRESS@PORT"),
        ("192.0.2.53@", "ADDRESS@PORT"),
        ("192.0.2.53@\N{SUPERSCRIPT TWO}", "ADDRESS@PORT"),
        ("fe80::53%eth0@53", "not an IP address"),
    ],
)
def test_no_forwarder(token, remedy):
    """Names, and ports that are none, are refused."""
    with pytest.raises(ValueError, match=remedy):
        fields.forwarder(token)


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        ("maildir", None),
        ("lmtp:dovecot.example.com", NextHop("lmtp", HostPort("dovecot.example.com", 24))),
        ("lmtp:192.0.2.24:2424", NextHop("lmtp", HostPort("192.0.2.24", 2424))),
        ("smtp:[2001:db8::24]", NextHop("smtp", HostPort("2001:db8::24", 25))),
    ],
)
def test_delivery(token, expected):
    """'maildir', or a protocol, a host and a port, which has the protocol's default."""
    assert fields.delivery(token) == expected


@pytest.mark.parametrize(
    ("token", "remedy"),
    [
        ("", "write maildir, lmtp"),
        ("mbox", "write maildir, lmtp"),
        ("lmtp", "write maildir, lmtp"),
        ("lmtps:dovecot.example.com", "write maildir, lmtp"),
        ("lmtp://dovecot.example.com", "'//dovecot.example.com' is not"),
        ("lmtp:unix:/run/lmtp", "'unix:/run/lmtp' is not HOST:PORT"),
        ("smtp:dovecot.example.com:0", "port outside"),
    ],
)
def test_no_delivery(token, remedy):
    """Other protocols and unix sockets are refused; of a wrong server that part is named."""
    with pytest.raises(ValueError, match=remedy):
        fields.delivery(token)


@pytest.mark.parametrize(
    ("token", "record"),
    [
        ("v=spf1 mx -all", "v=spf1 mx -all"),
        ("V=SPF1 ip4:192.0.2.25 ip6:2001:db8::25 ~ALL", "V=SPF1 ip4:192.0.2.25 ip6:2001:db8::25 ~ALL"),
        ("v=spf1 mx redirect=_spf.example.net", "v=spf1 mx redirect=_spf.example.net"),
        ("v=spf1 mx -all exp=why.example.net", "v=spf1 mx -all exp=why.example.net"),
        ("v=spf1 exists:%{i}._spf.example.net  -all", "v=spf1 exists:%{i}._spf.example.net -all"),
        ("v=spf1 include:all.example.net", "v=spf1 include:all.example.net"),
    ],
)
def test_spf_record(token, record):
    """A record is taken as it is, with single blanks."""
    assert fields.spf_record(token) == record


@pytest.mark.parametrize(
    ("token", "remedy"),
    [
        ("", "starts with v=spf1"),
        ("mx -all", "starts with v=spf1"),
        ("v=spf10 mx -all", "starts with v=spf1"),
        ("v=DMARC1; p=none", "starts with v=spf1"),
        ('"v=spf1 mx -all"', "starts with v=spf1"),
        ('v=spf1 mx" "-all', "without quotes and backslashes"),
        ("v=spf1 mx\\ -all", "without quotes and backslashes"),
        ("v=spf1 mx\n-all", "cannot have"),
        ("v=spf1 a:bücher.example -all", "cannot have"),
        ("v=spf1 ~all -all", "more than once"),
        ("v=spf1 -all mx", "not at its end"),
        ("v=spf1 -all mx exp=why.example.net", "not at its end"),
    ],
)
def test_no_spf_record(token, remedy):
    """Another kind of record, its quotes, or terms that are never read are refused."""
    with pytest.raises(ValueError, match=remedy):
        fields.spf_record(token)


@pytest.mark.parametrize(
    ("token", "anchor"),
    [
        (f". DS 20326 8 2 {DIGEST.upper()}", f". IN DS 20326 8 2 {DIGEST}"),
        (f". IN DS 20326 8 2 {DIGEST[:32]} {DIGEST[32:]}", f". IN DS 20326 8 2 {DIGEST}"),
        (f"example.\tin  ds 20326 8 2 {DIGEST}", f"example. IN DS 20326 8 2 {DIGEST}"),
        (f"example. IN DNSKEY {DNSKEY}", f"example. IN DNSKEY {DNSKEY}"),
    ],
)
def test_trust_anchor(token, anchor):
    """A DS or DNSKEY record, with or without its class, in one canonical form."""
    # A DNSKEY's base64 is printed in blocks.
    assert fields.trust_anchor(token).replace(" ", "") == anchor.replace(" ", "")


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        f"20326 8 2 {DIGEST}",
        ". TXT anchor",
        ". DS 20326 8 2",
        f". DS 20326 8 2 {DIGEST[:-2]}",
        f". DS 20326 8 2 {DIGEST}zz",
        ". DNSKEY 257 3 13 !",
        # The owner name ends up between quotes in unbound.conf.
        f'" DS 20326 8 2 {DIGEST}',
        f"a..b. DS 20326 8 2 {DIGEST}",
    ],
)
def test_no_trust_anchor(token):
    """A record of another type, one that is cut off, or an owner that is no name is refused."""
    with pytest.raises(ValueError, match=r"^is not a "):
        fields.trust_anchor(token)


def test_alias():
    """Both sides of an alias are addresses in canonical form."""
    assert fields.alias("Info@Example.com.=user+info@BÜCHER.example") == Alias(
        "info@example.com", "user+info@xn--bcher-kva.example"
    )


@pytest.mark.parametrize(
    ("token", "remedy"),
    [
        ("info@example.com", "is not an alias; write"),
        ("info=user@example.com", "'info' is not an address"),
        ("info@example.com=", "'' is not an address"),
        ("info@example.com:user@example.com", "is not an alias"),
        ("a@example.com=b@example.com=c@example.com", "local part that cannot be used"),
        ("a@example.com=b@example", "'example' is not fully qualified"),
    ],
)
def test_no_alias(token, remedy):
    """Of an alias the side that is wrong is named."""
    with pytest.raises(ValueError, match=remedy):
        fields.alias(token)


@pytest.mark.parametrize("local", ["user", "first.last", "a_b-c", "user+tag", "o'neil", "x" * 64])
def test_mailbox(local):
    """Usual local parts are taken, in lower case."""
    assert fields.mailbox(f"{local.upper()}@Example.com") == f"{local}@example.com"


@pytest.mark.parametrize(
    "local",
    [
        "",
        ".user",
        "a..b",
        '"a b"',
        "a/../b",
        "user%example.net",
        "example.net!user",
        "bücher",
        "x" * 65,
        "\N{LATIN SMALL LETTER LONG S}ales",  # which matches [a-z] where case is ignored
        "#user",  # a comment in Postfix's tables
        "-user",  # Postfix takes no such recipient (postconf(5), allow_min_user)
    ],
)
def test_no_mailbox(local):
    """A local part that Postfix could not look up, or would read otherwise, is refused."""
    with pytest.raises(ValueError, match="has a local part that cannot be used"):
        fields.mailbox(f"{local}@example.com")


@pytest.mark.parametrize("token", ["fe80::1%eth0", "192.0.2.025", "192.0.2", "3221225985", "[2001:db8::25]", "::g"])
def test_no_address(token):
    """An address of one link, or one that is written for something else, is refused."""
    with pytest.raises(ValueError, match="is not an IP address"):
        fields.address(token)
