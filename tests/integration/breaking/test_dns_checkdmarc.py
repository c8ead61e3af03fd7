"""mailstack dns check and checkdmarc, each asked about the same domains at the same servers."""

from collections.abc import Iterator, Mapping
from typing import Any

import checkdmarc.dmarc
import checkdmarc.spf
import pytest
from dns.nameserver import Do53Nameserver

from integration.dns_servers import Published, running
from integration.spf_dmarc_domains import ADDRESS, BOTH, DOMAINS, SHARED, Kind
from mailstack.dns import ask
from mailstack.dns.ask import Look
from mailstack.dns.check import domain
from mailstack.dns.findings import Report
from unit.dns_site import NS1, NS3
from unit.dns_world import RESOLVER

ZONES = {
    "example": {"ns1.example": NS1},
    "partner.example": {"ns1.partner.example": NS3},
}


@pytest.fixture(scope="module")
def port(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Servers with all the domains."""
    with running(tmp_path_factory.mktemp("dns"), ZONES) as servers:
        world = Published(servers, ZONES)
        for name, one in DOMAINS.items():
            rows = {
                f"{name}.example A": [ADDRESS],
                f"{name}.example TXT": one.spf,
                f"_dmarc.{name}.example TXT": one.dmarc,
            }
            for key, values in (rows | one.more).items():
                world.publish(*key.split(" "), *values)
        for key, values in SHARED.items():
            world.publish(*key.split(" "), *values)
        with world.served() as found:
            yield found


@pytest.fixture(scope="module")
def by_the_check(port: int) -> Mapping[str, Report]:
    async def work(look: Look) -> list[Report]:
        # One after the other, so that no question waits for the answers to all others.
        return [await domain.check(look, f"{name}.example") for name in DOMAINS]

    return dict(zip(DOMAINS, ask.look(work, [RESOLVER], port, seconds=100), strict=True))


@pytest.fixture(scope="module")
def by_checkdmarc(port: int) -> Mapping[str, Mapping[Kind, Mapping[str, Any]]]:
    options = {"nameservers": [Do53Nameserver(RESOLVER, port)], "timeout": 10, "retries": 2}
    return {
        name: {
            "spf": checkdmarc.spf.check_spf(f"{name}.example", **options),
            "dmarc": checkdmarc.dmarc.check_dmarc(f"{name}.example", **options),
        }
        for name in DOMAINS
    }


def test_a_table_of_domains() -> None:
    """There are as many as the two programs are to be compared by."""
    assert len(DOMAINS) >= 40


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("name", DOMAINS)
def test_domains(
    by_the_check: Mapping[str, Report],
    by_checkdmarc: Mapping[str, Mapping[Kind, Mapping[str, Any]]],
    name: str,
    kind: Kind,
) -> None:
    """The check says what is right, and checkdmarc says the same, or it is said why not."""
    row = DOMAINS[name]
    owner = f"{name}.example" if kind == "spf" else f"_dmarc.{name}.example"
    ours = [one for one in by_the_check[name].findings if one.name == owner and one.type in {"TXT", "CNAME"}]
    theirs = by_checkdmarc[name][kind]
    right = kind not in row.faults
    assert ours
    assert any(one.level == "fault" for one in ours) != right, ours
    assert theirs["valid"] == (right != (kind in row.unlike)), theirs
