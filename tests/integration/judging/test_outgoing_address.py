"""The address of the host that mail leaves from, with an Internet beyond the host, in a network namespace of its own."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailstack.world.containers import wait_for
from mailstack.world.site import Site
from place import BASE_IMAGE, INNER, NAME
from support import message, subject

# The world's stacks have the first ones.
NETWORKS = list(INNER.subnets(new_prefix=27))
HERE, SUBNET = NETWORKS[-1], NETWORKS[-2]
# The host's two addresses, and a server elsewhere.
FIRST, SECOND, SERVER = HERE[1], HERE[2], HERE[3]
SENDER = "user@xray.example"
# Writes the address that each message comes from.
PROGRAM = """
import socketserver, sys

class Session(socketserver.StreamRequestHandler):
    def say(self, text):
        self.wfile.write(text.encode() + b"\\r\\n")

    def handle(self):
        self.say("220 server")
        for line in self.rfile:
            verb = line.split()[0].upper()
            if verb == b"DATA":
                self.say("354 go on")
                text = b"".join(iter(self.rfile.readline, b".\\r\\n"))
                print(self.client_address[0], text.partition(b"Subject: ")[2].splitlines()[0].decode(), flush=True)
            self.say("250 OK")

server = socketserver.ThreadingTCPServer((sys.argv[1], 25), Session)
print("ready", flush=True)
server.serve_forever()
"""


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


@pytest.fixture
def received(engine: None, tmp_path: Path) -> Iterator[Path]:
    """What a server gets that is reached through the host, which has two addresses on the way to it."""
    log = tmp_path / "received"
    inside, outside = f"in-{NAME[-8:]}", f"out-{NAME[-8:]}"
    # A run that was killed has left its own.
    subprocess.run(["ip", "netns", "delete", NAME], check=False, capture_output=True)
    ip("netns", "add", NAME)
    try:
        ip("link", "add", outside, "type", "veth", "peer", "name", inside, "netns", NAME)
        for address in (FIRST, SECOND):
            ip("address", "add", f"{address}/{HERE.prefixlen}", "dev", outside)
        ip("link", "set", outside, "up")
        ip("-n", NAME, "address", "add", f"{SERVER}/{HERE.prefixlen}", "dev", inside)
        ip("-n", NAME, "link", "set", inside, "up")
        command = ["ip", "netns", "exec", NAME, sys.executable, "-c", PROGRAM, str(SERVER)]
        with log.open("w") as file, subprocess.Popen(command, stdout=file) as process:
            try:
                wait_for(lambda: log.read_text() == "ready\n", "the server does not start")
                yield log
            finally:
                process.kill()
    finally:
        # With its end of the connection, which ends the other one.
        ip("netns", "delete", NAME)


def test_mail_leaves_by_the_chosen_address(received: Path, tmp_path: Path) -> None:
    """Of two published addresses mail leaves by the chosen one; after a change of the setting by the other."""
    settings = {
        "HOSTNAME": "mail.xray.example",
        "DOMAINS": "xray.example",
        "MAILBOXES": SENDER,
        "RELAY_HOST": str(SERVER),
        "PUBLISH_ADDRESSES": f"{FIRST},{SECOND}",
        "OUTGOING_ADDRESS": str(SECOND),
        "PORT_SMTP": "2525",
        "SUBNET": str(SUBNET),
        "RESOLVER_FORWARDERS": str(SERVER),
        "BASE_IMAGE": BASE_IMAGE,
    }
    environment = {f"MAILSTACK_{name}": value for name, value in settings.items()}
    xray = Site(tmp_path / "xray", environment, place="services: {}\n", override="", prefix=f"{NAME}-")
    try:
        for chosen in (SECOND, FIRST):
            xray.build(environment | {"MAILSTACK_OUTGOING_ADDRESS": str(chosen)})
            xray.up()
            about = subject(f"from {chosen}")
            xray.sendmail(message(SENDER, "user@elsewhere.example", about), "-t")
            wait_for(lambda about=about: about in received.read_text(), "no mail has left")
            assert f"{chosen} {about}" in received.read_text().splitlines()
    finally:
        xray.down()
