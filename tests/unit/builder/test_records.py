"""mailstack.dns: which records a site publishes, and that all forms of them say the same."""

import asyncio
import cProfile
import csv
import io
import json
import time
from itertools import groupby

import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import dns.zone
import pytest
from octodns.provider.yaml import YamlProvider
from octodns.zone import Zone

from mailstack.dns import formats, zones
from mailstack.dns.records import beside, records
from mailstack.settings import checks
from mailstack.settings.model import Settings
from unit.dns_server import Server
from unit.sites import decided, faults, settings, stack

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
    keys = {key.name: key.record for key in stack(**changes).keys.signers}
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


def test_a_dmarc_record_of_ones_own():
    """It is published as it is, for all domains, and its report addresses have their authorisations."""
    own = (
        "v=DMARC1; p=reject; sp=quarantine; np=reject; adkim=s; t=y; rua=mailto:dmarc@example.com,mailto:a@example.org"
    )
    changes = TWO | {"dmarc_record": f"{own}; ruf=mailto:b@example.org", "mailboxes": "dmarc@example.com"}
    found = dmarc(**changes)
    assert found.pop("_dmarc.example.com") == f"{own}; ruf=mailto:b@example.org"
    assert found == dict.fromkeys(
        [
            "example.net._report._dmarc.example.com",
            "example.com._report._dmarc.example.org",
            "example.net._report._dmarc.example.org",
        ],
        "v=DMARC1;",
    )
    assert cnames("_dmarc", **changes) == {"_dmarc.example.net": "_dmarc.example.com."}


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
        priority = f"{fields.pop('priority')} " if fields["type"] == "MX" else ""
        assert list(fields) == ["full", "zone", "name", "type", "ttl", "value"]
        zone = fields["zone"].removesuffix(" (a guess: DNS did not name the zone)")
        label = "" if fields["name"] == "@" or (fields["name"] == zone != fields["zone"]) else f"{fields['name']}."
        assert f"{label}{zone}" == fields["full"]
        rows.add((f"{label}{zone}.", fields["type"], priority + fields["value"]))
    return rows


def rows_of_csv(text):
    """What a program reads."""
    rows = set()
    for one in csv.DictReader(io.StringIO(text)):
        assert (one["priority"] != "") == (one["type"] == "MX")
        label = "" if one["name"] == "@" else f"{one['name']}."
        rows.add((f"{label}{one['zone']}.", one["type"], f"{one['priority']} {one['value']}".strip()))
    return rows


def rows_of_octodns(text, directory):
    """What octoDNS has after it has read the documents, with all that it checks."""
    rows = set()
    for document in text.split("# ")[1:]:
        file, _, content = document.partition("\n")
        zone = file.partition(".yaml")[0]
        (directory / f"{zone}.yaml").write_text(content)
        loaded = Zone(f"{zone}.", [])
        YamlProvider("site", str(directory), escaped_semicolons=True).populate(loaded)
        for record in loaded.records:
            data = record.data
            for value in data.get("values") or [data["value"]]:
                text = f"{value['preference']} {value['exchange']}" if record._type == "MX" else value
                rows.add((record.fqdn, record._type, text.replace("\\;", ";")))
            assert record.ttl == 60
    return rows


@pytest.mark.parametrize("known", [True, False])
def test_all_forms_say_the_same(found, tmp_path, *, known):
    """Zone lines, values for web forms, JSON, CSV and octoDNS's YAML hold the same, wherever the zones are."""
    zones = {one.domain: one.widest for one in found} if known else {}
    rows = formats.placed(found, zones)
    as_json = json.loads(formats.as_json(rows))
    assert rows_of_zone(formats.zone_fragment(rows)) == rows_of(found)
    assert rows_of_lines(formats.one_line_values(rows)) == rows_of(found)
    assert rows_of_csv(formats.as_csv(rows)) == rows_of(found)
    assert rows_of_octodns(formats.as_octodns(rows, 60), tmp_path) == rows_of(found)
    assert {row["zone_is_a_guess"] for row in as_json} == {not known}
    assert {(row["name"], row["type"], row["value"]) for row in as_json} == rows_of(found)
    assert all(f"{row['priority']} {row['target']}" == row["value"] for row in as_json if row["type"] == "MX")
    assert {(row["name"], row["why"]) for row in as_json} == {(f"{one.name}.", one.why) for one in found}


def test_a_guess_is_said(found):
    """Whoever reads any of the forms sees which zones DNS did not name."""
    guessed, known = formats.placed(found, {}), formats.placed(found, {one.domain: one.widest for one in found})
    for form in (formats.one_line_values, formats.as_octodns, formats.zone_fragment):
        assert "a guess" in form(guessed)
        assert "a guess" not in form(known)
    assert {row["zone_is_a_guess"] for row in csv.DictReader(io.StringIO(formats.as_csv(guessed)))} == {"true"}
    assert {row["zone_is_a_guess"] for row in csv.DictReader(io.StringIO(formats.as_csv(known)))} == {"false"}


