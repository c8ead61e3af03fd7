"""A milter of the site's own, which changes every message: after the verdict for what comes in, before OpenDKIM signs."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import docker
import pytest

from integration.conftest import INSIDER, site
from mailstack.cli.status import status_text
from mailstack.world.containers import Machine
from mailstack.world.internet import Internet
from mailstack.world.site import Site, parse
from place import EDGE
from support import (
    address_of,
    delivered,
    dkim_results,
    independent_dkim,
    message,
    own_results,
    send,
    signed_part,
    subject,
)

PORT = 8894
CHANGED = b"Changed on the way."


@pytest.fixture(scope="module")
def milter(world: Internet) -> Iterator[Machine]:
    command = ["/usr/local/bin/milter", f"inet:{PORT}@0.0.0.0"]
    with world.edge.serving("milter", world.image, EDGE[4], PORT, command=command) as machine:
        yield machine


@pytest.fixture(scope="module")
def hotel(world: Internet, milter: Machine) -> Site:
    return site(
        world,
        "mail.hotel.example",
        "hotel.example",
        MAILBOXES="user@hotel.example",
        TRUSTED_NETWORKS=str(INSIDER),
        EXTRA_MILTERS=f"inet:{milter.address}:{PORT}",
    )


def saw(content: bytes) -> set[str]:
    """The fields that the milter saw."""
    (names,) = parse(content).get_all("X-Saw")
    return set("".join(names.split()).split(","))


@pytest.mark.parametrize("way", ["587", "25", "sendmail"])
def test_what_leaves_is_changed_and_then_signed(
    hotel: Site, bravo: Site, insider: Machine, world: Internet, way: str
) -> None:
    """Whichever way mail of ours comes in, the milter sees it unsigned, and its change does not break the signature."""
    about = subject(f"milter, {way}")
    content = message("user@hotel.example", "user@bravo.example", about)
    if way == "sendmail":
        hotel.sendmail(content.replace(b"\r\n", b"\n"), "-t", "-f", "user@hotel.example")
    else:
        reply = send(insider, address_of(hotel), "user@hotel.example", "user@bravo.example", content, port=int(way))
        assert reply.code == 250
    arrived = delivered(bravo, "user@bravo.example", about)
    assert CHANGED in arrived
    assert "dkim-signature" not in saw(arrived)
    assert [(one.result, one.properties[0].value) for one in dkim_results(arrived, bravo)] == [
        ("pass", "hotel.example")
    ]
    assert independent_dkim(signed_part(arrived), world.names)


def test_what_comes_in_is_verified_and_then_changed(
    hotel: Site, bravo: Site, insider: Machine, world: Internet
) -> None:
    """The signature is verified on what was sent; the milter sees the result, and SPF's."""
    about = subject("milter, inbound")
    reply = send(
        insider,
        address_of(bravo),
        "user@bravo.example",
        "user@hotel.example",
        message("user@bravo.example", "user@hotel.example", about),
        port=587,
    )
    assert reply.code == 250
    arrived = delivered(hotel, "user@hotel.example", about)
    assert CHANGED in arrived
    assert [one.result for one in dkim_results(arrived, hotel)] == ["pass"]
    assert not independent_dkim(signed_part(arrived), world.names)
    assert [one.result for one in own_results(arrived, hotel)] == ["pass", "pass", "pass"]
    assert {"authentication-results", "received-spf", "dkim-signature"} <= saw(arrived)
    # Not OpenDKIM's, under the id that nobody else may know.
    assert parse(arrived).get_all("X-Saw-Results") == ["mail.hotel.example"]


def how_it_is(site: Site) -> tuple[bool, str]:
    """Whether status finds all well, and what it says of the milter."""
    data = site.status()
    (said,) = data["milters"]
    assert said["milter"] in status_text(data)
    return data["well"], said["fault"]


def test_milter_that_is_down(
    hotel: Site, milter: Machine, outsider: Machine, insider: Machine, engine_client: docker.DockerClient
) -> None:
    """Nothing passes by a milter that does not answer, neither in nor out; status names it, and what is wrong."""
    assert how_it_is(hotel) == (True, "")
    engine_client.api.pause(milter.id)
    try:
        assert how_it_is(hotel) == (False, "no answer within 3 seconds")
    finally:
        engine_client.api.unpause(milter.id)
    assert how_it_is(hotel) == (True, "")
    milter.remove()
    well, said = how_it_is(hotel)
    assert not well
    assert said

    def code(machine: Machine, sender: str, recipient: str) -> int:
        content = message(sender, recipient, subject("no milter"))
        return send(machine, address_of(hotel), sender, recipient, content).code

    # Both at once: each waits for the milter.
    with ThreadPoolExecutor(2) as pool:
        ways = (
            pool.submit(code, outsider, "someone@listed.example", "user@hotel.example"),
            pool.submit(code, insider, "user@hotel.example", "user@bravo.example"),
        )
        assert all(400 <= one.result() < 500 for one in ways)
