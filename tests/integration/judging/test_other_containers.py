"""Containers beside a stack send their mail through it, as docs/own-additions.md shows."""

import ipaddress
import subprocess
from pathlib import Path

import docker
import yaml

from integration.conftest import CHECKOUT, site
from integration.judging.test_documents import examples
from mailstack.world.internet import Internet
from mailstack.world.site import Site
from support import delivered, dkim_results, message, subject

(OVERRIDE,) = [one.text for one in examples(CHECKOUT / "docs/own-additions.md") if one.file and "networks:" in one.text]
NETWORK = "172.30.249.0/28"
SEND = """
import smtplib, sys
with smtplib.SMTP("postfix", 587) as client:
    client.sendmail(*sys.argv[1:3], sys.argv[3].encode())
"""


def test_mail_from_another_container(world: Internet, bravo: Site, engine_client: docker.DockerClient) -> None:
    """One on the shared network needs no password, and what it sends is signed."""
    assert NETWORK in OVERRIDE
    quebec = site(
        world,
        "mail.quebec.example",
        "quebec.example",
        OVERRIDE,
        MAILBOXES="user@quebec.example",
        TRUSTED_NETWORKS=NETWORK,
    )
    sender, recipient, about = "app@quebec.example", "user@bravo.example", subject("container")
    content = message(sender, recipient, about).decode()
    command = ["python3", "-c", SEND, sender, recipient, content]
    engine_client.containers.run(world.image, command, network="apps", remove=True)
    arrived = delivered(bravo, recipient, about)
    found = [(one.result, one.properties[0].value) for one in dkim_results(arrived, bravo)]
    assert found == [("pass", "quebec.example")]
    quebec.down()


def test_strangers_do_not_come_by_that_network(world: Internet, tmp_path: Path) -> None:
    """What the engine hands on to published ports has the address of the network with the way out, which is no other."""
    service = {"image": world.image, "command": ["cat", "/proc/net/route"], "networks": ["edge"]}
    project = {"name": "mail-quebec-example", "services": {"postfix": service}, "networks": {"edge": {}}}
    (tmp_path / "compose.yaml").write_text(yaml.safe_dump(project))
    (tmp_path / "compose.override.yaml").write_text(OVERRIDE)
    try:
        shown = subprocess.run(
            ["docker", "compose", "run", "--rm", "postfix"], cwd=tmp_path, capture_output=True, text=True, check=True
        )
    finally:
        subprocess.run(["docker", "compose", "down"], cwd=tmp_path, check=True, capture_output=True)
    routes = [line.split() for line in shown.stdout.splitlines()]
    # In the order of the machine (proc(5)).
    (gateway,) = [ipaddress.IPv4Address(bytes.fromhex(one[2])[::-1]) for one in routes if one[1] == "00000000"]
    assert gateway not in ipaddress.IPv4Network(NETWORK)
