"""Accepts clients, and lets go of them in good order."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator, Iterator

from control_api.kit.bounds import Bounds
from control_api.router.downstream import ClientConnection, Handler
from control_api.router.reply import DateLine

BACKLOG = 2048
# For connections to close after their answers were cut short.
LAST_WORDS_S = 1.0


class HttpServer:
    """Serves a handler on a socket.

    Parameters
    ----------
    bounds: of a connection.
    shutdown_deadline_s: how long running answers may go on at the end.
    connection_limit: connections at once; further ones are refused.
    """

    def __init__(self, handle: Handler, *, bounds: Bounds, shutdown_deadline_s: float, connection_limit: int) -> None:
        self.handle = handle
        self.bounds = bounds
        self.date = DateLine()
        self._shutdown_deadline_s = shutdown_deadline_s
        self._connection_limit = connection_limit
        self._connections: set[ClientConnection] = set()
        self._empty = asyncio.Event()
        self._empty.set()

    def joined(self, connection: ClientConnection) -> bool:
        """Take a connection that was made, and tell whether there was room for it."""
        self._connections.add(connection)
        self._empty.clear()
        return len(self._connections) <= self._connection_limit

    def left(self, connection: ClientConnection) -> None:
        """A connection is gone."""
        self._connections.discard(connection)
        if not self._connections:
            self._empty.set()

    @contextlib.asynccontextmanager
    async def listening(self, listener: socket.socket) -> AsyncIterator[None]:
        """Serve for the length of the block; at its end accept nothing more and finish what runs, up to the deadline."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: ClientConnection(self), sock=listener, backlog=BACKLOG)
        try:
            yield
        finally:
            server.close()
            await self._let_go()

    async def _let_go(self) -> None:
        for connection in list(self._connections):
            connection.finish()
        if await self._is_empty_within(self._shutdown_deadline_s):
            return
        for connection in list(self._connections):
            connection.cancel()
        if await self._is_empty_within(LAST_WORDS_S):
            return
        for connection in list(self._connections):
            connection.abort()
        await self._is_empty_within(LAST_WORDS_S)

    async def _is_empty_within(self, timeout_s: float) -> bool:
        try:
            async with asyncio.timeout(timeout_s):
                await self._empty.wait()
        except TimeoutError:
            return False
        return True


@contextlib.contextmanager
def told_to_stop() -> Iterator[asyncio.Event]:
    """Yield an event that SIGTERM and SIGINT set."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        yield stop
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