def test_records_stand_by_zone():
    """Records of several zones stand together, each zone under its name; those of one zone have no head."""
    rows = formats.placed(records(stack(**TWO)), {})
    zones = [one.zone for one in rows]
    assert [zone for zone, _ in groupby(zones)] == ["example.com", "example.net"]
    heads = [one for one in formats.zone_fragment(rows).splitlines() if one.startswith("; zone ")]
    assert [one.split()[2] for one in heads] == ["example.com", "example.net"]
    assert "; zone " not in formats.zone_fragment(formats.placed(records(stack()), None))
    assert "a guess" not in formats.zone_fragment(formats.placed(records(stack(**TWO)), None))


def test_time_to_live(found):
    """Each form has the time that is wanted."""
    rows = formats.placed(found, {})
    assert {line.split(" ")[1] for line in formats.zone_fragment(rows, 60).splitlines() if line[0] != ";"} == {"60"}
    assert {row["ttl"] for row in json.loads(formats.as_json(rows, 60))} == {60}
    assert {row["ttl"] for row in csv.DictReader(io.StringIO(formats.as_csv(rows, 60)))} == {"60"}
    assert formats.one_line_values(rows, 60).count("  ttl      60\n") == len(rows)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"public_addresses": ADDRESSES},
            [
                "PTR: 25.2.0.192.in-addr.arpa. PTR mail.example.com.; your provider sets it",
                "PTR: 26.2.0.192.in-addr.arpa. PTR mail.example.com.; your provider sets it",
            ],
        ),
        (
            {},
            [
                "A: an A record of mail.example.com with this host's address",
                "PTR: its address's PTR record is mail.example.com.; your provider sets it",
            ],
        ),
    ],
)
def test_what_must_be_beside_the_records(changes, expected):
    """An address that nobody has told, PTR records, and no AAAA record; comments in a zone file."""
    *rest, last = beside(stack(**changes))
    assert rest == expected
    assert last == "AAAA: no AAAA record of mail.example.com, because nothing listens on IPv6"
    assert all(line.startswith("; ") for line in formats.comments(beside(stack(**changes))).splitlines())


