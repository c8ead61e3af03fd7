"""Clients that come under the address of the bridge's gateway, as all do behind some proxies, are strangers."""

import ipaddress
import socket

import pytest

from integration.judging.test_bytes import assert_nothing_smuggled
from integration.judging.test_fail import assert_verified_not_signed
from integration.judging.test_local_domains import assert_dropped
from integration.mailbox_server import MailboxServer
from mailstack.world.site import Site
from place import EDGE
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
    with gateway.connect(address_of(bravo), 587) as link:
        assert link.recv(1024).startswith(b"521 5.7.1 ")


def test_forged_author_is_not_signed(gateway: Gateway, echo: Site, mailbox_server: MailboxServer) -> None:
    """Mail with an author of ours gets no signature, and is judged by the address that is seen."""
    arrived = assert_verified_not_signed("ceo@echo.example", gateway, echo, mailbox_server)
    spf = received_spf(arrived)
    assert spf.startswith("Softfail ")
    assert f"client-ip={gateway.address};" in spf


def test_local_sender(gateway: Gateway, bravo: Site) -> None:
    """A domain of ours in the envelope is dropped, and in From alone refused, as from everybody outside."""
    mailbox = "user@bravo.example"
    content = message(mailbox, mailbox, subject("as the gateway"))
    reply = send(gateway, address_of(bravo), mailbox, mailbox, content)
    assert_dropped(reply, content, bravo, mailbox, gateway, mailbox)
    reply = send(gateway, address_of(bravo), "someone@none.example", mailbox, content)
    assert (reply.code, reply.text.split(" domain ")[0]) == (550, "5.7.1 From uses our")


@pytest.mark.parametrize("client", ["gateway", "insider"])
@pytest.mark.parametrize("end", [b"\n.\r\n", b"\r\n.\n"])
def test_smuggling(client: str, end: bytes, request: pytest.FixtureRequest, bravo: Site) -> None:
    """The protection against smuggling leaves out neither the gateway nor a trusted client."""
    machine = request.getfixturevalue(client)
    assert assert_nothing_smuggled(machine, end, bravo) == 550
