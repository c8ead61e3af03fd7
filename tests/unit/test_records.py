"""mailstack.dns: which records a site publishes, and that all forms of them say the same."""

import json

import dns.rdatatype
import dns.zone
import pytest

from mailstack.dns import formats
from mailstack.dns.records import records
from unit.sites import faults, stack

ADDRESSES = "192.0.2.25,192.0.2.26"


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
                "example.com": "v=spf1 ip4:192.0.2.25 ip4:192.0.2.26 -all",
                "mail.example.com": "v=spf1 ip4:192.0.2.25 ip4:192.0.2.26 -all",
            },
        ),
        (
            {"public_addresses": "192.0.2.25", "spf_record": "v=spf1 include:_spf.example.net ?all"},
            {"example.com": "v=spf1 include:_spf.example.net ?all", "mail.example.com": "v=spf1 ip4:192.0.2.25 -all"},
        ),
    ],
)
def test_one_spf_record_for_each_name(changes, expected):
    """Every domain and the host name has one SPF record, which names this host's addresses and no other's."""
    assert spf(**changes) == expected


def test_addresses_and_mx():
    """Each domain's mail comes to the host, which has an A record for each address; no AAAA, since nothing listens."""
    found = records(stack(domains="example.com,example.net", public_addresses=ADDRESSES))
    rows = {(one.name, one.type, one.value) for one in found if one.type in {"A", "AAAA", "MX"}}
    assert rows == {
        ("mail.example.com", "A", "192.0.2.25"),
        ("mail.example.com", "A", "192.0.2.26"),
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
        ({"dmarc_report_addresses": "a@example.net,b@example.net"}, ["example.com._report._dmarc.example.net"]),
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


@pytest.mark.parametrize("local", ["a?b", "a#b", "a&b", "a^b", "a`b", "a{b}", "a|b"])
def test_report_address_in_a_uri(local):
    """A character that a mailto: URI cannot hold as it is (RFC 6068 section 2) is refused or percent-encoded."""
    changes = {"dmarc_report_addresses": f"{local}@example.com"}
    uri = "" if faults(**changes) else dmarc(**changes)["_dmarc.example.com"].rpartition("mailto:")[2]
    assert not set(uri) & set("?#&^`{}|")


# Every kind of record, long TXT values, names in other zones.
SITES = {
    "minimal": {},
    "long": {
        "domains": "example.com,sub.example.com,xn--bcher-kva.example",
        "hostname": "mx.example.net",
        "public_addresses": ADDRESSES,
        "dkim_keys": "per-domain",
        "spf_record": "v=spf1 exists:%{i}._spf.example.org "
        + "include:_spf.example.net " * 8
        + "ip4:192.0.2.0/24 " * 8
        + "-all",
        "dmarc_report_addresses": "dmarc@reports.example.org,o'neil@example.com",
    },
    "shared": TWO | {"hostname": "mx.example.org", "dmarc_policy": "quarantine"},
}


@pytest.fixture(params=[(bits, name) for bits in (2048, 4096) for name in SITES], ids=str)
def found(request):
    bits, name = request.param
    return records(stack(bits, **SITES[name]))


def rows_of(found):
    return {(f"{one.name}.", one.type, one.value) for one in found}


def rows_of_zone(text):
    """What a name server that loads the lines has in its zone."""
    apex = ". 3600 IN SOA ns.example. admin.example. 1 2 3 4 5\n. 3600 IN NS ns.example.\n"
    zone = dns.zone.from_text(apex + text, origin=".", relativize=False)
    rows = set()
    for name, _, data in zone.iterate_rdatas():
        kind = dns.rdatatype.to_text(data.rdtype)
        value = b"".join(data.strings).decode() if kind == "TXT" else data.to_text()
        rows.add((name.to_text(), kind, value))
    return {row for row in rows if row[0] != "."}


def rows_of_lines(text):
    """What a person who fills in a web form reads."""
    rows = set()
    for block in text.rstrip("\n").split("\n\n"):
        _, *lines = block.split("\n")
        fields = dict(line.strip().split(maxsplit=1) for line in lines)
        assert list(fields) == ["full", "zone", "name", "type", "value"]
        label = "" if fields["name"] == "@" else f"{fields['name']}."
        rows.add((f"{label}{fields['zone']}.", fields["type"], fields["value"]))
    return rows


def test_all_forms_say_the_same(found):
    """A zone file, the values for web forms and JSON hold the same names, types and values."""
    as_json = json.loads(formats.as_json(found))
    assert rows_of_zone(formats.zone_fragment(found)) == rows_of(found)
    assert rows_of_lines(formats.one_line_values(found)) == rows_of(found)
    assert {(row["name"], row["type"], row["value"]) for row in as_json} == rows_of(found)
    assert [row["why"] for row in as_json] == [one.why for one in found]


def test_strings_of_a_long_value(found):
    """A TXT value is cut into strings of at most 255 octets that make the value again; no other record has them."""
    for row in json.loads(formats.as_json(found)):
        strings = row.get("strings")
        assert (strings is not None) == (row["type"] == "TXT")
        if strings is not None:
            assert "".join(strings) == row["value"]
            assert max(map(len, strings)) <= 255
            assert len(strings) == -(-len(row["value"]) // 255)


def test_one_line_values_are_plain(found):
    """A value that is pasted into a form has nothing that a form would keep by mistake."""
    for _, _, value in rows_of_lines(formats.one_line_values(found)):
        assert value.isascii()
        assert value.isprintable()
        assert not set(value) & set('"()[]\\')


def test_zone_lines_have_absolute_names(found):
    """Every line has its whole owner name with the final dot, so that it fits below any $ORIGIN."""
    lines = formats.zone_fragment(found).splitlines()
    assert [line.split(" ")[0] for line in lines if not line.startswith(";")] == [f"{one.name}." for one in found]


REPORT = "example.com._report._dmarc"


@pytest.mark.parametrize(
    ("changes", "name", "zone", "label"),
    [
        ({}, "example.com", "example.com", "@"),
        ({}, "mail.example.com", "example.com", "mail"),
        ({"domains": "sub.example.com,example.com"}, "s._domainkey.sub.example.com", "example.com", "s._domainkey.sub"),
        ({"domains": "example.co.uk.example"}, "_dmarc.example.co.uk.example", "example.co.uk.example", "_dmarc"),
        ({"hostname": "mx.example.net"}, "mx.example.net", "mx.example.net", "@"),
        ({"dmarc_report_addresses": "a@example.net"}, f"{REPORT}.example.net", "example.net", REPORT),
    ],
)
def test_label_relative_to_the_zone(changes, name, zone, label):
    """A record's name is given whole and relative to the widest domain of the site that holds it."""
    domain = changes.get("domains", "example.com").split(",")[0]
    found = records(stack(**{"dkim_selector": "s", "mailboxes": f"user@{domain}"} | changes))
    assert {(one.zone, one.label) for one in found if one.name == name} == {(zone, label)}
