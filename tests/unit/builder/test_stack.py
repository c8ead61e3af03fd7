"""Decisions about the ports and addresses of a site."""

import pytest

from unit.sites import stack

TRUSTING = {"trusted_networks": "192.0.2.0/28"}


@pytest.mark.parametrize(
    ("changes", "ports"),
    [
        ({}, ["0.0.0.0:25:25"]),
        (TRUSTING, ["0.0.0.0:25:25", "0.0.0.0:465:465", "0.0.0.0:587:587"]),
        (TRUSTING | {"port_submission": "0"}, ["0.0.0.0:25:25", "0.0.0.0:465:465"]),
        (TRUSTING | {"port_submissions": "0"}, ["0.0.0.0:25:25", "0.0.0.0:587:587"]),
        ({"port_submission": "5870"}, ["0.0.0.0:25:25"]),
        (TRUSTING | {"publish_addresses": ""}, []),
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
    """It is the published one, where there is one, and other servers see it."""
    found = stack(publish_addresses=published, public_addresses=public).leaves_by
    assert (found and str(found)) == leaves_by
