"""The milter protocol, version 6, from the milter's side (libmilter's mfdef.h; Postfix's MILTER_README).

libmilter and its Python binding would take a thread for each connection and a process for each socket, and hand HELO on
only if it is UTF-8. Here all connections share one event loop, and every octet comes through as it was sent.
"""

import struct
from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import ClassVar

from mailstack_auth import names
from mailstack_auth.header.fields import Field
from mailstack_auth.milter.message import (
    MAX_FIELD_OCTETS,
    MAX_HEADER_OCTETS,
    Delete,
    Insert,
    Judge,
    Message,
    Readdress,
    Verdict,
)
from mailstack_auth.runtime.serving import Connection, ProtocolError

_VERSION = 6
# What we may do: add and change header fields (SMFIF_ADDHDRS, SMFIF_CHGHDRS), add and remove recipients (SMFIF_ADDRCPT,
# SMFIF_DELRCPT).
_ACTIONS = 0x01 | 0x10 | 0x04 | 0x08
# Steps that are left out (SMFIP_NOUNKNOWN, NODATA), that get no reply (SMFIP_NR_HDR, _CONN, _HELO, _MAIL, _RCPT,
# _EOH, _BODY); and field values come with their leading space (SMFIP_HDR_LEADSPC). A body comes whole, whether it is
# needed or not: to say so would be a question and an answer for each message.
_STEPS = 0x100 | 0x200 | 0x80 | 0x1000 | 0x2000 | 0x4000 | 0x8000 | 0x40000 | 0x80000 | 0x100000

# Postfix sends at most 64 kB of body at a time, and no longer field than header_size_limit, 100 kB.
_MAX_PACKET = 1024 * 1024
# What a field weighs in memory beside its octets. Millions of empty ones would take more than the longest ones.
_FIELD_OCTETS = 450

_LENGTH = struct.Struct("!I")
_NEGOTIATION = struct.Struct("!III")


