"""Decisions about the ports and addresses of a site, about the ways of its mail, and the mail of its addresses."""

import re
from collections import Counter

import pytest

from mailstack.render.site import files
from mailstack.stack.decide import relay_logins_of
from mailstack.stack.services import service_names
from unit.sites import settings, stack

TRUSTING = {"trusted_networks": "192.0.2.0/28"}


@pytest.mark.parametrize(
    ("changes", "ports"),
    [
        ({}, ["0.0.0.0:25:25"]),
        (TRUSTING, ["0.0.0.0:25:25", "0.0.0.0:465:465", "0.0.0.0:587:587"]),
        (TRUSTING | {"port_submission": "0"}, ["0.0.0.0:25:25", "0.0.0.0:465:465"]),
        (TRUSTING | {"port_submissions": "0"}, ["0.0.0.0:25:25", "0.0.0.0:587:587"]),
        ({"port_submission": "5870"}, ["0.0.0.0:25:25"]),
        ({"proxy_networks": "192.0.2.10"}, ["0.0.0.0:25:25", "0.0.0.0:12525:12525"]),
        ({"proxy_networks": "192.0.2.10", "port_smtp": "0", "port_smtp_proxy": "25"}, ["0.0.0.0:25:12525"]),
        (
            TRUSTING | {"proxy_networks": "192.0.2.10", "port_smtp": "0", "port_submission": "0"},
            ["0.0.0.0:465:465", "0.0.0.0:12525:12525", "0.0.0.0:10465:10465", "0.0.0.0:10587:10587"],
        ),
        (TRUSTING | {"publish_addresses": ""}, []),
        ({"sasl": "unix:dovecot/auth"}, [f"0.0.0.0:{one}:{one}" for one in (25, 465, 587)]),
        ({"publish_addresses": "192.0.2.25,192.0.2.26"}, ["192.0.2.25:25:25", "192.0.2.26:25:25"]),
    ],
)
def test_published_ports(changes, ports):
    """Submission is published with the first who may use it."""
    assert list(stack(**changes).publish) == ports


@pytest.mark.parametrize(
    ("published", "public", "leaves_by"),
    [
        ("192.0.2.25", "192.0.2.25,192.0.2.26", "192.0.2.25"),
        ("0.0.0.0", "192.0.2.25", None),  # noqa: S104
        ("192.0.2.25,192.0.2.26", "192.0.2.25", None),
        ("", "192.0.2.25", None),
        # Behind a translation, on loopback, or unknown: the host's routes decide.
        ("10.0.0.25", "192.0.2.25", None),
        ("127.0.0.1", "192.0.2.25", None),
        ("192.0.2.25", "", None),
    ],
)
def test_the_address_by_which_mail_leaves(published, public, leaves_by):
    """It is the published one, where there is one, and other servers see it; or the one that is set."""
    found = stack(publish_addresses=published, public_addresses=public).leaves_by
    assert (found and str(found)) == leaves_by
    chosen = stack(publish_addresses=published, public_addresses=public, outgoing_address="192.0.2.27").leaves_by
    assert str(chosen) == "192.0.2.27"


DELIVERIES = {
    "domains": "example.com,example.net,example.org",
    "delivery": "lmtp:dovecot:24,example.org=maildir",
    "mailboxes": "user@example.com,user@example.org",
    "aliases": "info@example.net=user@example.org,sales@example.net=user@example.com",
}


def test_deliveries():
    """A mailbox server is asked about a domain's addresses where none is listed, also about its postmaster."""
    found = stack(**DELIVERIES)
    hop = "lmtp:dovecot.mail-example-com_lookup:24"
    assert [(one.domain, str(one.hop), one.asked) for one in found.deliveries] == [
        ("example.com", hop, False),
        ("example.net", hop, True),
        ("example.org", "None", False),
    ]
    assert {one.address for one in found.aliases if one.address.startswith("postmaster@")} == {
        f"postmaster@{domain}" for domain in ("example.com", "example.org", "mail.example.com")
    }


