"""mailstack_auth.milter.session: the protocol, version 6, as Postfix speaks it (libmilter's mfdef.h)."""

import asyncio
import contextlib
import re
import socket
import struct
from functools import partial

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mailstack_auth.header.fields import Field
from mailstack_auth.milter import session
from mailstack_auth.milter.message import MAX_HEADER_OCTETS, Delete, Insert, Verdict
from mailstack_auth.runtime.serving import Connection, Serving, begin_tasks_at_once

# What Postfix 3.10 offers: all actions and all steps that libmilter's version 6 knows (milter8.c).
OFFER = struct.pack("!III", 6, 0x1FF, 0x1FFFFF)
# ADDHDRS, CHGHDRS, ADDRCPT, DELRCPT; NOUNKNOWN, NODATA, HDR_LEADSPC, and NR_ of HDR, CONN, HELO, MAIL, RCPT, EOH, BODY.
ACTIONS, STEPS = 0x01 | 0x10 | 0x04 | 0x08, 0x000300 | 0x100000 | 0x000080 | 0x00F000 | 0x0C0000
ACCEPT, DISCARD = b"a", b"d"


class Taken(bytearray):
    """A body."""

    add = bytearray.extend


class Judge:
    """Takes down the messages and gives the verdicts that it was given."""

    def __init__(self, *verdicts, body=True):
        self.messages = []
        self.asked = 0
        self._verdicts = list(verdicts)
        self._body = body
        self.connection = None
        self.ended = []

    def left(self, session):
        self.ended.append((session, len(self.messages)))

    def body(self, message):
        self.asked += 1
        return Taken() if self._body else None

    async def judge(self, message):
        if self.connection:
            assert self.connection.in_hand
        self.messages.append(message)
        return self._verdicts.pop(0) if self._verdicts else Verdict()


def packet(command, data=b""):
    return struct.pack("!I", len(data) + 1) + command + data


def replies(octets):
    """What the milter has written, as packets."""
    found = []
    while octets:
        (length,) = struct.unpack_from("!I", octets)
        assert len(octets) >= 4 + length
        found.append(octets[4 : 4 + length])
        octets = octets[4 + length :]
    return found


# The peer's fault, not an error of ours.
PEER = "closing connection: (?!.*Error)"


async def talk(octets, judge, *, end=True):
    """What comes back on a connection for these octets, and how it ended: with an error or without."""
    lines = []
    _, postfix, to_milter = await connected(judge, lines)
    to_milter.write(octets)
    if end:
        to_milter.write_eof()
    with contextlib.suppress(ConnectionError):
        found = await postfix.read()
    to_milter.close()
    return found, "".join(lines) or None


async def connected(judge, lines):
    """A connection to a milter as the service holds it, and Postfix's two ends."""
    ours, theirs = socket.socketpair()
    serving, loop = Serving(lines.append, 128 * 1024), asyncio.get_running_loop()
    begin_tasks_at_once(loop)
    _, connection = await loop.connect_accepted_socket(
        lambda: Connection(serving, partial(session.Session, judge=judge)), ours
    )
    return connection, *await asyncio.open_connection(sock=theirs)


def said(octets, judge=None, **options):
    """The replies to what Postfix says, which the milter understands."""
    found, error = asyncio.run(asyncio.wait_for(talk(octets, judge or Judge(), **options), 10))
    assert error is None, error
    return replies(found)


def refused(octets, judge=None):
    """The replies to what no Postfix says; then the milter ends the connection, though the other side does not."""
    found, error = asyncio.run(asyncio.wait_for(talk(octets, judge or Judge(), end=False), 10))
    assert re.match(PEER, error), error
    return replies(found)


def connect(address=b"192.0.2.1", family=b"4", name=b"client.example"):
    return packet(b"C", name + b"\0" + family + struct.pack("!H", 25) + address + b"\0")


def macros(step, **values):
    pairs = [text for name, value in values.items() for text in (name.encode(), value)]
    return packet(b"D", step + b"".join(one + b"\0" for one in pairs))


def header(name, value):
    return packet(b"L", name + b"\0" + value + b"\0")


