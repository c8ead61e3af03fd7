"""Containers beside a stack send their mail through it, as docs/own-additions.md shows."""

import docker

from integration.conftest import CHECKOUT, site
from integration.test_documents import examples
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
    site(
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
