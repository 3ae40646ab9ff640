"""One connection of a client: its requests are answered in order, and everything has its time."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Protocol, cast

from control_api.kit.bounds import Bounds
from control_api.router.client import Request
from control_api.router.errors import RouterError, SlowHead, TooManyConnections
from control_api.router.intake import Intake
from control_api.router.reply import DateLine, Reply

# Longer than the pools of usual clients keep a connection, so that it is never closed under a request of theirs.
KEEP_ALIVE_S = 75.0
# After an answer that came before the request's end, so much more is read and thrown away.
DROPPED_LIMIT_BYTES = 1 << 22

type Handler = Callable[[Request, Reply], Awaitable[None]]


class Server(Protocol):
    """What connections share."""

    handle: Handler
    date: DateLine
    bounds: Bounds

    def joined(self, connection: "ClientConnection") -> bool:
        """Take a connection that was made, and tell whether there was room for it."""
        ...

    def left(self, connection: "ClientConnection") -> None:
        """A connection is gone."""
        ...


class ClientConnection(asyncio.Protocol):
    """A client's connection. One request at a time is answered; those behind it wait, and nothing more is read meanwhile."""

    _transport: asyncio.Transport
    _timer: asyncio.TimerHandle

    def __init__(self, server: Server) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Request] = deque()
        self._current: Request | None = None
        self._task: asyncio.Task[None] | None = None
        self._deaf = False
        self._closing = False
        self._reading = True
        self._dropped_bytes = 0
        self._bounds = server.bounds
        self._active_at = self._loop.time()
        self._intake = Intake(self, server.bounds, self._arrived, self._active_at)
        self._stuck_since: float | None = None
        self._writable: asyncio.Future[None] | None = None

    # What the server asks

    def finish(self) -> None:
        """Answer what is being answered, then close."""
        self._closing = True
        if self._current is None:
            self._transport.close()
        else:
            self._current.keep_alive = False

    def cancel(self) -> None:
        """Cancel what is being answered; it may say some last words."""
        if self._task:
            self._task.cancel()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    # What requests and replies ask

    def pause(self) -> None:
        """Read nothing for now."""
        if self._reading and not self._transport.is_closing():
            self._reading = False
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on; the body is wanted."""
        if self._intake.expects:
            self._intake.expects = False
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._read_on()

    def write(self, data: bytes) -> None:
        """Send bytes."""
        self._transport.write(data)

    async def drain(self) -> None:
        """Wait until the client has read enough for more to be sent."""
        while self._stuck_since is not None:
            self._writable = self._loop.create_future()
            await self._writable

    # What the event loop tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport, unless there are too many already."""
        self._transport = cast(asyncio.Transport, transport)
        self._timer = self._loop.call_later(self._bounds.tick_s, self._tick)
        if not self._server.joined(self):
            self._refuse(TooManyConnections("There are too many connections. Try again later."))
            self._next()

    def connection_lost(self, _error: Exception | None) -> None:
        """Cancel what is being answered: there is nobody to read it."""
        self._timer.cancel()
        self._server.left(self)
        self._waiting.clear()
        if self._current and self._task:
            self._current.gone = True
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        """Parse what the client sent, and begin to answer."""
        if self._deaf:
            self._drop(len(data))
            return
        self._active_at = self._loop.time()
        intake = self._intake
        intake.feed(data, self._active_at)
        if intake.fault:
            self._refuse(intake.fault)
        elif intake.upgraded:
            self._deaf = True  # we speak nothing else, so what follows cannot be understood
        self._next()

    def _arrived(self, request: Request) -> None:
        if self._closing:
            request.keep_alive = False
        self._waiting.append(request)

    def _drop(self, size_bytes: int) -> None:
        self._dropped_bytes += size_bytes
        if self._dropped_bytes > DROPPED_LIMIT_BYTES:
            self.pause()

    def pause_writing(self) -> None:
        """The client does not read fast enough."""
        self._stuck_since = self._loop.time()

    def resume_writing(self) -> None:
        """The client has read on."""
        self._stuck_since = None
        if self._writable and not self._writable.done():
            self._writable.set_result(None)
        self._next()

    # Answering in order

    def _next(self) -> None:
        if self._current is None and self._waiting and self._stuck_since is None and not self._transport.is_closing():
            request = self._current = self._waiting.popleft()
            self._task = asyncio.Task(self._answer(request), loop=self._loop, eager_start=True)
        if self._waiting:
            self.pause()

    async def _answer(self, request: Request) -> None:
        reply = Reply(self, request, self._server.date)
        try:
            await self._server.handle(request, reply)
        finally:
            self._answered(request, reply)

    def _answered(self, request: Request, reply: Reply) -> None:
        self._current = self._task = None
        self._active_at = self._loop.time()
        if self._transport.is_closing():
            return
        if not reply.ended:
            self._transport.abort()
        elif not request.complete and not request.gone:
            self._linger()
        elif not request.keep_alive:
            self._transport.close()
        elif self._waiting:
            self._loop.call_soon(self._next)
        else:
            self._read_on()

    def _linger(self) -> None:
        self._deaf = True
        self._read_on()
        self._loop.call_later(self._bounds.linger_s, self._transport.close)

    def _read_on(self) -> None:
        if not self._reading and not self._transport.is_closing():
            self._reading = True
            if self._intake.head_at is not None:  # what is missing of it may have arrived long ago
                self._intake.head_at = self._loop.time()
            self._transport.resume_reading()

    def _refuse(self, fault: RouterError) -> None:
        """Tell what is wrong when it is the request's turn, and close."""
        self._deaf = True
        request = self._intake.incoming
        if request is None or not request.method:
            request = Request(self)
            request.begin("GET", "")
            self._waiting.append(request)
        request.keep_alive = False
        request.fail(fault)

    def _tick(self) -> None:
        """Close what is idle, slow or stuck for too long. One timer lives as long as the connection, for they are not free."""
        now = self._loop.time()
        if self._stuck_since is not None and now - self._stuck_since > self._bounds.stuck_s:
            self._transport.abort()
            return
        if self._current is None:
            begun = self._intake.head_at
            if not self._deaf and begun is not None and now - begun > self._bounds.head_s:
                self._give_up()
            elif now - self._active_at > KEEP_ALIVE_S:
                self._transport.close()
                return
        elif self._waits_for_body() and (fault := self._intake.late()):
            self._refuse(fault)
        self._timer = self._loop.call_later(self._bounds.tick_s, self._tick)

    def _waits_for_body(self) -> bool:
        """Whether it is the client whose turn it is. While we read nothing, a body that does not come is none of its faults."""
        return self._reading and not self._deaf and not self._intake.expects and self._intake.incoming is self._current

    def _give_up(self) -> None:
        """Close a connection whose head does not come to its end, and say so if it has begun."""
        if not self._intake.overhead_bytes:
            self._transport.close()
            return
        self._refuse(SlowHead(f"The request's head was not complete after {self._bounds.head_s:g} s."))
        self._next()