def test_junk():
    """Only what ends in a Maildir has a Junk: its domain, the host name, and aliases that lead there."""
    found = stack(**DELIVERIES)
    assert found.judging.junk == ("example.org", "mail.example.com", "info@example.net")
    junk = dict(found.junk_rows)
    assert junk["info+quarantine@example.net"] == ("user+quarantine@example.org",)
    assert junk["postmaster+quarantine@mail.example.com"] == ("user@example.com",)
    assert stack(**DELIVERIES | {"delivery": "lmtp:dovecot:24"}).judging.junk == ()
    chain = "far@example.com=info@example.net,info@example.net=user@example.org"
    assert stack(**DELIVERIES | {"aliases": chain}).judging.junk[2:] == ("far@example.com", "info@example.net")


def test_junk_of_a_catch_all():
    """Where the catch-all of a mailbox server's domain leads to a Maildir, only the mail that it catches has a Junk."""
    caught = "*@example.com=user@example.org,*@example.com=user@example.com"
    found = stack(**DELIVERIES | {"aliases": caught})
    assert found.judging.junk == ("example.org", "mail.example.com", "example.com")
    assert found.caught_junk_rows == (("example.com", ("user+quarantine@example.org", "user@example.com")),)
    assert dict(found.junk_rows)["user+quarantine@example.com"] == ("user@example.com",)


def test_a_relay_of_a_long_domain():
    """Its transport's socket and its login's file have names that are short enough, and its own."""
    domains = [f"{'.'.join([one * 60] * 4)}.example" for one in "ab"]
    relays = stack(
        domains=",".join(domains),
        mailboxes=f"user@{domains[0]}",
        relay_hosts=",".join(f"{one}=smtp.provider.example" for one in domains),
    ).relays
    names = {name for one in relays for name in (one.transport, one.secret)}
    assert len(names) == 4
    assert max(map(len, names)) < 40


def test_who_is_not_screened():
    """Postscreen lets forwarders pass that SPF or DMARC spares, and with none has Postfix's own list."""
    known = {"postscreen": "on", "spf_skip_networks": "192.0.2.0/24", "dmarc_skip_networks": "2001:db8::/48"}
    row = "postscreen_access_list = permit_mynetworks, cidr:{ { 192.0.2.0/24 permit }, { 2001:db8::/48 permit } }"
    main_cf = [
        files(stack(**one))["postfix"]["etc/postfix/main.cf"].content.decode() for one in (known, {"postscreen": "on"})
    ]
    assert [f"{row}\n" in one for one in main_cf] == [True, False]
    assert "postscreen_access_list" not in main_cf[1]


def test_who_is_asked():
    """A mailbox server is asked about its domain, and about what aliases lead to there, a catch-all's mail too."""
    aliases = "*@example.org=x@example.net,info@example.com=x@example.net,all@example.com=user@example.com"
    aliases += ",far@example.com=info+tag@example.com"
    rows = stack(**DELIVERIES | {"aliases": aliases}).asked_rows
    asked = {"example.net", "example.org", "info@example.com", "far@example.com"}
    assert {one for one, whether in rows.items() if whether} == asked
    assert {"example.com", "mail.example.com", "user@example.org", "all@example.com"} <= rows.keys()


def test_each_relay_has_its_login():
    """Logins are by sender domain, and never shared, although two domains leave by one server."""
    chosen = settings(
        domains="example.com,example.net,example.org",
        relay_host="smtp.provider.example:587",
        relay_user="default",
        relay_password="s3cret",
        relay_hosts="example.net=smtp.provider.example:587,example.org=smtp.provider.example:587",
        relay_logins="example.net=net:s3cret",
    )
    assert relay_logins_of(chosen) == {
        None: "[smtp.provider.example]:587 default:s3cret\n",
        "example.net": "[smtp.provider.example]:587 net:s3cret\n",
    }


