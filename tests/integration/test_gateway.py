"""Clients that come under the address of the bridge's gateway, as all do behind some proxies, are strangers."""

import ipaddress
import socket

import pytest

from integration.test_bytes import assert_nothing_smuggled
from integration.test_fail import assert_verified_not_signed
from integration.test_relay_control import assert_discarded
from mailstack.world.internet import EDGE
from mailstack.world.site import Site
from support import address_of, message, received_spf, send, subject


class Gateway:
    """This host, whose connections into the edge network come from the gateway's address there."""

    address: ipaddress.IPv4Address = EDGE[1]

    def connect(self, host: str, port: int, seconds: float = 30.0) -> socket.socket:
        return socket.create_connection((host, port), timeout=seconds)


@pytest.fixture
def gateway(world) -> Gateway:
    return Gateway()


def test_no_relaying(gateway: Gateway, bravo: Site) -> None:
    """It may send to nobody elsewhere, with whatever envelope sender, and not use the submission port."""
    for sender in ("user@bravo.example", "someone@listed.example", ""):
        content = message("user@bravo.example", "x@listed.example", subject("relay"))
        reply = send(gateway, address_of(bravo), sender, "x@listed.example", content)
        assert (reply.code, reply.text.split()[0]) == (554, "5.7.1")
    reply = send(gateway, address_of(bravo), "user@bravo.example", "user@bravo.example", content, port=587)
    assert (reply.code, reply.text.split()[0]) == (554, "5.7.1")


def test_forged_author_is_not_signed(gateway: Gateway, bravo: Site) -> None:
    """Mail with an author of ours gets no signature, is judged by the address that is seen, and says dkim=none."""
    spf = received_spf(assert_verified_not_signed("ceo@bravo.example", gateway, bravo))
    assert spf.startswith("Fail ")
    assert f"client-ip={gateway.address};" in spf


def test_local_sender(gateway: Gateway, bravo: Site) -> None:
    """An envelope sender of ours is dropped, as from everybody outside."""
    assert_discarded("user@bravo.example", gateway, bravo, "user@bravo.example")


@pytest.mark.parametrize("client", ["gateway", "insider"])
@pytest.mark.parametrize("end", [b"\n.\r\n", b"\r\n.\n"])
def test_smuggling(client: str, end: bytes, request: pytest.FixtureRequest, bravo: Site) -> None:
    """The protection against smuggling leaves out neither the gateway nor a trusted client."""
    machine = request.getfixturevalue(client)
    assert assert_nothing_smuggled(machine, end, bravo) == 550
