"""mailstack_auth.spf.policy_protocol: Postfix's policy delegation protocol on bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailstack_auth.spf import policy_protocol


def read(octets):
    """The requests in what arrives on a connection."""
    waiting = bytearray(octets)
    found = list(iter(lambda: policy_protocol.request(waiting), None))
    if waiting:
        raise policy_protocol.ProtocolError("cut off")
    return found


LONGEST = policy_protocol.MAX_REQUEST - len("a=")


@pytest.mark.parametrize(
    ("octets", "requests"),
    [
        (b"", []),
        (b"request=smtpd_access_policy\nsender=\n\n", [{"request": "smtpd_access_policy", "sender": ""}]),
        (b"a=1\n\na=2\nb=x=y\n\n", [{"a": "1"}, {"a": "2", "b": "x=y"}]),
        (b"a=1\na=2\n\n", [{"a": "2"}]),
        (b"sender=b\xfccher@example.org\n\n", [{"sender": "b\udcfccher@example.org"}]),
        ("sender=bücher@example.org\n\n".encode(), [{"sender": "bücher@example.org"}]),
        (b"a=\r\x00\x0b\n\n", [{"a": "\r\x00\x0b"}]),
        (b"a=" + b"x" * LONGEST + b"\n\n", [{"a": "x" * LONGEST}]),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_requests(octets, requests):
    """An empty line ends a request; no octet of a value is lost."""
    assert read(octets) == requests


NAMES = st.text(st.characters(codec="ascii", exclude_characters="=\n"), min_size=1, max_size=9)
VALUES = st.binary(max_size=99).filter(lambda value: b"\n" not in value)


@given(st.lists(st.dictionaries(NAMES, VALUES, min_size=1, max_size=9), max_size=5))
def test_requests_of_any_octets(sent):
    """Whatever octets the values consist of, the requests arrive as they were sent."""
    octets = b"".join(
        b"".join(name.encode() + b"=" + value + b"\n" for name, value in one.items()) + b"\n" for one in sent
    )
    received = [{name: value.encode("utf-8", "surrogateescape") for name, value in one.items()} for one in read(octets)]
    assert received == sent


@pytest.mark.parametrize(
    "octets",
    [
        b"no attribute\n\n",
        b"a=1\nno attribute\n\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"a=1\nsender=cut",
        b"a=1\n",
        b"\na=1\n\n",
        b"\n\n",
        b"a=" + b"x" * (LONGEST + 1) + b"\n\n",
        b"x" * 3 * policy_protocol.MAX_REQUEST,
        b"".join(b"a%d=1\n" % at for at in range(policy_protocol.MAX_ATTRIBUTES + 1)) + b"\n",
    ],
    ids=lambda octets: repr(octets)[:30],
)
def test_no_requests(octets):
    """What is not the protocol ends the connection, and what was cut off is never taken for a request."""
    with pytest.raises(policy_protocol.ProtocolError):
        read(octets)


@pytest.mark.parametrize("action", ["DUNNO", "PREPEND X: y", '550 5.7.1 "no"'])
def test_reply(action):
    """A reply is one line and an empty one."""
    assert policy_protocol.reply(action) == f"action={action}\n\n".encode()


@pytest.mark.parametrize("action", ["OK\n\naction=OK", "OK\r", "OK\0", "é", "\udcfc", "\x7f", "a\tb", "\u2028"])
def test_no_reply(action):
    """An action that would be more than one line of ASCII is never sent."""
    with pytest.raises(ValueError, match="not one printable line"):
        policy_protocol.reply(action)
