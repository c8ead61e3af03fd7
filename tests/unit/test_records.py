"""mailstack.dns: which records a site publishes, and that all forms of them say the same."""

import json

import dns.rdatatype
import dns.zone
import pytest
from unit.sites import stack

from mailstack.dns import formats
from mailstack.dns.records import records

ADDRESSES = "192.0.2.25,2001:db8::25"


def values(kind, **changes):
    """Owner name → value of a site's records of a kind; a name that has two of them is a fault."""
    found = [(one.name, one.value) for one in records(stack(**changes)) if one.type == kind]
    table = dict(found)
    assert len(table) == len(found), found
    return table


def spf(**changes):
    return {name: value for name, value in values("TXT", **changes).items() if value.startswith("v=spf1")}


def dmarc(**changes):
    return {name: value for name, value in values("TXT", **changes).items() if value.startswith("v=DMARC1")}


def cnames(label, **changes):
    return {name: value for name, value in values("CNAME", **changes).items() if f"{label}." in name}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {"example.com": "v=spf1 mx ~all", "mail.example.com": "v=spf1 a -all"}),
        ({"hostname": "example.com"}, {"example.com": "v=spf1 mx ~all"}),
        ({"hostname": "mx.example.net"}, {"example.com": "v=spf1 mx ~all", "mx.example.net": "v=spf1 a -all"}),
        (
            {"domains": "example.com,example.net", "hostname": "example.net"},
            {"example.com": "v=spf1 mx ~all", "example.net": "v=spf1 mx ~all"},
        ),
        (
            {"public_addresses": ADDRESSES, "spf_qualifier": "-"},
            {
                "example.com": "v=spf1 ip4:192.0.2.25 ip6:2001:db8::25 -all",
                "mail.example.com": "v=spf1 ip4:192.0.2.25 ip6:2001:db8::25 -all",
            },
        ),
        (
            {"public_addresses": "192.0.2.25", "spf_record": "v=spf1 include:_spf.example.net ?all"},
            {"example.com": "v=spf1 include:_spf.example.net ?all", "mail.example.com": "v=spf1 ip4:192.0.2.25 -all"},
        ),
    ],
)
def test_one_spf_record_for_each_name(changes, expected):
    """Every domain and the host name has one SPF record, which covers the addresses of both families."""
    assert spf(**changes) == expected


def test_addresses_and_mx():
    """Each domain's mail comes to the host, whose addresses are published if they are known."""
    found = records(stack(domains="example.com,example.net", public_addresses=ADDRESSES))
    rows = {(one.name, one.type, one.value) for one in found if one.type in {"A", "AAAA", "MX"}}
    assert rows == {
        ("mail.example.com", "A", "192.0.2.25"),
        ("mail.example.com", "AAAA", "2001:db8::25"),
        ("example.com", "MX", "10 mail.example.com."),
        ("example.net", "MX", "10 mail.example.com."),
    }


TWO = {"domains": "example.com,example.net", "dkim_selector": "s1"}


@pytest.mark.parametrize(
    ("changes", "txt", "cname"),
    [
        (TWO, ["example.com"], ["example.net", "mail.example.com"]),
        (TWO | {"hostname": "example.net"}, ["example.com"], ["example.net"]),
        (TWO | {"hostname": "mx.example.org"}, ["example.com"], ["example.net", "mx.example.org"]),
        (TWO | {"dkim_keys": "per-domain"}, ["example.com", "example.net", "mail.example.com"], []),
        (TWO | {"dkim_keys": "per-domain", "hostname": "example.com"}, ["example.com", "example.net"], []),
    ],
)
def test_dkim_records(changes, txt, cname):
    """A shared key is one TXT with a CNAME from every other signer; keys of their own are one TXT for each."""
    keys = {key.name: key.record for key in stack(**changes).keys}
    assert list(keys) == [f"s1._domainkey.{domain}" for domain in txt]
    assert {name: value for name, value in values("TXT", **changes).items() if "._domainkey." in name} == keys
    expected = {f"s1._domainkey.{domain}": "s1._domainkey.example.com." for domain in cname}
    assert cnames("_domainkey", **changes) == expected


@pytest.mark.parametrize(
    ("changes", "cname"),
    [
        ({}, []),
        ({"hostname": "example.com"}, []),
        ({"hostname": "mx.example.net"}, ["mx.example.net"]),
        (TWO, ["example.net"]),
        # The tree walk finds example.net's record for its host.
        (TWO | {"hostname": "mx.example.net"}, ["example.net"]),
        ({"domains": "example.com,sub.example.com"}, ["sub.example.com"]),
    ],
)
def test_dmarc_is_shared(changes, cname):
    """The policy stands at the first domain; whoever signs and is not covered by a parent points there."""
    assert dmarc(**changes) == {"_dmarc.example.com": "v=DMARC1; p=none"}
    assert cnames("_dmarc", **changes) == {f"_dmarc.{domain}": "_dmarc.example.com." for domain in cname}


@pytest.mark.parametrize(
    ("changes", "authorised"),
    [
        ({"dmarc_report_addresses": "dmarc@example.com"}, []),
        ({"dmarc_report_addresses": "dmarc@reports.example.com"}, []),
        ({"dmarc_report_addresses": "dmarc@reports.example.net"}, ["example.com._report._dmarc.reports.example.net"]),
        (
            {"dmarc_report_addresses": "a@reports.example.net,b@reports.example.net"},
            ["example.com._report._dmarc.reports.example.net"],
        ),
        # The look-up is made under the name whose record was found, and a CNAME does not change that name.
        (TWO | {"dmarc_report_addresses": "dmarc@example.com"}, ["example.net._report._dmarc.example.com"]),
        (
            {"hostname": "mx.example.net", "dmarc_report_addresses": "dmarc@example.org"},
            ["example.com._report._dmarc.example.org", "mx.example.net._report._dmarc.example.org"],
        ),
        ({"domains": "sub.example.com", "dmarc_report_addresses": "dmarc@example.com"}, []),
    ],
)
def test_report_authorisations(changes, authorised):
    """A receiver outside an organisation says that it takes the reports (RFC 9990 section 4), final semicolon kept."""
    changes = {"mailboxes": "", "delivery": "lmtp:192.0.2.24"} | changes
    found = {name: value for name, value in dmarc(**changes).items() if "._report." in name}
    assert found == dict.fromkeys(authorised, "v=DMARC1;")


def test_dmarc_record():
    """Every report address is a mailto: URI; a tag without a value is not there."""
    changes = {"dmarc_policy": "reject", "dmarc_report_addresses": "dmarc@example.com,reports@example.com"}
    rua = "rua=mailto:dmarc@example.com,mailto:reports@example.com"
    assert dmarc(**changes) == {"_dmarc.example.com": f"v=DMARC1; p=reject; {rua}"}


@pytest.mark.parametrize("local", ["a?subject=x", "a#b", "a&b", "a^b", "a`b", "a{b}"])
def test_report_address_in_a_uri(local):
    """A character that a mailto: URI cannot hold as it is (RFC 6068) is refused or percent-encoded."""
    try:
        value = dmarc(dmarc_report_addresses=f"{local.lower()}@example.com")["_dmarc.example.com"]
    except ValueError:
        return
    assert not set(value.rpartition("mailto:")[2]) & set("?#&^`{}")
