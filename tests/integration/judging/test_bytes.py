"""Byte tricks from outside: NUL, bare CR, bare LF, and commands that come too early."""

import itertools
from collections.abc import Iterable

import pytest

from mailstack.world.containers import Machine
from mailstack.world.site import Site, parse
from support import address_of, count, delivered, message, send, subject, subject_of


def converse(machine: Machine, host: str, *parts: bytes) -> list[int]:
    """Send parts one by one, after a reply each; the reply codes, until the server closes."""
    codes = []
    with machine.connect(host, 25, 60) as link:
        stream = link.makefile("rwb")
        for part in itertools.chain([b""], parts):
            if part:
                stream.write(part)
                stream.flush()
            code = _reply(stream)
            codes.append(code)
            if code in {0, 421}:
                break
    return codes


def _reply(stream: Iterable[bytes]) -> int:
    for line in stream:
        if line[3:4] != b"-":
            return int(line[:3])
    return 0


# A domain without SPF: it is no other reason to refuse, whoever the client is.
HELLO = (b"EHLO outsider.example\r\n", b"MAIL FROM:<someone@none.example>\r\n", b"RCPT TO:<user@bravo.example>\r\n")

# Where in a message, and the octets.
TRICKS = {
    "NUL in the body": (b"te\0xt\r\n", None),
    "NUL in a field": (None, b"X-Field: a\0b\r\n"),
    "NUL alone": (b"\0", None),
    "bare LF in the body": (b"one\ntwo\r\n", None),
    "bare LF in a field": (None, b"X-Field: a\nFrom: ceo@listed.example\r\n"),
    "bare CR in the body": (b"one\rtwo\r\n", None),
    "bare CR in a field": (None, b"X-Field: a\rFrom: ceo@listed.example\r\n"),
    "CR CR LF": (b"one\r\r\ntwo\r\n", None),
    "bare CR before the dot": (b"one\r.\r\n", None),
    "LF CR": (b"one\n\rtwo\r\n", None),
    "bare CR as a last line": (b"one\r", None),
}
REFUSED = {trick for trick in TRICKS if "NUL" in trick or ("LF" in trick and trick != "CR CR LF")}


@pytest.mark.parametrize("trick", TRICKS)
def test_trick(trick: str, outsider: Machine, bravo: Site) -> None:
    """NUL and bare LF are refused; a bare CR comes out as a blank, and is no line end for anybody."""
    body, extra = TRICKS[trick]
    about = subject(trick)
    head, _, rest = message("someone@listed.example", "user@bravo.example", about).partition(b"\r\n\r\n")
    content = head + b"\r\n" + (extra or b"") + b"\r\n" + (body or rest)
    codes = converse(outsider, address_of(bravo), *HELLO, b"DATA\r\n", content + b"\r\n.\r\n")
    assert codes[:-1] == [220, 250, 250, 250, 354]
    if trick in REFUSED:
        assert 500 <= codes[-1] < 600
        _marker(outsider, bravo)
        assert count(bravo, "user@bravo.example", about) == 0
        return
    assert codes[-1] == 250
    arrived = delivered(bravo, "user@bravo.example", about)
    assert b"\r" not in arrived
    assert parse(arrived).get_all("From") == ["someone@listed.example"]


def _marker(outsider: Machine, bravo: Site) -> None:
    about = subject("marker")
    content = message("someone@none.example", "user@bravo.example", about)
    assert send(outsider, address_of(bravo), "someone@none.example", "user@bravo.example", content).code == 250
    delivered(bravo, "user@bravo.example", about)


EARLY = {
    "behind HELO": (b"HELO outsider.example\r\nMAIL FROM:<someone@listed.example>\r\n",),
    "with DATA": (*HELLO, b"DATA\r\nSubject: early\r\n\r\ntext\r\n.\r\n"),
}


@pytest.mark.parametrize("case", EARLY)
def test_unauthorised_pipelining(case: str, outsider: Machine, bravo: Site) -> None:
    """A client that does not wait where it must is refused: 554 5.5.0, and nothing is delivered."""
    codes = converse(outsider, address_of(bravo), *EARLY[case])
    assert codes[-1] == 554
    _marker(outsider, bravo)
    assert count(bravo, "user@bravo.example", "early") == 0


def test_commands_behind_the_end_of_data(outsider: Machine, bravo: Site) -> None:
    """A message may be the first of a group of commands (RFC 2920 section 3.1): what follows is no part of it."""
    about = subject("first of a group")
    content = message("someone@listed.example", "user@bravo.example", about) + b".\r\n"
    codes = converse(outsider, address_of(bravo), *HELLO, b"DATA\r\n", content + b"MAIL FROM:<x@listed.example>\r\n")
    assert codes == [220, 250, 250, 250, 354, 250]
    assert b"MAIL FROM" not in delivered(bravo, "user@bravo.example", about)
    assert count(bravo, "user@bravo.example", about) == 1


ENDS = [
    b"\n.\n",
    b"\n.\r\n",
    b"\r\n.\n",
    b"\r.\r",
    b"\r.\r\n",
    b"\r\n.\r",
    b"\n.\r",
    b"\r.\n",
    b"\r\n\0.\r\n",
    b"\r\n.\0\r\n",
]


@pytest.mark.parametrize("end", ENDS)
def test_smuggling(end: bytes, outsider: Machine, bravo: Site) -> None:
    """No mix of CR, LF and NUL around a dot ends the data but CR LF . CR LF: one message at most."""
    assert_nothing_smuggled(outsider, end, bravo)


def assert_nothing_smuggled(client: Machine, end: bytes, bravo: Site) -> int:
    """A second message behind a doubtful end of the first is delivered to nobody; the last reply code."""
    about, smuggled = subject("outer"), subject("smuggled")
    # Without fields, as in the attack: it would have no author that anything could judge.
    second = f"{smuggled}\r\n".encode()
    inner = b"MAIL FROM:<admin@listed.example>\r\nRCPT TO:<user@bravo.example>\r\nDATA\r\n" + second
    outer = message("someone@listed.example", "user@bravo.example", about, body="text") + end + inner
    codes = converse(client, address_of(bravo), *HELLO, b"DATA\r\n", outer + b"\r\n.\r\n")
    _marker(client, bravo)
    holding = [one for one in bravo.mail("user@bravo.example") if smuggled.encode() in one]
    assert [subject_of(one) for one in holding] == ([about] if codes[-1] == 250 else [])
    return codes[-1]
