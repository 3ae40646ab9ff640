"""uvicorn's HTTP/1.1 connection with bounds: on heads, on silence, on what waits behind an answer, on what nobody reads.

llhttp bounds nothing, and uvicorn adds no bound to it. Control plane and node service have the same file.
"""

import asyncio
import contextlib
import resource
from abc import ABC, abstractmethod
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from node_service.bounds import BodyClock, Bounds, Fault, bad_http, fault_of_head, too_large

# The parser gets no more at once, so that what is counted is never far behind what was parsed.
SLICE_BYTES = 8192
# Files that a process needs beside its connections: its store, its logs, its own calls.
OTHER_FILES = 128


class BoundedHttp(HttpToolsProtocol, ABC):
    """A connection of a client. Subclasses say what a refusal looks like, and may set ``bounds``."""

    bounds = Bounds()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._timer: asyncio.TimerHandle | None = None
        self._running: RequestResponseCycle | None = None
        self._held = bytearray()
        self._deaf = False
        self._fault: Fault | None = None
        self._last_words: bytes | None = None
        self._in_head = self._in_body = False
        self._since = 0.0
        self._overhead_bytes = self._lines = self._unread_bytes = 0
        self._body = BodyClock(self.bounds)
        self._stuck_s = 0.0

    @staticmethod
    @abstractmethod
    def error_body(fault: Fault) -> bytes:
        """Return the body of a refusal, as JSON."""

    @staticmethod
    def room() -> int:
        """Return how many connections the process may have."""
        return max(resource.getrlimit(resource.RLIMIT_NOFILE)[0] - OTHER_FILES, OTHER_FILES)

    # What the event loop tells

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the transport, unless there are too many already."""
        super().connection_made(transport)
        self._since = self.loop.time()
        self._timer = self.loop.call_later(self.bounds.tick_s, self._tick)
        if len(self.connections) > self.room():
            self._refuse(Fault(503, "too_many_connections", "There are too many connections. Try again later."))

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the request that is being answered, which need not be the newest."""
        self._stop_timer()
        self._held.clear()
        self.pipeline.clear()
        if self._running and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what the client sent, or keep it while an earlier request is still to be answered."""
        self._unset_keepalive_if_required()
        if self._deaf:
            self.flow.pause_reading()
        elif self._held or self.pipeline:
            self._hold(data)
        else:
            self._parse(data)

    def _hold(self, data: bytes) -> None:
        self._held += data
        self.flow.pause_reading()
        if len(self._held) > self.bounds.held_bytes:
            self._refuse(bad_http("Too much was sent before an earlier request was answered."))

    def _parse(self, data: bytes) -> None:
        start = 0
        while start < len(data) and not self._deaf and not self.transport.is_closing():
            if self.pipeline:
                self._hold(data[start:])
                return
            room = self.bounds.head_bytes - self._overhead_bytes
            if room <= 0:
                self._refuse(too_large(self.bounds))
                return
            piece = data[start : start + min(SLICE_BYTES, room)]
            start += len(piece)
            self._feed(piece)

    def _feed(self, piece: bytes) -> None:
        if not self._in_head and not self._in_body:
            self._begin_head()
        self._overhead_bytes += len(piece)
        super().data_received(piece)
        if self._fault and not self._deaf:
            self._refuse(self._fault)

    def _begin_head(self) -> None:
        self._in_head, self._since = True, self.loop.time()

    # What the parser tells

    def on_message_begin(self) -> None:
        """Take a new request."""
        super().on_message_begin()
        self._begin_head()
        self._lines = 0
        self._body = BodyClock(self.bounds)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; trailers are dropped, for the request may have been looked at before they came."""
        self._lines += 1
        if self._lines > self.bounds.head_lines:
            self._fault = too_large(self.bounds)
        elif self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin to answer, if the head is one."""
        self._fault = self._fault or fault_of_head(self.parser.get_http_version(), self.url, self.headers)
        if self._fault:
            return
        super().on_headers_complete()
        self._in_head, self._in_body = False, True

    def on_body(self, body: bytes) -> None:
        """Hand a piece of the body on; one that nobody wants any more is not read for ever."""
        self._overhead_bytes = 0
        self._body.took(len(body))
        if self._fault:
            return
        super().on_body(body)
        if self.cycle and self.cycle.response_complete:
            self._unread_bytes += len(body)
            if self._unread_bytes > self.bounds.unread_bytes:
                self._fault = Fault(413, "request_too_large", "The request was answered, and its body went on.")

    def on_message_complete(self) -> None:
        """The request is complete."""
        if self._fault:
            return
        self._in_head = self._in_body = False
        self._overhead_bytes = self._unread_bytes = 0
        super().on_message_complete()

    # Answering in order

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """Go on with what has waited for the end of this answer."""
        super().on_response_complete()
        if self.transport.is_closing():
            return
        if self.pipeline:
            self.flow.pause_reading()
        elif self._last_words is not None and self._is_answered():
            self._leave(self._last_words)
        elif self._held and not self._deaf:
            self._unset_keepalive_if_required()
            held, self._held = bytes(self._held), bytearray()
            self._parse(held)

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over; this object has no more to do with it."""
        if self._fault or self._deaf:
            return
        if not self._is_answered():
            self._fault = bad_http("The connection cannot be upgraded before an earlier request is answered.")
            return
        self._stop_timer()
        self._deaf = True
        super().handle_websocket_upgrade()

    def _unsupported_upgrade_warning(self) -> None:
        """Answer as if nothing else had been offered; what follows cannot be understood."""
        self._deaf = True
        if self.cycle:
            self.cycle.keep_alive = False

    def _is_answered(self) -> bool:
        return not self.pipeline and (self._running is None or self._running.response_complete)

    # Refusing

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP."""
        self._refuse(self._fault or bad_http(msg))

    def _refuse(self, fault: Fault) -> None:
        """Say what is wrong when it is the request's turn, and close. Nothing more is read."""
        if self._deaf:
            return
        self._deaf = True
        self._held.clear()
        self.flow.pause_reading()
        words = _answer(fault.status, self.error_body(fault))
        if self._in_body and self.cycle:
            words = self._cut(self.cycle, words)
        if self._is_answered():
            self._leave(words)
        else:
            self._last_words = words

    def _cut(self, cycle: RequestResponseCycle, words: bytes) -> bytes:
        """Give a request up whose body cannot be read, and return what there is still to say."""
        queued = [entry for entry in self.pipeline if entry[0] is cycle]
        if queued:
            self.pipeline.remove(queued[0])
            return words
        begun = cycle.response_started
        cycle.disconnected = cycle.response_complete = True
        cycle.message_event.set()
        return b"" if begun else words

    def _leave(self, words: bytes) -> None:
        self._deaf = True
        self._stop_timer()
        self._unset_keepalive_if_required()
        self.flow.pause_reading()
        self.transport.write(words)
        # First: without it, a connection that is not heard any more would never be closed.
        self._timer = self.loop.call_later(self.bounds.linger_s, self.transport.abort)
        if self.transport.can_write_eof():
            # Whoever has left hears no end.
            with contextlib.suppress(OSError):
                self.transport.write_eof()

    # Time

    def _stop_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        """Look for what takes too long. One timer lives as long as the connection."""
        self._timer = self.loop.call_later(self.bounds.tick_s, self._tick)
        self._stuck_s = self._stuck_s + self.bounds.tick_s if self.flow.write_paused else 0.0
        if self._stuck_s > self.bounds.stuck_s:
            self.transport.abort()
        elif self.flow.read_paused or self._deaf:
            self._since = self.loop.time()
        elif self._in_body:
            if fault := self._body.tick():
                self._refuse(fault)
        elif self.loop.time() - self._since > self.bounds.head_s:
            if self._in_head:
                message = f"The request's head was not complete after {self.bounds.head_s:g} s."
                self._refuse(Fault(408, "request_timeout", message))
            elif self.cycle is None:
                self.transport.close()


def _answer(status: int, body: bytes) -> bytes:
    head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
    return STATUS_LINE[status] + head + body