def test_rows_of_aliases():
    """An alias has all of its targets; where there is a catch-all, each mailbox of its domain has itself."""
    found = stack(
        domains="example.com,example.net",
        mailboxes="user@example.com,a+b@example.com,user@example.net",
        aliases="all@example.com=user@example.com,*@example.com=a+b@example.com,all@example.com=x@example.org,"
        "user@example.com=user@example.com,user@example.com=x@example.org",
        srs="false",
    )
    rows, junk = dict(found.alias_rows), dict(found.junk_rows)
    implied = {f"{role}@{name}" for role in ("postmaster", "abuse") for name in (*found.domains, found.hostname)}
    expected = {
        "all@example.com": ("user@example.com", "x@example.org"),
        "*@example.com": ("a+b@example.com",),
        "user@example.com": ("user@example.com", "x@example.org"),
        "a+b@example.com": ("a+b@example.com",),
    }
    assert {one: rows[one] for one in rows.keys() - implied - {"root@mail.example.com"}} == expected
    assert junk["all+quarantine@example.com"] == ("user+quarantine@example.com", "x@example.org")
    assert junk["a+b+quarantine@example.com"] == ("a+b+quarantine@example.com",)
    assert junk.keys() == {one.replace("@", "+quarantine@") for one in rows if not one.startswith("*")}
    assert found.caught_junk_rows == (("example.com", ("a+b+quarantine@example.com",)),)


def test_what_is_forwarded():
    """Each alias that leads to another server, by whatever way; and what its catch-all would forward, but does not."""
    found = stack(
        domains="example.com,example.net",
        mailboxes="user@example.com,box@example.net",
        aliases="out@example.com=x@example.org,chain@example.com=out+tag@example.com,far@example.com=chain@example.com,"
        "caught@example.com=anybody@example.net,*@example.net=out@example.com,in@example.net=box@example.net,"
        "user@example.com=user@example.com,user@example.com=x@example.org,boxed@example.com=box@example.net",
        postmaster="box@example.net",
    )
    addresses = ("out", "chain", "far", "caught", "user")
    staying = ("box", "in", "postmaster", "abuse")
    expected = {f"{one}@example.com": True for one in addresses} | {"*@example.net": True}
    assert found.forwarded == expected | {f"{one}@example.net": False for one in staying}
    assert stack().forwarded == {}


@pytest.mark.parametrize(
    ("changes", "marked"),
    [
        ({}, set()),
        ({"aliases": "a@example.com=user@example.com,b@example.com=root@mail.example.com"}, set()),
        ({"aliases": "a@example.com=user@example.com,a@example.com=x@example.org"}, {"x@example.org.srs.invalid"}),
        ({"aliases": "a@example.com=x@sub.example.com"}, {"x@sub.example.com.srs.invalid"}),
        ({"aliases": "a@example.com=x@example.org", "srs": "false"}, set()),
        ({"postmaster": "hostmaster@example.org"}, {"hostmaster@example.org.srs.invalid"}),
    ],
)
def test_srs_where_mail_leaves_by_an_alias(changes, marked):
    """Where mail leaves by an alias, and no setting forbids it, postsrsd runs, and the targets of other servers are marked."""
    found = stack(**changes)
    assert ("postsrsd" in service_names(found)) == bool(marked)
    assert {one for _, row in found.alias_rows for one in row if one.endswith(".invalid")} == marked


def test_all_at_once():
    """With all that a site may have, no two services of Postfix's share a port, and no parameter is set twice."""
    found = files(
        stack(
            **DELIVERIES | TRUSTING,
            proxy_networks="198.51.100.0/28",
            postscreen="on",
            sasl="inet:dovecot:12345",
            postmaster="hostmaster@elsewhere.example",
            relay_host="smtp.provider.example:587",
            relay_hosts="example.net=smtp.provider.example:587",
        )
    )["postfix"]
    names = {
        "master.cf": r"^(\S+ +(?:inet|unix|pass|unix-dgram)) ",
        "main.cf": r"^(\w+) =",
    }
    for name, pattern in names.items():
        counts = Counter(re.findall(pattern, found[f"etc/postfix/{name}"].content.decode(), re.MULTILINE))
        assert counts.most_common(1)[0][1] == 1, name
    assert {"127.0.0.1:10024 inet", "127.0.0.1:10026 inet"} <= {
        " ".join(one.split()[:2]) for one in found["etc/postfix/master.cf"].content.decode().splitlines() if one
    }