def test_strings_of_a_long_value(found):
    """A TXT value is cut into strings of at most 255 octets that make the value again; no other record has them."""
    for row in json.loads(formats.as_json(formats.placed(found, {}))):
        strings = row.get("strings")
        assert (strings is not None) == (row["type"] == "TXT")
        if strings is not None:
            assert "".join(strings) == row["value"]
            assert max(map(len, strings)) <= 255
            assert len(strings) == -(-len(row["value"]) // 255)


def test_one_line_values_are_plain(found):
    """A value that is pasted into a form has nothing that a form would keep by mistake."""
    for _, _, value in rows_of_lines(formats.one_line_values(formats.placed(found, {}))):
        assert value.isascii()
        assert value.isprintable()
        assert not set(value) & set('"()[]\\')


def test_zone_lines_have_absolute_names(found):
    """Every line has its whole owner name with the final dot, so that it fits below any $ORIGIN."""
    rows = formats.placed(found, {})
    lines = formats.zone_fragment(rows).splitlines()
    owners = [line.split(" ")[0] for line in lines if not line.startswith(";")]
    assert owners == [f"{one.record.name}." for one in rows]


REPORT = "example.com._report._dmarc"


# What DNS says of the site's names, a record's name, and its zone and label in forms; a guess is never "@".
PLACES = [
    ({}, {"example.com": "example.com"}, "example.com", "example.com", "@", False),
    ({}, {}, "example.com", "example.com", "example.com", True),
    ({}, {"mail.example.com": "example.com"}, "mail.example.com", "example.com", "mail", False),
    ({}, {"mail.example.com": "mail.example.com"}, "mail.example.com", "mail.example.com", "@", False),
    ({}, {}, "mail.example.com", "example.com", "mail", True),
    (
        {"domains": "sub.example.com"},
        {"sub.example.com": "example.com"},
        "sub.example.com",
        "example.com",
        "sub",
        False,
    ),
    ({"domains": "sub.example.com"}, {}, "sub.example.com", "sub.example.com", "sub.example.com", True),
    ({"domains": "sub.example.com"}, {}, "s._domainkey.sub.example.com", "sub.example.com", "s._domainkey", True),
    (
        {"domains": "sub.example.com,example.com"},
        {"sub.example.com": "example.com"},
        "s._domainkey.sub.example.com",
        "example.com",
        "s._domainkey.sub",
        False,
    ),
    ({"hostname": "mx.example.net"}, {"mx.example.net": "example.net"}, "mx.example.net", "example.net", "mx", False),
    ({"hostname": "mx.example.net"}, {}, "mx.example.net", "mx.example.net", "mx.example.net", True),
    (
        {"dmarc_report_addresses": "a@reports.example.net"},
        {"reports.example.net": "example.net"},
        f"{REPORT}.reports.example.net",
        "example.net",
        f"{REPORT}.reports",
        False,
    ),
]


@pytest.mark.parametrize(("changes", "zones", "name", "zone", "label", "guess"), PLACES)
def test_name_in_a_form(changes, zones, name, zone, label, guess):
    """A record's name is given whole and relative to the zone that DNS knows; a guess is said to be one."""
    domain = changes.get("domains", "example.com").split(",")[0]
    found = records(stack(**{"dkim_selector": "s", "mailboxes": f"user@{domain}"} | changes))
    placed = formats.placed(found, zones)
    rows = [row for row in json.loads(formats.as_json(placed)) if row["name"] == f"{name}."]
    assert {(row["zone"], row["label"], row["zone_is_a_guess"]) for row in rows} == {(f"{zone}.", label, guess)}
    said = f"  zone     {zone}{' (a guess: DNS did not name the zone)' if guess else ''}\n  name     {label}\n"
    assert formats.one_line_values([one for one in placed if one.record.name == name]).count(said) == len(rows)


SOA = "ns.example. admin.example. 1 2 3 4 5"


def answers(query):
    """What the name server of example.com and a registry say; of silent.example nothing."""
    answer = dns.message.make_response(query)
    name = query.question[0].name
    text = name.to_text(omit_final_dot=True)
    if text == "silent.example":
        return None
    known = ("example.com.", "example.org.", "co.example.")
    zone = next((one for one in known if f".{text}.".endswith(f".{one}")), ".")
    section = answer.answer if f"{text}." == zone else answer.authority
    section.append(dns.rrset.from_text(zone, 60, "IN", "SOA", SOA))
    if text.startswith("new.") or zone == ".":
        answer.set_rcode(dns.rcode.NXDOMAIN)
    return answer


def found_zones(*names, port=None):
    """What zones.find() says of names when it asks that server."""

    async def ask():
        async with Server(answers).serve() as at:
            return await asyncio.to_thread(zones.find, names, ["127.0.0.1"], port or at)

    return asyncio.run(ask())


def test_zones_by_soa():
    """A name's zone is what its answer says, be the name the apex, in the zone, or still to be made in a zone of ours."""
    assert found_zones("example.com", "mail.example.com", "new.example.com", "mail.example.org") == {
        "example.com": "example.com",
        "mail.example.com": "example.com",
        "new.example.com": "example.com",
        "mail.example.org": "example.org",
    }


def test_zones_that_are_not_known():
    """A name that was never registered is in no registry's zone nor in the root's; silence is no answer."""
    start = time.monotonic()
    assert found_zones("new.co.example", "nobody.example", "silent.example", "example.com") == {
        "example.com": "example.com"
    }
    assert time.monotonic() - start < 2 * zones.SECONDS
    assert found_zones("example.com", port=9) == {}


class Searched(tuple):
    """A tuple that counts how often it is searched from its head, which costs as much as it is long."""

    __slots__ = ()
    times = 0

    def __contains__(self, one):
        Searched.times += 1
        return super().__contains__(one)


def test_long_lists_are_not_searched():
    """However many domains, mailboxes and aliases: how often one of the lists is searched does not depend on it."""
    times = []
    for number in (10, 20):
        domains = [f"d{one}.example" for one in range(number)]
        chosen = settings(
            domains=",".join(domains),
            mailboxes=",".join(f"user@{one}" for one in domains),
            aliases=",".join(f"info@{one}=user@{one}" for one in domains),
            dmarc_report_addresses="user@d1.example",
        )
        lists = {name: Searched(getattr(chosen, name)) for name in ("domains", "mailboxes", "aliases")}
        chosen = Settings.model_construct(**(dict(chosen) | lists))
        Searched.times = 0
        assert not checks.contradictions(chosen, {})
        checks.warnings(chosen)
        records(decided(chosen))
        times.append(Searched.times)
    assert times[0] == times[1] > 0


def test_work_on_faults_is_linear():
    """So it is where every domain and every mailbox is wrong: each is reported, and none compared with all others."""
    work = []
    for number in (200, 400):
        calls = cProfile.Profile()
        calls.enable()
        found = faults(
            domains=",".join(f"d{one}.example;" for one in range(number)),
            mailboxes=",".join(f"user@d{one}.example" for one in range(number)),
        )
        calls.disable()
        assert len(found) == number
        work.append(sum(one.callcount for one in calls.getstats()))
    assert work[1] < 2.2 * work[0]


@pytest.mark.parametrize("keys", ["shared", "per-domain"])
def test_work_is_linear(keys):
    """Twice as many domains are at most a little more than twice the work, for settings and for records."""
    work = []
    for number in (200, 400):
        domains = [f"d{one}.example" for one in range(number)]
        mailboxes = [f"user@{one}" for one in domains]
        aliases = [f"info@{one}=user@{one}" for one in domains]
        calls = cProfile.Profile()
        calls.enable()
        site = stack(
            domains=",".join(domains),
            mailboxes=",".join(mailboxes),
            aliases=",".join(aliases),
            dmarc_report_addresses="user@d1.example,user@reports.example",
            dkim_keys=keys,
        )
        formats.zone_fragment(formats.placed(records(site), {}))
        calls.disable()
        work.append(sum(one.callcount for one in calls.getstats()))
    assert work[1] < 2.2 * work[0]