class Session:
    """The milter's side of a connection."""

    def __init__(self, connection: Connection, judge: Judge) -> None:
        self._connection = connection
        self._judge = judge
        self._client, self._helo = "", b""
        self._queue_id = ""
        # As Postfix understands the envelope sender, and the recipient, which is how it takes them from now on.
        self._sender: bytes | None = None
        self._address: bytes | None = None
        self._user = ""
        self.message: Message | None = None
        self._in_body = False

    def take(self, waiting: bytearray) -> Coroutine[object, None, None] | None:
        """Answer the packets that have come, up to the end of a message."""
        done = 0
        try:
            for command, data, end in _packets(bytes(waiting)):
                done = end
                if command == b"L":
                    self._header(data)
                elif command == b"E" and self.message is not None:
                    message, self.message = self.message, None
                    return self._end(message)
                elif command == b"Q":
                    self._connection.close()
                    break
                elif answer := self._step(command, data):
                    self._connection.send(answer)
        finally:
            del waiting[:done]
        return None

    def _step(self, command: bytes, data: bytes) -> bytes:
        """Take a command; the reply, if it gets one."""
        step = self._STEPS.get(command)
        if step is None:
            raise ProtocolError(f"unexpected command {command!a}")
        return step(self, data)

    async def _end(self, message: Message) -> None:
        """SMFIC_BODYEOB: reply what becomes of the message."""
        message.queue_id, self._queue_id = self._queue_id, ""
        verdict = await self._judge.judge(message)
        self._connection.send(b"".join(_answer(verdict)))
        self._connection.end()

    def _macros(self, data: bytes) -> bytes:
        """SMFIC_MACRO: the step that they belong to, then names and values.

        "i" is the queue id, which Postfix sends with each field, too; "{mail_addr}" and "{rcpt_addr}" are the envelope
        sender and a recipient without comments, routes and odd quotes; "{auth_authen}" is the login name.
        """
        if data[:1] not in {b"M", b"R", b"E"}:
            return b""
        texts = iter(data[1:].split(b"\0"))
        for name, value in zip(texts, texts, strict=False):
            if name == b"i":
                self._queue_id = value.decode("latin-1")
            elif name == b"{mail_addr}":
                self._sender = b"<" + value + b">"
            elif name == b"{rcpt_addr}":
                self._address = b"<" + value + b">"
            elif name == b"{auth_authen}":
                self._user = value.decode("latin-1")
        return b""

    def _connect(self, data: bytes) -> bytes:
        """SMFIC_CONNECT: the client's name, family, port and address."""
        self._helo = b""
        text = data.partition(b"\0")[2][3:].removesuffix(b"\0").decode("latin-1")
        try:
            self._client = names.canonical(text.removeprefix("IPv6:"))
        except ValueError:
            self._client = ""
        return b""

    def _hello(self, data: bytes) -> bytes:
        self._helo = data.removesuffix(b"\0")
        return b""

    def _mail(self, data: bytes) -> bytes:
        sender = data.partition(b"\0")[0] if self._sender is None else self._sender
        self.message = Message(self._client, self._helo, sender, user=self._user, session=self)
        self._sender, self._user, self._in_body = None, "", False
        self._connection.begin()
        return b""

    def _recipient(self, data: bytes) -> bytes:
        if self.message is not None:
            written = data.partition(b"\0")[0]
            self.message.recipients.append(written if self._address is None else self._address)
            self.message.written.append(written)
        self._address = None
        return b""

    def _header(self, data: bytes) -> None:
        message = self.message
        if message is not None:
            name, _, value = data.partition(b"\0")
            message.header_octets += len(data) + _FIELD_OCTETS
            # Name and value end in NUL each; the field has a colon.
            if len(data) - 1 > MAX_FIELD_OCTETS:
                message.cut = name
            if message.header_octets <= MAX_HEADER_OCTETS:
                message.fields.append(Field(name, value.removesuffix(b"\0")))

    def _body(self, data: bytes) -> bytes:
        """Hand on a piece of the body, if it is needed."""
        message = self.message
        if message is None:
            raise ProtocolError("body without a message")
        if not self._in_body:
            self._in_body = True
            message.body = self._judge.body(message)
        if message.body is not None:
            message.body.add(data)
        return b""

    def _negotiate(self, data: bytes) -> bytes:
        """Our version, actions and steps (SMFIC_OPTNEG), all of which Postfix offers since 2.6."""
        if len(data) < _NEGOTIATION.size:
            raise ProtocolError("option negotiation too short")
        version, actions, steps = _NEGOTIATION.unpack_from(data)
        if version < _VERSION or actions & _ACTIONS != _ACTIONS or steps & _STEPS != _STEPS:
            raise ProtocolError(f"peer offers version {version}, actions {actions:#x}, steps {steps:#x}")
        return _packet(b"O", _NEGOTIATION.pack(_VERSION, _ACTIONS, _STEPS))

    def _nothing(self, _: bytes) -> bytes:
        return b""

    def _reset(self, _: bytes) -> bytes:
        """SMFIC_ABORT: no message."""
        self.message = None
        self._queue_id = ""
        self._connection.end()
        return b""

    def _renew(self, data: bytes) -> bytes:
        """SMFIC_QUIT_NC: another SMTP session begins on this connection."""
        self._judge.left(self)
        return self._reset(data)

    def gone(self) -> None:
        """Nobody waits for what is there of a message."""
        self.message = None
        self._judge.left(self)

    _STEPS: ClassVar[Mapping[bytes, Callable[["Session", bytes], bytes]]] = {
        b"O": _negotiate,
        b"D": _macros,
        b"C": _connect,
        b"H": _hello,
        b"M": _mail,
        b"B": _body,
        b"R": _recipient,
        b"A": _reset,
        b"K": _renew,
        # Steps that the negotiation leaves out, or that say nothing.
        **dict.fromkeys((b"N", b"T", b"U"), _nothing),
    }


def _packets(octets: bytes) -> Iterator[tuple[bytes, bytes, int]]:
    """Commands, their data and where they end, as far as they have come whole."""
    at, size = 0, len(octets)
    while size - at >= _LENGTH.size:
        (length,) = _LENGTH.unpack_from(octets, at)
        if not 0 < length <= _MAX_PACKET:
            raise ProtocolError(f"invalid packet of {length} octets")
        start, at = at + _LENGTH.size, at + _LENGTH.size + length
        if at > size:
            break
        yield octets[start : start + 1], octets[start + 1 : at], at


def _packet(command: bytes, data: bytes = b"") -> bytes:
    return _LENGTH.pack(len(data) + 1) + command + data


_ACCEPT, _DISCARD = _packet(b"a"), _packet(b"d")


def _answer(verdict: Verdict) -> Iterator[bytes]:
    """The packets of a verdict: edits, and what becomes of the message."""
    # From the last one up, since occurrences are counted anew after each removal.
    for edit in sorted(verdict.edits, key=lambda edit: edit.at if isinstance(edit, Delete) else 0, reverse=True):
        match edit:
            case Delete(name, at):
                yield _packet(b"m", _LENGTH.pack(at) + name + b"\0\0")
            case Insert(name, value):
                yield _packet(b"i", _LENGTH.pack(0) + name + b"\0" + value + b"\0")
            case Readdress(written, other):
                yield _packet(b"-", written + b"\0")
                yield _packet(b"+", other + b"\0")
    if verdict.reply is not None:
        if not verdict.reply.isascii() or not verdict.reply.isprintable():
            raise ValueError(f"not one printable line: {verdict.reply!r}")
        yield _packet(b"y", verdict.reply.encode("ascii") + b"\0")
    else:
        yield _DISCARD if verdict.discard else _ACCEPT
