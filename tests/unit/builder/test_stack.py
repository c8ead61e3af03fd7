"""Decisions about the ports and addresses of a site, and about the ways of its mail."""

import pytest

from mailstack.stack.decide import relay_logins_of
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
    junk = {one.address: one.target for one in found.junk_aliases}
    assert junk["info+quarantine@example.net"] == "user+quarantine@example.org"
    assert junk["postmaster+quarantine@mail.example.com"] == "user@example.com"
    assert stack(**DELIVERIES | {"delivery": "lmtp:dovecot:24"}).judging.junk == ()


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
