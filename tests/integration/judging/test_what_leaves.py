"""What leaves is what was signed: the next hop verifies, also one without 8BITMIME."""

import re
from collections.abc import Collection, Iterator

import pytest
from testcontainers.core.container import DockerContainer

import from_fields
from integration.conftest import INSIDER, site
from mailstack.render.contexts import image_name
from mailstack.world.containers import Machine, wait_for
from mailstack.world.internet import Internet
from mailstack.world.site import Site, parse
from support import (
    address_of,
    delivered,
    dkim_results,
    independent_dkim,
    message,
    properties,
    send,
    signed_part,
    subject,
    subject_of,
)


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


def test_every_genuine_author_is_signed(insider: Machine, alpha: Site, bravo: Site) -> None:
    """However From is written: it leaves with the signature of its domain, or the reply says what to write."""
    fields = (*from_fields.GENUINE, *from_fields.LENIENT)
    sent: dict[str, str] = {}
    for written in fields:
        author, about = written.replace("author.example", "alpha.example").replace("AUTHOR.", "ALPHA."), subject("from")
        content = message(author, "user@bravo.example", about, extra=["Sender: user@alpha.example"])
        reply = send(insider, address_of(alpha), "user@alpha.example", "user@bravo.example", content, port=587)
        if "alpha.example." in author:
            expected = "5.6.0 not signed: the domain in From is not in its DNS form; write alpha.example"
            assert (reply.code, reply.text) == (550, expected)
        else:
            assert reply.code == 250, (author, reply)
            sent[about] = author
    mail = wait_for(lambda: _all_of(sent, bravo), "not every message arrived", 60)
    for about, author in sent.items():
        signed_by = [properties(one)["header.d"] for one in dkim_results(mail[about], bravo) if one.result == "pass"]
        assert signed_by == ["alpha.example"], author


def _all_of(subjects: Collection[str], site: Site) -> dict[str, bytes] | None:
    found = {subject_of(one): one for one in site.mail("user@bravo.example")}
    return found if found.keys() >= set(subjects) else None


# What From says, and which spelling of the domain the reply asks for.
SPELLINGS = {
    "U-labels": ("user@b\u00fccher.example", "xn--bcher-kva.example"),
    "U-labels in capitals": ("<user@B\u00dcCHER.example>", "xn--bcher-kva.example"),
    "U-labels of a sub-domain": ("Jane <user@news.b\u00fccher.example>", "news.xn--bcher-kva.example"),
    "U-labels with a final dot": ("user@b\u00fccher.example.", "xn--bcher-kva.example"),
    "an encoded word": ("user@=?utf-8?q?b=C3=BCcher?=.example", ""),
}


@pytest.fixture(scope="module")
def umlaut(world: Internet) -> Site:
    """A site with an internationalised domain."""
    return site(
        world,
        "mail.umlaut.example",
        "xn--bcher-kva.example",
        MAILBOXES="user@xn--bcher-kva.example",
        TRUSTED_NETWORKS=str(INSIDER),
    )


@pytest.mark.parametrize(("author", "asked"), SPELLINGS.values(), ids=SPELLINGS.keys())
def test_internationalised_domain(author: str, asked: str, insider: Machine, umlaut: Site) -> None:
    """OpenDKIM's table has A-labels; in other letters a domain of ours is refused, not sent without a signature."""
    content = message(author, "user@bravo.example", subject("from"))
    sender = "user@xn--bcher-kva.example"
    reply = send(insider, address_of(umlaut), sender, "user@bravo.example", content, port=587)
    assert (reply.code, reply.text.partition(":")[0]) == (550, "5.6.0 not signed")
    assert reply.text.endswith(f"write {asked}" if asked else "write one as in jane@example.com")


def test_internationalised_domain_in_a_labels(insider: Machine, umlaut: Site, bravo: Site) -> None:
    """In A-labels it leaves signed, in capitals too, and from a sub-domain."""
    for author in ("user@xn--bcher-kva.example", "USER@XN--BCHER-KVA.EXAMPLE", "user@news.xn--bcher-kva.example"):
        about = subject("from")
        content = message(author, "user@bravo.example", about)
        reply = send(insider, address_of(umlaut), "user@xn--bcher-kva.example", "user@bravo.example", content, port=587)
        assert reply.code == 250, (author, reply)
        (result,) = dkim_results(delivered(bravo, "user@bravo.example", about), bravo)
        assert (result.result, properties(result)["header.d"]) == ("pass", "xn--bcher-kva.example"), author
