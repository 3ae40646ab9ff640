"""One connection to a node: HTTP/1.1 parsed by llhttp in its strict mode, one exchange at a time, everything bounded."""

import asyncio
import socket
from collections.abc import Callable
from typing import cast

import httptools

from control_api.router.answer import Answer
from control_api.router.upstream import AnswerLost, AnswerTimeout, NodeFailure, Timeouts

# Between two pieces of a body there are heads, trailers and sizes of chunks; more of them than this is no honest answer.
OVERHEAD_LIMIT_BYTES = 1 << 16
# Shorter than uvicorn's usual 5 s on the node's side: an idle connection is closed by the router, never under a request.
IDLE_S = 4.0
# Up to this a body goes out in one piece with its head.
SMALL_BODY_BYTES = 1 << 16
_FORWARDED = (b"content-type", b"retry-after")
_FRAMING = (b"content-length", b"transfer-encoding")


# A host that is cut off says nothing at all: the kernel asks after KEEPALIVE_S without a byte, and gives it up when nothing
# that was sent has been acknowledged for DEAD_HOST_S. A host that is only busy acknowledges.
KEEPALIVE_S = 2
DEAD_HOST_S = 10


def _watch(transport: asyncio.Transport) -> None:
    tcp = transport.get_extra_info("socket")
    tcp.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_S)
    tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_S)
    tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_HOST_S * 1000)


class Connection(asyncio.Protocol):
    """A keep-alive connection.

    Parameters
    ----------
    on_idle: called when it may carry another request.
    on_lost: called when it is gone.
    timeouts: longest times without a byte, until an answer has begun and afterwards.
    """

    _transport: asyncio.Transport
    _timer: asyncio.TimerHandle

    def __init__(
        self, on_idle: Callable[["Connection"], None], on_lost: Callable[["Connection"], None], timeouts: Timeouts
    ) -> None:
        self._on_idle = on_idle
        self._on_lost = on_lost
        self._timeouts = timeouts
        self._silence_s = timeouts.first_byte_s
        self._tick_s = min(IDLE_S, timeouts.first_byte_s, timeouts.stall_s)
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)
        self._answer: Answer | None = None
        self._in_head = True
        self._informational = False
        self._reusable = False
        self._paused = False
        self._overhead_bytes = 0
        self._active_at = self._loop.time()

    @property
    def usable(self) -> bool:
        """Whether a request may be sent over it."""
        return self._answer is None and not self._transport.is_closing() and self._loop.time() < self._active_at + IDLE_S

    def start(self, head: bytes, body: bytes) -> Answer:
        """Send a request and return its answer, which is still to come."""
        answer = self._answer = Answer(self)
        self._in_head, self._overhead_bytes, self._active_at = True, 0, self._loop.time()
        self._silence_s = self._timeouts.first_byte_s
        if len(body) <= SMALL_BODY_BYTES:
            self._transport.write(head + body)
        else:
            self._transport.write(head)
            self._transport.write(body)
        return answer

    def begun(self) -> None:
        """Count silence from the first data of the answer on."""
        self._silence_s = self._timeouts.stall_s

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    def pause(self) -> None:
        """Read nothing for now: whoever reads the answer is slow."""
        if not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self._paused and not self._transport.is_closing():
            self._paused, self._active_at = False, self._loop.time()
            self._transport.resume_reading()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = cast(asyncio.Transport, transport)
        _watch(self._transport)
        self._timer = self._loop.call_later(self._tick_s, self._tick)

    def connection_lost(self, error: Exception | None) -> None:
        """End the answer: properly only if nothing but the end of the connection could have ended it."""
        self._timer.cancel()
        self._on_lost(self)
        if answer := self._take_answer():
            if answer.status and not answer.framed and error is None:
                answer.complete = True
                answer.wake()
            else:
                answer.fail(AnswerLost(f"the connection broke: {error or 'closed by the node'}"))

    def data_received(self, data: bytes) -> None:
        """Parse what the node sent."""
        answer = self._answer
        if answer is None:
            self._transport.abort()  # nobody asked
            return
        if not self._in_head:  # a head that comes byte by byte is as good as silence
            self._active_at = self._loop.time()
        self._overhead_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(AnswerLost(f"the answer is no HTTP: {error}"))
            return
        if self._overhead_bytes > OVERHEAD_LIMIT_BYTES:
            self._fail(AnswerLost("the answer has too much beside its body"))
            return
        if answer.complete:
            self._finish()
        answer.wake()

    def on_message_begin(self) -> None:
        """Refuse a second answer to one request."""
        if self._answer is None or self._answer.complete:
            raise ValueError("more than one answer")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep the few headers that matter; trailers do not."""
        answer, name = self._answer, name.lower()
        if answer is None or not self._in_head:
            return
        if name in _FRAMING:
            answer.framed = True
        elif name in _FORWARDED:
            answer.headers[name] = value

    def on_headers_complete(self) -> None:
        """The head is here; informational ones are passed over."""
        status = self._parser.get_status_code()
        self._informational = 100 <= status < 200
        if answer := self._answer:
            if self._informational:
                answer.headers.clear()
                answer.framed = False
            else:
                self._in_head, answer.status = False, status
                self._active_at = self._loop.time()

    def on_body(self, piece: bytes) -> None:
        """Hand a piece of the body on."""
        self._overhead_bytes = 0
        if self._answer:
            self._answer.add(piece)

    def on_message_complete(self) -> None:
        """The answer has come to its proper end; the parser knows only now whether the connection lives on."""
        if not self._informational and self._answer:
            self._answer.complete = True
            self._reusable = self._parser.should_keep_alive()

    def _finish(self) -> None:
        self._take_answer()
        if self._reusable and not self._transport.is_closing():
            self.resume()
            self._on_idle(self)
        else:
            self._transport.close()

    def _fail(self, failure: NodeFailure) -> None:
        answer = self._take_answer()
        self._transport.abort()
        if answer and not answer.complete:
            answer.fail(failure)
        elif answer:
            answer.wake()

    def _take_answer(self) -> Answer | None:
        answer, self._answer = self._answer, None
        return answer

    def _tick(self) -> None:
        """Close what is idle or silent for too long. One timer lives as long as the connection, for they are not free."""
        now = self._loop.time()
        if self._paused:
            self._active_at = now
        end = self._active_at + (self._silence_s if self._answer else IDLE_S)
        if now < end:
            self._timer = self._loop.call_at(min(end, now + self._tick_s), self._tick)
        elif self._answer:
            self._fail(AnswerTimeout(f"no byte for {self._silence_s:.0f} s"))
        else:
            self._transport.close()
