"""What leaves is what was signed: the next hop verifies, also one without 8BITMIME."""

import re
from collections.abc import Iterator

import pytest
from testcontainers.core.container import DockerContainer

from mailstack.render import image_name
from mailstack.world.containers import Machine, wait_for
from mailstack.world.internet import Internet
from mailstack.world.site import Site, parse
from support import address_of, delivered, dkim_results, independent_dkim, message, send, signed_part, subject


@pytest.fixture(scope="module")
def sink(world: Internet, alpha: Site) -> Iterator[DockerContainer]:
    """A server without 8BITMIME, smtp-sink(1), which is the MX of sink.example; it keeps what it gets in /tmp."""
    command = "smtp-sink -u postfix -8 -c -d /tmp/%M. 0.0.0.0:25 100"
    container = DockerContainer(image_name("postfix", alpha.stack.packages)).with_kwargs(
        network=world.edge.name, entrypoint=["sh", "-c", f"cd /tmp && exec {command}"]
    )
    with container:
        wait_for(
            lambda: container.exec(["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/25"]).exit_code == 0,
            "smtp-sink does not listen",
        )
        container.get_wrapped_container().reload()
        networks = container.get_wrapped_container().attrs["NetworkSettings"]["Networks"]
        address = networks[world.edge.name]["IPAddress"]
        world.names.set("sink.example", "A", address)
        world.names.set("sink.example", "MX", "10 sink.example.")
        world.names.publish()
        yield container


def kept(sink: DockerContainer, about: str) -> bytes:
    """Wait until the sink has the message; what it got, from our signature on."""

    def found() -> bytes | None:
        names = sink.exec(["sh", "-c", f"grep -l -- '{about}' /tmp/* 2>/dev/null | head -n 1"]).output.decode().split()
        return sink.exec(["cat", names[0]]).output if names else None

    return signed_part(wait_for(found, f"{about} did not reach the sink", 60))


BODIES = {
    "8-bit text": "Grüße, čau, 你好\r\n",
    "a line of 2,000 octets": "x" * 2000 + "\r\n",
    "a line of 2,000 octets, 8-bit": "ü" * 1000 + "\r\n",
    "dots and blanks": ".\r\n..\r\n.a\r\n \t \r\n\r\n\r\n",
    "no last line end": "text",
}
EXTRA = ["MIME-Version: 1.0", "Content-Type: text/plain; charset=utf-8", "Content-Transfer-Encoding: 8bit"]


@pytest.mark.parametrize("kind", BODIES)
@pytest.mark.parametrize("way", ["submission", "sendmail"])
def test_next_hop_verifies(
    kind: str, way: str, world: Internet, insider: Machine, alpha: Site, bravo: Site, sink: DockerContainer
) -> None:
    """The signature holds at bravo, and at a server without 8BITMIME, by dkimpy on the octets that it got."""
    about = subject(kind)
    for recipient in ("user@bravo.example", "user@sink.example"):
        content = message("user@alpha.example", recipient, about, extra=EXTRA, body=BODIES[kind])
        if way == "submission":
            reply = send(insider, address_of(alpha), "user@alpha.example", recipient, content, port=587)
            assert reply.code == 250
        else:
            alpha.sendmail(content.replace(b"\r\n", b"\n"), "-i", "-f", "user@alpha.example", recipient)
    assert [one.result for one in dkim_results(delivered(bravo, "user@bravo.example", about), bravo)] == ["pass"]
    assert independent_dkim(kept(sink, about), world.names)


def test_bounce_to_a_server_without_8bitmime(
    world: Internet, insider: Machine, alpha: Site, sink: DockerContainer
) -> None:
    """A bounce that holds 8-bit text of the original arrives as it was signed."""
    about = subject("bounce")
    content = message(
        "user@sink.example", "nobody@bravo.example", about, extra=[*EXTRA, "X-Name: Müller"], body=BODIES["8-bit text"]
    )
    reply = send(insider, address_of(alpha), "user@sink.example", "nobody@bravo.example", content, port=587)
    assert reply.code == 250
    bounce = kept(sink, about)
    assert "<MAILER-DAEMON@mail.alpha.example>" in parse(bounce)["From"]
    assert re.search(rb"[\x80-\xff]", bounce)
    assert b"d=mail.alpha.example" in bounce
    assert independent_dkim(bounce, world.names)


def test_bare_line_feeds_from_sendmail(world: Internet, alpha: Site, bravo: Site) -> None:
    """Sendmail takes Unix and mixed line ends; what leaves has CR LF throughout and verifies."""
    about = subject("mixed line ends")
    content = message("user@alpha.example", "user@bravo.example", about, body="one\r\ntwo\nthree\r\n\nfour\n")
    alpha.sendmail(content, "-i", "-f", "user@alpha.example", "user@bravo.example")
    arrived = delivered(bravo, "user@bravo.example", about)
    assert [one.result for one in dkim_results(arrived, bravo)] == ["pass"]
    assert independent_dkim(arrived, world.names)