NEGOTIATION = packet(b"O", OFFER)
HELLO = connect() + packet(b"H", b"client.example\0")
START = NEGOTIATION + HELLO
# What Postfix 3.10.13 says of an envelope sender (milter_mail_macros), and what it was sent.
SENDERS = {
    "a comment": (b"<a@b.example(x)>", b"a@b.example"),
    "half a comment": (b"<(a@b.example>", b""),
    "the address in quotes": (b'<"a@b.example">', b"a@b.example"),
    "a tab": (b"<a@b\t.example>", b"a@b.example"),
    "a bang path": (b"<b.example!a>", b"a@b.example"),
}


MAIL = packet(b"M", b"<a@b.example>\0SIZE=100\0")
FROM = header(b"From", b" a@b.example")
END_OF_HEADER, END = packet(b"N"), packet(b"E")
MESSAGE = MAIL + FROM + END_OF_HEADER + packet(b"B", b"one\r\n") + END
NEGOTIATED = b"O" + struct.pack("!III", 6, ACTIONS, STEPS)


def test_negotiation():
    """Of what is offered we take what we use: no replies to most steps, space before values."""
    assert said(NEGOTIATION) == [NEGOTIATED]
    assert said(packet(b"O", OFFER + b"\0\0\0\x01{auth_type}\0")) == [NEGOTIATED]


@pytest.mark.parametrize(
    "offer",
    [
        b"",
        OFFER[:-1],
        struct.pack("!III", 2, 0x1FF, 0x1FFFFF),
        struct.pack("!III", 6, 0x01, 0x1FFFFF),
        struct.pack("!III", 6, 0x1FF, 0x0FFFFF),
        struct.pack("!III", 6, 0x1FF, 0),
    ],
)
def test_too_little_is_offered(offer):
    """With less than we need there is no conversation."""
    assert refused(packet(b"O", offer) + START + MESSAGE) == []


def test_a_newer_version_is_offered():
    """The answer is ours."""
    assert said(packet(b"O", struct.pack("!III", 7, 0xFFFFFFFF, 0xFFFFFFFF))) == [NEGOTIATED]


def test_one_message():
    """All that is known of it; only its end gets a reply."""
    judge = Judge()
    octets = [
        START,
        macros(b"C", j=b"mail.example.com", v=b"Postfix"),
        macros(b"M", i=b"4gX0", mail_addr=b"a@b.example"),
        MAIL,
        header(b"Received", b" from x\n\tby y"),
        FROM,
        header(b"Subject", b""),
        header(b"x-odd", b"no space"),
        END_OF_HEADER,
        packet(b"B", b"one\r\n"),
        packet(b"B", b"two\r\n"),
        macros(b"E", i=b"4gX0"),
        END,
    ]
    assert said(b"".join(octets), judge) == [NEGOTIATED, ACCEPT]
    (message,) = judge.messages
    assert (message.client, message.helo, message.sender) == ("192.0.2.1", b"client.example", b"<a@b.example>")
    assert message.queue_id == "4gX0"
    assert message.fields == [
        Field(b"Received", b" from x\n\tby y"),
        Field(b"From", b" a@b.example"),
        Field(b"Subject", b""),
        Field(b"x-odd", b"no space"),
    ]
    assert (message.body, judge.asked) == (b"one\r\ntwo\r\n", 1)


CLIENTS = {
    "IPv4": (connect(), "192.0.2.1"),
    "IPv6": (connect(b"2001:DB8:0::1", b"6"), "2001:db8::1"),
    "IPv6, as Postfix writes it": (connect(b"IPv6:2001:db8::1", b"6"), "2001:db8::1"),
    "IPv4 in IPv6": (connect(b"IPv6:::ffff:192.0.2.1", b"6"), "192.0.2.1"),
    "link-local": (connect(b"IPv6:fe80::1%eth0", b"6"), "fe80::1"),
    "unix socket": (connect(b"/run/x", b"L"), ""),
    "unknown": (packet(b"C", b"unknown\0U"), ""),
    "octets": (connect(b"\xff\xfe"), ""),
    "cut off": (packet(b"C", b"client.example\x004\0"), ""),
    "nothing": (packet(b"C"), ""),
}


