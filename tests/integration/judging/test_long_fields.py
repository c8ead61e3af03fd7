"""Header fields that are longer than Postfix keeps beside milters: whole, or refused with the reason."""

from collections.abc import Iterator
from email import message_from_bytes
from email.utils import getaddresses

import dkim
import pytest

from mailstack.world.containers import Machine, wait_for
from mailstack.world.internet import Internet
from mailstack.world.site import Site, parse
from support import (
    address_of,
    delivered,
    dkim_results,
    independent_dkim,
    message,
    published_key,
    send,
    subject,
)

LIMIT = 53_999
TOO_LONG = "552 5.3.4 header field {} is too long (limit: 53999 octets)"


@pytest.fixture(scope="module")
def key(world: Internet) -> bytes:
    """The key of signer.example whose selector is "long"."""
    return published_key(world.names, "long", "signer.example")


def field(name: str, length: int) -> str:
    """A field of so many octets, where a line end counts one, as in Postfix."""
    if name == "X-Long":
        return f"{name}: ".ljust(length, "x")
    item = "<{:08}@list.example>" if name == "References" else "<user{:06}@list.example>,"
    lines = [f"{name}:", *(f" {item.format(at)}" for at in range((length - 100) // (len(item) + 5)))]
    left = length - len("\n".join(lines))
    return "\r\n".join([*lines, f" ({'x' * (left - 4)})"])


def with_field(author: str, about: str, text: str) -> bytes:
    """A message with the field, and no other of its name."""
    content = message(author, "user@bravo.example", about)
    name = text.partition(":")[0].encode()
    kept = [line for line in content.split(b"\r\n") if not line.startswith(name + b":")]
    # Behind the subject, which a notice would not show behind 50,000 octets (postconf(5), bounce_size_limit).
    kept.insert(1 + [line.startswith(b"Subject:") for line in kept].index(True), text.encode())
    return b"\r\n".join(kept)


def signed(content: bytes, key: bytes, *names: bytes) -> bytes:
    covers = [b"from", b"subject", *names]
    made = dkim.sign(
        content, b"long", b"signer.example", key, canonicalize=(b"relaxed", b"simple"), include_headers=covers
    )
    return bytes(made) + content


def has(content: bytes, text: str) -> bool:
    """Whether a delivered message has the field as it was sent."""
    return f"\n{text}\n".replace("\r\n", "\n").encode() in content.replace(b"\r\n", b"\n")


@pytest.mark.parametrize("name", ["To", "Cc", "References", "X-Long"])
@pytest.mark.parametrize("length", [LIMIT, LIMIT + 1, 60_000, 60_001, 65_536, 102_401, 1_000_000])
def test_from_outside(name: str, length: int, outsider: Machine, bravo: Site, key: bytes) -> None:
    """A signed field is delivered whole and verifies, or the reply says which field is too long; never 4xx."""
    about, text = subject(f"{name} of {length}"), field(name, length)
    content = signed(with_field("someone@signer.example", about, text), key, name.lower().encode())
    reply = send(outsider, address_of(bravo), "someone@none.example", "user@bravo.example", content)
    if length > LIMIT:
        assert f"{reply.code} {reply.text}" == TOO_LONG.format(name)
        return
    assert reply.code == 250
    arrived = delivered(bravo, "user@bravo.example", about)
    assert [one.result for one in dkim_results(arrived, bravo)] == ["pass"]
    assert has(arrived, text)


@pytest.mark.parametrize("way", ["587", "25", "sendmail"])
@pytest.mark.parametrize("name", ["To", "X-Long"])
@pytest.mark.parametrize("length", [LIMIT, LIMIT + 1, 80_000])
def test_submitted(
    way: str, name: str, length: int, world: Internet, insider: Machine, alpha: Site, bravo: Site
) -> None:
    """Our own mail is signed and leaves whole, or it is refused; for sendmail by a notice with the reason."""
    about, sender = subject(f"{name} of {length} by {way}"), "user@alpha.example"
    text = field(name, length)
    content = with_field(sender, about, text)
    if way == "sendmail":
        alpha.sendmail(content.replace(b"\r\n", b"\n"), "-i", "-f", sender, "user@bravo.example")
    else:
        reply = send(insider, address_of(alpha), sender, "user@bravo.example", content, port=int(way))
        assert (reply.code == 250) == (length <= LIMIT)
        if length > LIMIT:
            assert f"{reply.code} {reply.text}" == TOO_LONG.format(name)
    if length <= LIMIT:
        arrived = delivered(bravo, "user@bravo.example", about)
        assert has(arrived, text)
        assert independent_dkim(arrived, world.names)
    elif way == "sendmail":
        wanted = {about.encode(), TOO_LONG.format(name).removeprefix("552 5.3.4 ").encode()}

        def notices() -> list[bytes]:
            return [one for one in alpha.mail(sender) if all(text in b" ".join(one.split()) for text in wanted)]

        wait_for(notices, f"no notice about {about}")


def test_many_short_addresses(alpha: Site, bravo: Site) -> None:
    """Sendmail completes an address without a domain, and leaves out none of thousands."""
    about = subject("short addresses")
    addresses = [*(f"a{at}@b.example" for at in range(3000)), "root"]
    text = "To: " + ",\r\n ".join(", ".join(addresses[at : at + 10]) for at in range(0, len(addresses), 10))
    content = with_field("user@alpha.example", about, text)
    alpha.sendmail(content.replace(b"\r\n", b"\n"), "-i", "-f", "user@alpha.example", "user@bravo.example")
    arrived = message_from_bytes(delivered(bravo, "user@bravo.example", about))
    found = [address for _, address in getaddresses(arrived.get_all("To", []))]
    assert found == [*addresses[:-1], "root@mail.alpha.example"]


def _parts() -> Iterator[tuple[str, str, str]]:
    inner = f"{field('To', 100_000)}\r\nSubject: inner\r\n\r\ntext\r\n"
    yield "message/rfc822", "Content-Type: message/rfc822", inner
    boundary = "--b\r\nContent-Type: text/plain\r\n{}\r\n\r\ntext\r\n--b--\r\n"
    yield "multipart", 'Content-Type: multipart/mixed; boundary="b"', boundary.format(field("X-Long", 100_000))


@pytest.mark.parametrize(("kind", "content_type", "body"), list(_parts()), ids=["message", "multipart"])
def test_in_a_part(kind: str, content_type: str, body: str, outsider: Machine, bravo: Site, key: bytes) -> None:
    """A long field in a part of the body is body: delivered as it was signed."""
    about = subject(f"long field in {kind}")
    extra = ["MIME-Version: 1.0", content_type]
    content = signed(message("someone@signer.example", "user@bravo.example", about, extra=extra, body=body), key)
    assert send(outsider, address_of(bravo), "someone@none.example", "user@bravo.example", content).code == 250
    arrived = delivered(bravo, "user@bravo.example", about)
    assert [one.result for one in dkim_results(arrived, bravo)] == ["pass"]
    assert arrived.replace(b"\r\n", b"\n").endswith(body.replace("\r\n", "\n").encode())


@pytest.mark.parametrize(("count", "taken"), [(800, True), (1500, False), (4000, False)])
def test_many_fields(count: int, taken: bool, outsider: Machine, bravo: Site, key: bytes) -> None:
    """A header of many long fields is whole, or is refused for good."""
    about = subject(f"{count} fields")
    extra = [f"X-{at}: {'x' * 900}" for at in range(count)]
    content = signed(message("someone@signer.example", "user@bravo.example", about, extra=extra), key, b"x-0", b"x-799")
    reply = send(outsider, address_of(bravo), "someone@none.example", "user@bravo.example", content)
    if not taken:
        assert 500 <= reply.code < 600
        return
    assert reply.code == 250
    arrived = delivered(bravo, "user@bravo.example", about)
    assert [one.result for one in dkim_results(arrived, bravo)] == ["pass"]
    assert sum(name.startswith("X-") and name[2:].isdigit() for name in parse(arrived)) == count
