"""Forwarded mail while postsrsd is down."""

import json
from collections.abc import Iterator

import pytest

from integration.judging.test_srs import OUT, return_path, srs_address
from mailstack.world.containers import Machine, wait_for
from mailstack.world.site import Site
from support import address_of, flush_until_delivered, message, send, subject

# Its domain has no SPF record, so that the next server takes its mail from anywhere.
SENDER = "someone@none.example"


@pytest.fixture
def changing(delta: Site) -> Iterator[Site]:
    """Delta, which is afterwards as it was before."""
    original, override = dict(delta.environment), delta.directory / "compose.override.yaml"
    before = override.read_text()
    yield delta
    override.write_text(before)
    delta.build(original)
    delta.up()


@pytest.mark.parametrize("srs", ["true", "false"], ids=["until it is up", "until SRS is off"])
def test_forwarded_mail_waits(srs: str, outsider: Machine, changing: Site, bravo: Site) -> None:
    """Nothing leaves with another envelope sender, or is lost; bounces are told to come again, and other mail goes on.

    Where SRS is turned off, mail that waited for it leaves with its own sender.
    """
    delta = changing
    address = srs_address(delta, "user@bravo.example")
    override = delta.directory / "compose.override.yaml"
    before = override.read_text()
    # Nothing listens at its address. Where there is nothing at all, Postfix waits for the network's answer as well.
    override.write_text("services: {postsrsd: {entrypoint: [sleep, inf]}}\n")
    delta.compose("up", "--detach", "--no-deps", "postsrsd")
    about = subject("postsrsd is down")
    assert send(outsider, address_of(delta), SENDER, OUT, message(SENDER, OUT, about)).code == 250

    def waits() -> bool:
        found = [json.loads(line) for line in delta.run("postfix", "postqueue", "-j").splitlines()]
        return any(one["sender"] == SENDER and one["recipients"][0].get("delay_reason") for one in found)

    wait_for(waits, "the message does not wait", 60)
    refused = send(outsider, address_of(delta), "", address, message("x@listed.example", address, subject("bounce")))
    assert refused.code == 451
    for recipient, code in (("user@delta.unsigned.example", 250), ("nobody@delta.unsigned.example", 550)):
        content = message(SENDER, recipient, subject("other mail"))
        assert send(outsider, address_of(delta), SENDER, recipient, content).code == code
    override.write_text(before)
    delta.build({**delta.environment, "MAILSTACK_SRS": srs})
    delta.compose("up", "--detach", "--remove-orphans")
    delta.wait_healthy(60)
    arrived = flush_until_delivered(delta, bravo, "user@bravo.example", about)
    assert return_path(arrived) == (srs_address(delta, SENDER) if srs == "true" else SENDER)