@pytest.mark.parametrize(("octets", "client"), CLIENTS.values(), ids=CLIENTS.keys())
def test_clients(octets, client):
    """The address in its usual form; an empty text for what is none."""
    judge = Judge()
    said(NEGOTIATION + octets + MESSAGE, judge)
    assert judge.messages[0].client == client


def test_every_octet_comes_through():
    """HELO, the sender and fields hold what was sent, UTF-8 or not."""
    odd = bytes(range(1, 256))
    judge = Judge()
    octets = NEGOTIATION + connect() + packet(b"H", odd + b"\0") + packet(b"M", odd + b"\0") + header(odd, odd) + END
    assert said(octets, judge) == [NEGOTIATED, ACCEPT]
    (message,) = judge.messages
    assert (message.helo, message.sender, message.fields) == (odd, odd, [Field(odd, odd)])


def test_a_body_that_nobody_needs():
    """It goes nowhere; whether it is needed is known when all fields are."""
    judge = Judge(body=False)
    assert said(START + MESSAGE, judge) == [NEGOTIATED, ACCEPT]
    assert judge.messages[0].body is None


def test_a_message_without_a_body():
    """Nobody is asked."""
    judge = Judge()
    assert said(START + MAIL + FROM + END_OF_HEADER + END, judge) == [NEGOTIATED, ACCEPT]
    assert (judge.messages[0].body, judge.asked) == (None, 0)


@pytest.mark.parametrize("values", [[b"x" * 100_000] * 30, [b""] * 20_000], ids=["long fields", "many fields"])
def test_the_longest_header(values):
    """Of more than the limit nothing is kept, but it is known that there was more; short fields weigh something too."""
    judge = Judge()
    assert said(START + MAIL + b"".join(header(b"X", one) for one in values) + END, judge) == [NEGOTIATED, ACCEPT]
    (message,) = judge.messages
    assert message.header_octets > MAX_HEADER_OCTETS
    assert 10 < len(message.fields) < len(values)


def test_messages_on_one_connection():
    """Each is on its own: queue id, sender, fields and body; client and HELO stay."""
    judge = Judge()
    second = [
        packet(b"M", b"<>\0"),
        header(b"From", b" c@d.example"),
        packet(b"B", b"two\r\n"),
        macros(b"E", i=b"4gX1"),
        END,
    ]
    octets = START + macros(b"M", i=b"4gX0") + MESSAGE + b"".join(second) + MAIL + END
    assert said(octets, judge) == [NEGOTIATED, ACCEPT, ACCEPT, ACCEPT]
    assert [one.queue_id for one in judge.messages] == ["4gX0", "4gX1", ""]
    assert [one.sender for one in judge.messages] == [b"<a@b.example>", b"<>", b"<a@b.example>"]
    assert [len(one.fields) for one in judge.messages] == [1, 1, 0]
    assert [one.body for one in judge.messages] == [b"one\r\n", b"two\r\n", None]
    assert {(one.client, one.helo) for one in judge.messages} == {("192.0.2.1", b"client.example")}


def test_abort():
    """A message that is aborted is forgotten, at whatever step; the next one is none the worse for it."""
    judge = Judge()
    abort = packet(b"A")
    begun = macros(b"M", i=b"4gX0") + MAIL + header(b"X", b" y") + packet(b"B", b"zero\r\n")
    octets = START + abort + begun + abort + MAIL + abort + abort + MESSAGE
    assert said(octets, judge) == [NEGOTIATED, ACCEPT]
    (message,) = judge.messages
    assert (message.queue_id, message.body) == ("", b"one\r\n")
    assert message.fields == [Field(b"From", b" a@b.example")]
    # The session ends once all is said.
    assert {*judge.ended} == {(message.session, 1)}


def test_another_connection_on_this_one():
    """After QUIT_NC another client is meant, of whom nothing is known but what comes now."""
    judge = Judge()
    again = packet(b"K") + connect(b"192.0.2.2") + MESSAGE
    assert said(START + MESSAGE + again, judge) == [NEGOTIATED, ACCEPT, ACCEPT]
    assert [(one.client, one.helo) for one in judge.messages] == [("192.0.2.1", b"client.example"), ("192.0.2.2", b"")]
    assert {number for _, number in judge.ended} == {1, 2}


