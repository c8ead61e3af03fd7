"""Services of compose.override.yaml, named as compose names them: a mailbox server and a milter beside the stack."""

import json
from collections.abc import Iterator

import pytest

from integration.conftest import INSIDER, site
from mailstack.world.containers import Machine, wait_for
from mailstack.world.internet import Internet
from mailstack.world.site import Site
from support import address_of, message, send, subject

LMTP = """
import socketserver, sys

class Session(socketserver.StreamRequestHandler):
    def say(self, text):
        self.wfile.write(text.encode() + b"\\r\\n")

    def handle(self):
        self.say("220 mailboxes")
        for line in self.rfile:
            verb = line.split()[0].upper()
            if verb == b"DATA":
                self.say("354 go on")
                for text in iter(self.rfile.readline, b".\\r\\n"):
                    sys.stdout.write(text.decode(errors="replace"))
                sys.stdout.flush()
            self.say("250 OK")

class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True

Server(("", 2424), Session).serve_forever()
"""
OVERRIDE = """
services:
  example:
    image: {image}
    command: ["python3", "-c", {program}]
    networks: [lookup]
  filter:
    image: {image}
    command: ["/usr/local/bin/milter", "inet:8894@0.0.0.0"]
    networks: [lookup]
"""


@pytest.fixture(scope="module")
def november(world: Internet) -> Iterator[Site]:
    november = site(
        world,
        "mail.november.example",
        "november.example",
        OVERRIDE.format(image=world.image, program=json.dumps(LMTP)),
        DELIVERY="lmtp:example:2424",
        EXTRA_MILTERS="inet:filter:8894",
        TRUSTED_NETWORKS=str(INSIDER),
    )
    yield november
    november.down()


def test_delivery_and_milter_by_name(november: Site, insider: Machine) -> None:
    """Mail reaches the mailbox server by its service's name, changed by the milter that was found by its own."""
    about = subject("by name")
    content = message("user@november.example", "user@november.example", about)
    reply = send(insider, address_of(november), "user@november.example", "user@november.example", content, port=587)
    assert reply.code == 250
    wait_for(lambda: any(about in line for line in november.log("example")), "it did not reach the mailbox server")
    assert any("Changed on the way." in line for line in november.log("example"))


def test_service_that_is_down(november: Site, insider: Machine) -> None:
    """While the named service is stopped mail waits; when it is back, under whatever address, mail goes there."""
    november.compose("rm", "--stop", "--force", "example")
    about = subject("waits")
    content = message("user@november.example", "user@november.example", about)
    send(insider, address_of(november), "user@november.example", "user@november.example", content, port=587)
    wait_for(
        lambda: any(
            "status=deferred" in line and f"example.{november.stack.neighbours}" in line
            for line in november.log("postfix")
        ),
        "Postfix did not try",
    )
    assert not any("status=bounced" in line for line in november.log("postfix"))
    november.compose("up", "--detach", "example")

    def arrived() -> bool:
        november.run("postfix", "postqueue", "-f")
        return any(about in line for line in november.log("example"))

    wait_for(arrived, "mail did not go on")


def test_other_names_are_asked_of_dns(november: Site, outsider: Machine) -> None:
    """A service that is called like a top-level domain takes nothing away from that."""
    sender = "someone@listed.example"
    about = subject("by DNS")
    content = message(sender, "user@november.example", about)
    reply = send(outsider, address_of(november), sender, "user@november.example", content)
    assert reply.code == 250
    wait_for(lambda: any(about in line for line in november.log("example")), "it did not reach the mailbox server")
