"""mailstack.stack.services: no service may use all of the host."""

import re

import pytest
import yaml
from sites import stack

from mailstack.render.compose import site
from mailstack.services import ALL_NAMES, SERVICE_NAMES
from mailstack.services.model import Limits
from mailstack.stack.services import services as running


def limits(**settings: str) -> dict[str, Limits]:
    return {one.name: one.limits for one in running(stack(**settings))}


@pytest.fixture(scope="module")
def services() -> dict:
    forwarding = stack(aliases="a@example.com=x@example.net")
    return yaml.safe_load(site(forwarding)["compose.yaml"].content)["services"]


@pytest.mark.parametrize("service", ALL_NAMES)
def test_every_service_has_limits(services: dict, service: str) -> None:
    """Memory, processes, shared memory and each tmpfs; what lies in a tmpfs leaves most of the memory to the processes."""
    one, mebibytes = services[service], re.compile(r"(?:.*[:,]size=)?(\d+)m")
    assert one["pids_limit"] <= 1024
    memory = int(mebibytes.fullmatch(str(one["mem_limit"]))[1])
    files = [int(mebibytes.fullmatch(size)[1]) for size in [*one.get("tmpfs", []), one["shm_size"]]]
    assert 2 * sum(files) < memory <= 2048


def test_proxies_have_room() -> None:
    """Ports for proxies are as many sessions more."""
    without, proxied = limits()["postfix"], limits(proxy_networks="192.0.2.10")["postfix"]
    assert (proxied.memory, proxied.processes) == (2 * without.memory, 2 * without.processes)


def test_tables_have_room() -> None:
    """Postfix's processes hold its tables, so its memory grows with them, and nobody else's."""
    few, many = (
        limits(domains=",".join(f"d{at}.example" for at in range(count)), mailboxes="a@d0.example")
        for count in (1, 1000)
    )
    assert many["postfix"].memory - few["postfix"].memory > 200
    assert {one: many[one] for one in SERVICE_NAMES[1:]} == {one: few[one] for one in SERVICE_NAMES[1:]}


@pytest.mark.parametrize("listed", ["mailboxes", "aliases"])
@pytest.mark.parametrize(("delivery", "rows"), [("maildir", 2), ("lmtp:192.0.2.24", 1)])
def test_an_address_and_its_junk(listed: str, delivery: str, rows: int) -> None:
    """With Maildirs each address has a row more, by which its Junk is reached."""
    count = 5000
    addresses = [f"a{at}@example.com" for at in range(count)]
    target = "" if listed == "mailboxes" else "=user@example.com"
    given = {listed: ",".join(f"{one}{target}" for one in addresses)}
    many, few = (limits(delivery=delivery, **changes)["postfix"].memory for changes in (given, {}))
    # 200 octets in each of 300 processes.
    assert abs(many - few - rows * count * 200 * 300 // 2**20) <= 1


def test_domains_whose_mailbox_server_is_asked() -> None:
    """Each stands in one table more."""
    many, few = (
        limits(domains=",".join(f"d{at}.example" for at in range(count)), mailboxes="", delivery="lmtp:192.0.2.24")
        for count in (5001, 1)
    )
    assert abs(many["postfix"].memory - few["postfix"].memory - 5 * 5000 * 200 * 300 // 2**20) <= 1