@pytest.mark.parametrize("octets", [packet(b"Q"), packet(b"Q") + MESSAGE, b""])
def test_the_end(octets):
    """QUIT ends the conversation, and so does the end of the connection."""
    judge = Judge()
    assert said(START + octets, judge) == [NEGOTIATED]
    assert judge.messages == []


def test_steps_that_need_no_reply():
    """Those that the negotiation left out, should they come."""
    rest = packet(b"R", b"<b@c.example>\0") + packet(b"T") + packet(b"U", b"XYZ\0")
    assert said(START + rest + MAIL + rest + END) == [NEGOTIATED, ACCEPT]


VERDICTS = {
    "accept": (Verdict(), [ACCEPT]),
    "discard": (Verdict(discard=True), [DISCARD]),
    "reply": (Verdict(reply="550 5.7.1 no"), [b"y550 5.7.1 no\0"]),
    "reply with a percent sign": (Verdict(reply="451 4.7.1 50% sure"), [b"y451 4.7.1 50% sure\0"]),
    "insert": (Verdict((Insert(b"X", b" y"),)), [b"i\0\0\0\0X\0 y\0", ACCEPT]),
    "insert with folds": (Verdict((Insert(b"X", b" y;\n\tz"),)), [b"i\0\0\0\0X\0 y;\n\tz\0", ACCEPT]),
    "several inserts, in order": (
        Verdict((Insert(b"X", b" 1"), Insert(b"Y", b" 2"))),
        [b"i\0\0\0\0X\0 1\0", b"i\0\0\0\0Y\0 2\0", ACCEPT],
    ),
    "delete": (Verdict((Delete(b"X", 1),)), [b"m\0\0\0\1X\0\0", ACCEPT]),
    "deletes from the last up": (
        Verdict((Delete(b"X", 1), Delete(b"X", 3), Delete(b"X", 2), Delete(b"Y", 300))),
        [b"m\0\0\1\x2cY\0\0", b"m\0\0\0\3X\0\0", b"m\0\0\0\2X\0\0", b"m\0\0\0\1X\0\0", ACCEPT],
    ),
    "deletes before inserts": (
        Verdict((Insert(b"X", b" y"), Delete(b"X", 1), Delete(b"X", 2))),
        [b"m\0\0\0\2X\0\0", b"m\0\0\0\1X\0\0", b"i\0\0\0\0X\0 y\0", ACCEPT],
    ),
}


@pytest.mark.parametrize(("verdict", "expected"), VERDICTS.values(), ids=VERDICTS.keys())
def test_verdicts(verdict, expected):
    """What each verdict is on the wire; the connection goes on after it."""
    found = said(START + MESSAGE + MESSAGE, Judge(verdict))
    assert found == [NEGOTIATED, *expected, ACCEPT]


@given(st.lists(st.tuples(st.sampled_from([b"X", b"x", b"Y"]), st.booleans()), max_size=12))
def test_edits_leave_what_they_should(fields):
    """Applied one after the other, as Postfix does, they remove the fields that were meant, and put theirs on top."""
    edits, count, kept = [Insert(b"X", b" new")], {}, []
    for at, (name, goes) in enumerate(fields):
        count[name.lower()] = count.get(name.lower(), 0) + 1
        if goes:
            edits.append(Delete(name, count[name.lower()]))
        else:
            kept.append((name, at))
    current = [(name, at) for at, (name, _) in enumerate(fields)]
    for one in said(START + MESSAGE, Judge(Verdict(tuple(edits))))[1:-1]:
        index, (name, _, value) = struct.unpack("!I", one[1:5])[0], one[5:].partition(b"\0")
        if one[:1] == b"i":
            current.insert(index, (name, value))
        else:
            found = [field for field in current if field[0].lower() == name.lower()]
            current.remove(found[index - 1])
    assert current == [(b"X", b" new\0"), *kept]


@pytest.mark.parametrize("reply", ["550 5.7.1 a\r\n250 b", "550 5.7.1 \u00e9", "550 5.7.1 a\0"])
def test_a_reply_that_is_no_line_is_none(reply):
    """It is a fault here, and does not reach the client."""
    found, error = asyncio.run(talk(START + MESSAGE, Judge(Verdict(reply=reply))))
    assert "ValueError" in error
    assert replies(found) == [NEGOTIATED]


