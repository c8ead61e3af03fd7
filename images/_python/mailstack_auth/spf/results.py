"""What policyd-spf found about a message, for who comes after it."""

import asyncio
import contextlib
from pathlib import Path
from typing import cast

from mailstack_auth.milter.message import Message
from mailstack_auth.runtime.handover import Reader
from mailstack_auth.spf import policy_protocol
from mailstack_auth.spf.judgement import Judgement


class SpfResults:
    """policyd-spf's results: where it leaves them, else over its internal socket."""

    def __init__(self, left: Path, path: Path) -> None:
        self._left = Reader(left)
        self._path = path
        self._idle: list[_Asking] = []

    async def of(self, message: Message) -> Judgement:
        """What SPF says of a message. Raises as Judgement.of_line() does, and OSError if nobody can be asked."""
        sender = message.sender.removeprefix(b"<").removesuffix(b">")
        question = policy_protocol.question(message.queue_id, message.client, message.helo, sender)
        return Judgement.of_line(self._left.get(question) or await self._ask(question))

    async def _ask(self, request: bytes) -> bytes:
        """Ask once more where a connection breaks: it was closed while idle, or another worker goes on."""
        while self._idle:
            with contextlib.suppress(OSError):
                return await self._exchange(self._idle.pop(), request)
        with contextlib.suppress(OSError):
            return await self._exchange(await self._connected(), request)
        return await self._exchange(await self._connected(), request)

    async def _connected(self) -> "_Asking":
        _, asking = await asyncio.get_running_loop().create_unix_connection(_Asking, str(self._path))
        return asking

    async def _exchange(self, asking: "_Asking", request: bytes) -> bytes:
        answer = await asking.ask(request)
        self._idle.append(asking)
        return answer


class _Asking(asyncio.Protocol):
    """A connection to policyd-spf: a question, and a line for an answer."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._answer: asyncio.Future[bytes] | None = None
        self._received = b""

    async def ask(self, request: bytes) -> bytes:
        """One at a time. Raises ConnectionError when there is no answer; the connection is of no use then."""
        if self._transport.is_closing():
            raise ConnectionError("policyd-spf closed the connection")
        self._answer, self._received = asyncio.get_running_loop().create_future(), b""
        try:
            self._transport.write(request)
            return await self._answer
        except BaseException:
            self._transport.close()
            raise

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._received.endswith(b"\n") and self._answer and not self._answer.done():
            self._answer.set_result(self._received)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer and not self._answer.done():
            self._answer.set_exception(exc or ConnectionError("policyd-spf closed the connection"))
