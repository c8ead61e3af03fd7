"""Connections to listening unix sockets, a coroutine for each, until TERM."""

import asyncio
import signal
import socket
from collections.abc import Awaitable, Callable, Mapping

from mailstack_auth import supervisor


class ProtocolError(Exception):
    """The peer does not speak the protocol; the connection cannot be used any further."""


class Work:
    """Whether a connection has something in hand that should be finished before an end."""

    def __init__(self) -> None:
        self.in_hand = False
        self.stopping = False

    def begin(self) -> None:
        """Something was asked for."""
        self.in_hand = True

    def end(self) -> bool:
        """It is answered; whether the connection should end now."""
        self.in_hand = False
        return self.stopping


# Serves one connection until its end, or until end() says so.
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter, Work], Awaitable[None]]


class Serving:
    """What all connections share."""

    def __init__(self, log: Callable[[str], None], limit: int) -> None:
        """The limit is how much of a connection's input may wait, in octets."""
        self._log = log
        self._limit = limit
        self._connections: dict[asyncio.Task[None], Work] = {}

    async def run(self, handlers: Mapping[socket.socket, Handler], grace: float) -> None:
        """Serve until TERM; then finish the work in hand, within the grace period in seconds."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in supervisor.STOP:
            loop.add_signal_handler(number, stop.set)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, supervisor.WATCHED)
        # start_server, since start_unix_server removes the path in the end (from Python 3.13).
        servers = [
            await asyncio.start_server(
                self._connection(handler), sock=sock, limit=self._limit, backlog=supervisor.BACKLOG
            )
            for sock, handler in handlers.items()
        ]
        await stop.wait()
        await self._stop(servers, grace)
        # The loop takes its handlers with it, and a second TERM would be the end in the middle of this one.
        signal.pthread_sigmask(signal.SIG_BLOCK, supervisor.WATCHED)

    async def _stop(self, servers: list[asyncio.Server], grace: float) -> None:
        """Accept no more, let go of idle connections, and wait for the others."""
        for server in servers:
            server.close()
        for task, work in self._connections.items():
            work.stopping = True
            if not work.in_hand:
                task.cancel()
        if self._connections:
            _, late = await asyncio.wait(list(self._connections), timeout=grace)
            for task in late:
                task.cancel()

    def _connection(self, handler: Handler) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None  # noqa: S101
            self._connections[task] = work = Work()
            try:
                await handler(reader, writer, work)
            except ProtocolError as error:
                self._log(f"closing a connection: {error}")
            except ConnectionError:
                pass  # the peer ended in the middle of something
            finally:
                del self._connections[task]
                writer.close()

        return serve