def test_a_stop_lets_the_message_in_hand_end():
    """Told to stop in the middle of a message, it answers that one and ends; a next one is not begun."""

    async def run():
        judge = Judge()
        connection, postfix, to_milter = await connected(judge, [])
        judge.connection = connection
        assert not connection.in_hand
        to_milter.write(START + MAIL + FROM)
        while not connection.in_hand:  # noqa: ASYNC110
            await asyncio.sleep(0)
        connection.stop()
        to_milter.write(END + MESSAGE)
        found = await postfix.read()
        assert not connection.in_hand
        to_milter.close()
        return replies(found), len(judge.messages)

    assert asyncio.run(asyncio.wait_for(run(), 10)) == ([NEGOTIATED, ACCEPT], 1)


GARBAGE = {
    "another protocol": b"GET / HTTP/1.0\r\n\r\n",
    "a length of nothing": struct.pack("!I", 0),
    "a length of everything": struct.pack("!I", 0xFFFFFFFF),
    "one more than the limit": struct.pack("!I", session._MAX_PACKET + 1),
    "an unknown command": packet(b"X"),
    "a command in lower case": packet(b"o", OFFER),
    "an end without a message": END,
    "a second end": MESSAGE + END,
    "a body without a message": packet(b"B", b"x"),
    "a body behind the end": MESSAGE + packet(b"B", b"x"),
    "an end of an aborted message": MAIL + packet(b"A") + END,
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage(garbage):
    """Who does not speak the protocol is cut off, after the replies that are due, and gets no other."""
    due = [ACCEPT] if garbage.startswith(MESSAGE) else []
    assert refused(START + garbage + MESSAGE * 2) == [NEGOTIATED, *due]


@pytest.mark.parametrize("at", range(1, len(MESSAGE)))
def test_a_connection_that_ends_in_the_middle(at):
    """A message that does not come to its end is not judged."""
    judge = Judge()
    found, error = asyncio.run(talk(START + MESSAGE[:at], judge))
    assert error is None or re.match(PEER, error), error
    assert set(replies(found)) <= {NEGOTIATED}
    assert judge.messages == []


COMMANDS = st.sampled_from([bytes([one]) for one in b"ABCDEHKLMNOQRTUXa\0"])
PACKETS = st.one_of(
    st.builds(packet, COMMANDS, st.binary(max_size=40)),
    st.sampled_from(
        [NEGOTIATION, HELLO, MAIL, FROM, END, MESSAGE, macros(b"M", i=b"4gX0"), packet(b"A"), packet(b"K")]
    ),
    st.binary(max_size=8),
)


@settings(max_examples=300)
@given(st.lists(PACKETS, max_size=12))
@example([packet(b"D")])
@example([packet(b"D", b"Mi\0\xff\0i")])
@example([packet(b"C", b"a\0")])
@example([packet(b"C", b"a\0" + b"6\0\0fe80::1%\xff\0")])
@example([MAIL, packet(b"L"), packet(b"L", b"a"), packet(b"B"), END])
def test_no_packets_hang_it(packets):
    """Whatever comes, the conversation ends with its connection: well, or because it is none. It waits for nothing."""
    octets = b"".join(packets)
    found, error = asyncio.run(asyncio.wait_for(talk(NEGOTIATION + octets, Judge()), 10))
    assert error is None or re.match(PEER, error), error
    assert {one[:1] for one in replies(found)} <= {b"O", ACCEPT}


@pytest.mark.parametrize(("sent", "meant"), SENDERS.values(), ids=SENDERS.keys())
def test_sender_is_the_one_that_postfix_takes(sent, meant):
    """The envelope sender is what Postfix goes on with, not how the client spelled it; for that message alone."""
    judge = Judge()
    first = macros(b"M", **{"{mail_addr}": meant, "{mail_host}": b"x"}) + packet(b"M", sent + b"\0") + FROM + END
    assert said(START + first + packet(b"M", sent + b"\0") + FROM + END, judge)[-1] == ACCEPT
    assert [one.sender for one in judge.messages] == [b"<" + meant + b">", sent]


def test_a_peer_that_does_not_read():
    """Its answers do not pile up: it is not read from any more, until it has taken them; and none is lost."""
    count = 100_000

    async def conversation():
        connection, postfix, to_milter = await connected(Judge(), [])
        to_milter.write(NEGOTIATION * count)
        to_milter.write_eof()
        # Enough turns to read and to answer everything.
        for _ in range(1000):
            await asyncio.sleep(0)
        waiting = connection._transport.get_write_buffer_size()
        found = await postfix.read()
        to_milter.close()
        return waiting, found

    waiting, found = asyncio.run(asyncio.wait_for(conversation(), 60))
    assert waiting < 512 * 1024
    assert len(found) == count * len(packet(NEGOTIATED[:1], NEGOTIATED[1:]))


class Slow(Judge):
    """Has to wait for others before each verdict."""

    def __init__(self):
        super().__init__()
        self.asked_for, self.may_answer = asyncio.Event(), asyncio.Event()

    async def judge(self, message):
        self.asked_for.set()
        await self.may_answer.wait()
        return await super().judge(message)


@pytest.mark.parametrize(
    ("more", "seen"), [(10, "eof_received"), (200, "_read")], ids=["the end", "more than may wait"]
)
def test_what_comes_while_a_verdict_is_waited_for(more, seen):
    """It is answered behind it."""

    async def run():
        judge, lines, come = Slow(), [], asyncio.Event()
        connection, postfix, to_milter = await connected(judge, lines)
        to_milter.write(START + MESSAGE)
        await judge.asked_for.wait()
        method = getattr(connection, seen)
        setattr(connection, seen, lambda: (come.set(), method())[1])
        to_milter.write((MAIL + FROM + END_OF_HEADER + packet(b"B", bytes(900)) + END) * more)
        to_milter.write_eof()
        await come.wait()
        assert judge.messages == []
        judge.may_answer.set()
        found = await postfix.read()
        to_milter.close()
        return replies(found), judge, lines

    found, judge, lines = asyncio.run(asyncio.wait_for(run(), 20))
    assert found == [NEGOTIATED, *[ACCEPT] * (1 + more)]
    assert (len(judge.messages), lines) == (1 + more, [])


def test_quit_in_the_middle_of_a_message():
    """Nothing of it is kept any longer than its octets are worked on."""

    async def run():
        judge, kept = Judge(), []
        connection, postfix, to_milter = await connected(judge, [])
        work = connection.buffer_updated

        def buffer_updated(nbytes):
            work(nbytes)
            kept.append((connection._session.message, bytes(connection._waiting)))

        connection.buffer_updated = buffer_updated
        to_milter.write(START + MAIL + FROM + END_OF_HEADER + packet(b"B", b"one") + packet(b"Q") + MAIL)
        await postfix.read()
        to_milter.close()
        return kept

    assert asyncio.run(asyncio.wait_for(run(), 10)) == [(None, b"")]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_log_that_cannot_be_written():
    """The connection ends all the same: Postfix would wait for an answer for minutes."""

    def broken(_):
        raise BrokenPipeError

    async def run():
        ours, theirs = socket.socketpair()
        serving, loop = Serving(broken, 128 * 1024), asyncio.get_running_loop()
        loop.set_exception_handler(lambda *_: None)
        await loop.connect_accepted_socket(lambda: Connection(serving, partial(session.Session, judge=Judge())), ours)
        postfix, to_milter = await asyncio.open_connection(sock=theirs)
        to_milter.write(packet(b"X"))
        found = await postfix.read()
        to_milter.close()
        return found

    assert asyncio.run(asyncio.wait_for(run(), 10)) == b""


@pytest.mark.parametrize("octets", [struct.pack("!IB", 60_001, 66), bytes(4)], ids=["cut off", "refused"])
@pytest.mark.parametrize("read", [True, False])
def test_what_has_come_goes_with_the_connection(octets, read):
    """Nothing of it stays until Python looks for garbage, however the connection ends."""

    async def run():
        connection, postfix, to_milter = await connected(Judge(), [])
        to_milter.write(NEGOTIATION)
        if read:
            await postfix.read(4)
        to_milter.write(octets + bytes(50_000))
        await to_milter.drain()
        to_milter.close()
        await connection._serving._all_gone.wait()
        return bytes(connection._waiting)

    assert asyncio.run(asyncio.wait_for(run(), 10)) == b""
