"""Connections to listening unix sockets, until TERM.

What comes is worked on where it was read. asyncio's streams take a turn of the event loop to wake a reader up, and a
coroutine, two buffers and a future for each connection; Postfix makes one for each SMTP session and milter. The loop is
uvloop's, which needs half of the time of asyncio's own.
"""

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Protocol, cast

import uvloop

from mailstack_auth.runtime import supervisor

# All connections are read into the same place, one after the other.
_INPUT = memoryview(bytearray(64 * 1024))


def begin_tasks_at_once(loop: asyncio.AbstractEventLoop) -> None:
    """What needs no answer from elsewhere is done without a turn of the loop for each step; from Python 3.12 on."""
    if sys.version_info >= (3, 12):
        # Not asyncio.eager_task_factory, which knows nothing of what later loops hand to it.
        loop.set_task_factory(
            lambda loop, work, **options: asyncio.Task(work, loop=loop, **(options | {"eager_start": True}))
        )


class ProtocolError(Exception):
    """The peer does not speak the protocol; the connection cannot be used any further."""


class Session(Protocol):
    """The protocol's side of a connection."""

    def take(self, waiting: bytearray) -> Coroutine[object, None, None] | None:
        """Answer what has come whole and take it away, up to what may have to wait for others.

        That is returned, to be run at once; take() is called again behind it. None: nothing that is whole is left.
        Raises ProtocolError.
        """

    def gone(self) -> None:
        """The connection has ended, or ends; it may be said more than once."""


class Connection(asyncio.BufferedProtocol):
    """One connection."""

    def __init__(self, serving: "Serving", session: Callable[["Connection"], Session]) -> None:
        self._serving = serving
        self._session = session(self)
        self._waiting = bytearray()
        self._task: asyncio.Task[None] | None = None
        self._stopping = self._ended = False
        # Why nothing is read: too much input waits, or the peer does not take what was sent.
        self._full = self._unread = False
        self.in_hand = False

    def begin(self) -> None:
        """Something was asked for, which should be finished before an end."""
        self.in_hand = True

    def end(self) -> None:
        """It is answered."""
        self.in_hand = False
        if self._stopping:
            self.close()

    def send(self, octets: bytes) -> bool:
        """Hand octets to the peer; False if it has gone."""
        if not self._transport.is_closing():
            self._transport.write(octets)
        return not self._transport.is_closing()

    def close(self) -> None:
        """End the connection when everything is sent; nothing else of it is kept."""
        self._transport.close()
        self._drop()

    def stop(self) -> None:
        """Finish what is in hand, and end."""
        self._stopping = True
        if not self.in_hand:
            self.close()

    def abort(self) -> None:
        """End at once."""
        if self._task:
            self._task.cancel()
        self._transport.abort()

    async def _work(self, answering: Coroutine[object, None, None] | None) -> None:
        try:
            while answering is not None:
                # Many may have become ready in one turn of the loop, each with a message that takes its time.
                supervisor.beat()
                await answering
                answering = None if self._transport.is_closing() else self._session.take(self._waiting)
            if self._ended:
                self._finish()
        except Exception as error:  # noqa: BLE001
            self._give_up(error)
        finally:
            self._task = None
            if self._transport.is_closing():
                self._drop()
            if self._full:
                self._full = False
                self._read()

    def _give_up(self, error: Exception) -> None:
        # An error that is no ProtocolError is one of ours; neither may leave the peer without an end.
        # Nor may a log that cannot be written.
        self.close()
        self._serving.log(f"closing connection: {error if isinstance(error, ProtocolError) else repr(error)}")

    def _finish(self) -> None:
        cut_off = self._waiting and not self._transport.is_closing()
        self.close()
        if cut_off:
            self._serving.log("closing connection: incomplete request")

    def _drop(self) -> None:
        """Keep nothing. connection_lost would be late: it comes when all others were read, and everything is sent."""
        self._waiting.clear()
        self._session.gone()

    def _read(self) -> None:
        """Read on, or not."""
        if self._transport.is_closing() or self._ended:
            return
        if self._full or self._unread:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        # Up to 0.21 uvloop writes at the end of its turn otherwise. A worker that is killed before that has noted, for
        # the next one, that something was sent which its peer never gets.
        self._transport.set_write_buffer_limits(high=0)
        self._serving.begun(self)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        return _INPUT

    def buffer_updated(self, nbytes: int) -> None:
        supervisor.beat()
        self._waiting += _INPUT[:nbytes]
        if self._task is not None:
            if len(self._waiting) > self._serving.limit:
                self._full = True
                self._read()
            return
        try:
            answering = self._session.take(self._waiting)
        except Exception as error:  # noqa: BLE001
            self._give_up(error)
            return
        if answering is not None:
            task = asyncio.get_running_loop().create_task(self._work(answering))
            self._task = None if task.done() else task

    def eof_received(self) -> bool:
        self._ended = True
        if self._task is None:
            self._finish()
        return True

    def pause_writing(self) -> None:
        """A peer that does not read is not read from either."""
        self._unread = True
        self._read()

    def resume_writing(self) -> None:
        self._unread = False
        self._read()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._drop()
        self._serving.gone(self)


class Serving:
    """What all connections share."""

    def __init__(self, log: Callable[[str], None], limit: int) -> None:
        """The limit is how much of a connection's input may wait, in octets."""
        self.log = log
        self.limit = limit
        self.connections: set[Connection] = set()
        self._beating: asyncio.TimerHandle | None = None
        self._all_gone = asyncio.Event()

    def run(self, sessions: Mapping[socket.socket, Callable[[Connection], Session]], grace: float) -> None:
        """Serve until TERM; then finish the work in hand, within the grace period in seconds."""
        uvloop.run(self._run(sessions, grace))

    async def _run(self, sessions: Mapping[socket.socket, Callable[[Connection], Session]], grace: float) -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        begin_tasks_at_once(loop)
        for number in supervisor.STOP:
            loop.add_signal_handler(number, stop.set)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, supervisor.WATCHED)
        self._beat()
        servers = [
            await loop.create_unix_server(partial(Connection, self, session), sock=sock, backlog=supervisor.BACKLOG)
            for sock, session in sessions.items()
        ]
        await stop.wait()
        for server in servers:
            server.close()
        await self._stop(grace)
        # The loop takes its handlers with it, and a second TERM would be the end in the middle of this one.
        signal.pthread_sigmask(signal.SIG_BLOCK, supervisor.WATCHED)

    async def _stop(self, grace: float) -> None:
        """Let go of idle connections, and wait for the others."""
        for one in tuple(self.connections):
            one.stop()
        self._all_gone.clear()
        if self.connections:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._all_gone.wait(), grace)
        for one in tuple(self.connections):
            one.abort()

    def _beat(self) -> None:
        """Say that the loop goes round, now and until its end."""
        if self._beating:
            self._beating.cancel()
        supervisor.beat()
        pause = supervisor.BEAT_SECONDS if self.connections else supervisor.IDLE_SECONDS
        self._beating = asyncio.get_running_loop().call_later(pause, self._beat)

    def begun(self, connection: Connection) -> None:
        """A connection has come."""
        self.connections.add(connection)
        if len(self.connections) == 1:
            self._beat()

    def gone(self, connection: Connection) -> None:
        """A connection has ended."""
        self.connections.discard(connection)
        if not self.connections:
            self._all_gone.set()
