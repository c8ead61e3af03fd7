"""The records: loaded by two name servers, and found right by OpenDKIM's own tool in signed and unsigned zones."""

import json

import dns.rdata
import pytest
from click.testing import CliRunner

from mailstack.cli.app import main
from mailstack.dns import formats
from mailstack.dns.records import records
from mailstack.world.containers import wait_for
from mailstack.world.internet import Internet
from mailstack.world.site import Site


def test_opendkim_testkey(alpha: Site, delta: Site) -> None:
    """opendkim-testkey with the running configuration: OK and secure, OK and not secure; through CNAMEs too."""
    for site, secure in ((alpha, "secure"), (delta, "not secure")):
        output = site.run("opendkim", "sh", "-c", "opendkim-testkey -x /etc/opendkim/opendkim.conf -vvv 2>&1").decode()
        keys = [one.domain for one in site.stack.keys.signing]
        assert len(keys) == 3
        for domain in keys:
            assert f"opendkim-testkey: key {domain}: OK\n" in output
            assert f"opendkim-testkey: key {domain} {secure}\n" in output
        assert f"{len(keys)} pass, 0 fail" in output


def test_a_wrong_key_is_found(world: Internet, alpha: Site) -> None:
    """The same tool fails when another key is published, so that its OK means something."""
    name = alpha.stack.keys.signers[0].name
    original = formats.rdata(next(one for one in records(alpha.stack) if one.name == name)).to_text()
    command = "opendkim-testkey -x /etc/opendkim/opendkim.conf -vvv 2>&1 || true"
    try:
        other = original.replace("MIIB", "MIIC", 1)
        world.names.set(name, "TXT", other)
        world.names.publish()
        wait_for(lambda: b"3 fail" in alpha.run("opendkim", "sh", "-c", command), "the wrong key was not noticed")
    finally:
        world.names.set(name, "TXT", original)
        world.names.publish()
        wait_for(lambda: b"3 pass" in alpha.run("opendkim", "sh", "-c", command), "the right key is not seen again")


SITES = ["alpha", "bravo", "charlie", "delta"]


@pytest.mark.parametrize("name", SITES)
def test_served_as_printed(name: str, world: Internet, request: pytest.FixtureRequest) -> None:
    """Every record is what Knot answers, the CNAMEs included."""
    site = request.getfixturevalue(name)
    for record in records(site.stack):
        (answer,) = [
            one for one in world.names.query(record.name, record.type).answer if one.rdtype.name == record.type
        ]
        assert formats.rdata(record) in answer


@pytest.mark.parametrize("name", SITES)
def test_named_checkzone(name: str, world: Internet, request: pytest.FixtureRequest) -> None:
    """Each domain's lines of the zone fragment load in named-checkzone as they are."""
    site = request.getfixturevalue(name)
    zone = site.stack.domains[0]
    ours = [one for one in records(site.stack) if one.widest == zone]
    head = f"@ 3600 IN SOA ns hostmaster 1 3600 600 86400 60\n@ IN NS ns\nns IN A {world.names.address}\n"
    fragment = formats.zone_fragment(formats.placed(ours, None))
    (world.zones / "check.zone").write_text(f"$ORIGIN {zone}.\n$TTL 60\n{head}{fragment}")
    output = world.names.machine.run("named-checkzone", "-i", "local", zone, "/zones/check.zone")
    assert output.rstrip().endswith("OK")


def test_command_prints_the_same_in_all_forms(alpha: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mailstack dns records: zone, values and JSON say the same, from the directory's .env."""
    monkeypatch.chdir(alpha.directory)
    for name, value in alpha.environment.items():
        monkeypatch.setenv(name, value)
    zone, values, as_json = (
        CliRunner().invoke(main, ["dns", "records", "--format", form], catch_exceptions=False)
        for form in ("zone", "values", "json")
    )
    rows = json.loads(as_json.stdout)
    printed = {tuple(line.split(" ", 4)) for line in zone.stdout.splitlines() if not line.startswith(";")}
    assert len(printed) == len(rows) == len(records(alpha.stack))
    for row in rows:
        data = dns.rdata.from_text("IN", row["type"], row["value"]) if row["type"] != "TXT" else None
        text = data.to_text() if data else " ".join(f'"{one}"' for one in row["strings"])
        assert (row["name"], str(formats.TTL), "IN", row["type"], text) in printed
        priority = f"  priority {row['priority']}\n" if row["type"] == "MX" else ""
        value = row.get("target", row["value"])
        said = f"name     {row['label']}\n  type     {row['type']}\n  ttl      {row['ttl']}\n{priority}"
        assert f"{said}  value    {value}\n" in values.stdout


def test_one_spf_record_where_host_is_domain(world: Internet, charlie: Site) -> None:
    """A host name that is a mail domain has one SPF record."""
    assert charlie.stack.hostname in charlie.stack.domains
    (value,) = [one for one in world.names.txt("charlie.example") if one.startswith(b"v=spf1")]
    assert value == f"v=spf1 ip4:{charlie.stack.public_addresses[0]} -all".encode()
