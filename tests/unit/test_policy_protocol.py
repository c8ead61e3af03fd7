"""mailstack_auth.protocol and policyd: Postfix's policy delegation protocol, on bytes and on a socket."""

import io
import ipaddress
import socket
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailstack_auth import policyd, protocol, spf


def read(octets):
    return list(protocol.requests(io.BytesIO(octets)))


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
        (b"a=1\n\nb=2\n", [{"a": "1"}]),
        (b"a=" + b"x" * (protocol.MAX_LINE - 3) + b"\n\n", [{"a": "x" * (protocol.MAX_LINE - 3)}]),
    ],
)
def test_requests(octets, requests):
    """An empty line ends a request; only what was ended is a request; no octet of a value is lost."""
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
        b"a=1\nno attribute\n\n",
        b"a=1\n\nb=2\nGET / HTTP/1.0\r\n\r\n",
        b"a=1\nsender=cut",
        b"a=" + b"x" * (protocol.MAX_LINE - 2) + b"\n\n",
        b"x" * 3 * protocol.MAX_LINE,
        b"".join(b"a%d=1\n" % at for at in range(protocol.MAX_LINES + 1)) + b"\n",
    ],
    ids=["no equals sign", "another protocol", "cut", "too long", "endless", "too many"],
)
def test_no_requests(octets):
    """What is not the protocol ends the connection, and what was cut off is never taken for a request."""
    stream = protocol.requests(io.BytesIO(octets))
    with pytest.raises(protocol.ProtocolError):
        assert [one for one in stream if one != {"a": "1"}] == []


@pytest.mark.parametrize("action", ["DUNNO", "PREPEND X: y", '550 5.7.1 "no"'])
def test_reply(action):
    """A reply is one line and an empty one."""
    assert protocol.reply(action) == f"action={action}\n\n".encode()


@pytest.mark.parametrize("action", ["OK\n\naction=OK", "OK\r", "OK\0", "é", "\udcfc", "\x7f", "a\tb", "\u2028"])
def test_no_reply(action):
    """An action that would be more than one line of ASCII is never sent."""
    with pytest.raises(ValueError, match="not one printable line"):
        protocol.reply(action)


def test_header_is_written_once():
    """The first recipient's answer adds the header, further ones add none; a refusal holds for all of them."""
    decisions = policyd.Decisions()
    decisions.remember("1", "PREPEND Received-SPF: Pass")
    decisions.remember("2", "550 5.7.23 no")
    assert [decisions.again(one) for one in ("1", "1", "2", "3")] == ["DUNNO", "DUNNO", "550 5.7.23 no", None]


def test_decisions_are_bounded():
    """Of any number of messages the latest ones are remembered, and no more."""
    decisions = policyd.Decisions()
    for at in range(policyd.REMEMBERED + 10):
        decisions.remember(str(at), "PREPEND X: y")
    known = [at for at in range(policyd.REMEMBERED + 10) if decisions.again(str(at))]
    assert known == list(range(10, policyd.REMEMBERED + 10))


@pytest.fixture
def server(tmp_path):
    """The server on a socket, where a file of an earlier one lies; no client that is asked about needs DNS."""
    path = tmp_path / "s"
    path.write_text("left behind")
    policy = spf.Policy("mail.example.com", {}, (ipaddress.ip_network("192.0.2.0/24"),))
    with policyd.Server(path, policy) as one:
        thread = threading.Thread(target=one.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield one
        one.shutdown()
        thread.join(timeout=10)
        assert not thread.is_alive()


def ask(server, octets):
    """Everything that comes back on one connection, until the server closes it."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(server.server_address)
        connection.sendall(octets)
        connection.shutdown(socket.SHUT_WR)
        with connection.makefile("rb") as stream:
            return stream.read()


def message(instance, client="192.0.2.53"):
    text = f"request=smtpd_access_policy\ninstance={instance}\nclient_address={client}\nsender=a@example.org\n\n"
    return text.encode("utf-8", "surrogateescape")


SKIPPED = b"action=PREPEND X-SPF-Skipped: mail.example.com trusts 192.0.2.53 to hand on mail\n\n"
TROUBLE = f"action={policyd.TROUBLE}\n\n".encode()


def test_replies_come_in_order(server):
    """Requests that are sent at once get one reply each, in order; a message's header is added once."""
    sent = [message("a"), message("a"), b"request=healthcheck\n\n", message("b"), message(""), message("")]
    replies = [SKIPPED, b"action=DUNNO\n\n", b"action=OK\n\n", SKIPPED, SKIPPED, SKIPPED]
    assert ask(server, b"".join(sent)) == b"".join(replies)


def test_further_recipients_on_another_connection(server):
    """What was answered is known on every connection."""
    assert [ask(server, message("a")), ask(server, message("a"))] == [SKIPPED, b"action=DUNNO\n\n"]


@pytest.mark.parametrize("client", ["", "unknown", "192.0.2.256", "é", "\udcff"])
def test_no_answer_is_no_pass(server, client, capsys):
    """A request that cannot be judged makes the message wait, each time anew, and is one line of ASCII in the log."""
    assert ask(server, message("a", client) * 2) == TROUBLE * 2
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert all(line.isascii() and "action=DEFER_IF_PERMIT" in line for line in lines)


def test_broken_peer_is_cut_off(server):
    """A peer that does not speak the protocol gets the replies that it is due, and the others go on."""
    assert ask(server, b"request=healthcheck\n\nnonsense\n\nrequest=healthcheck\n\n") == b"action=OK\n\n"
    assert ask(server, b"request=healthcheck\n\n") == b"action=OK\n\n"


def test_socket_is_open_to_its_group_only(server, tmp_path):
    """Postfix connects through the group; others may not."""
    assert (tmp_path / "s").stat().st_mode & 0o777 == 0o770
