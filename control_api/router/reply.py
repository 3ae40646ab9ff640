"""What goes back to the client: one whole answer or one stream of events, and errors in either."""

import time
from email.utils import formatdate
from http import HTTPStatus
from typing import Protocol

from control_api.router.client import Request
from control_api.router.errors import RouterError

JSON = b"application/json"
_STREAM = b"content-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\nx-accel-buffering: no\r\n"
_AS_IT_SAYS = b"x-content-type-options: nosniff\r\n"
_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
# Up to this a body goes out in one piece with its head.
SMALL_BODY_BYTES = 1 << 16


class Writer(Protocol):
    """What an answer needs of the connection that it goes over."""

    def write(self, data: bytes) -> None:
        """Send bytes."""
        ...

    async def drain(self) -> None:
        """Wait until the client has read enough for more to be sent."""
        ...


class DateLine:
    """The ``date`` header, written once a second."""

    def __init__(self) -> None:
        self._second = 0
        self._line = b""

    def line(self) -> bytes:
        """Return the header as it is now."""
        if (second := int(time.time())) != self._second:
            self._second, self._line = second, f"date: {formatdate(second, usegmt=True)}\r\n".encode()
        return self._line


class Reply:
    """The one answer to a request. Headers are given as lines that end in CRLF.

    ``common``: headers of any answer to this request. ``status`` is the one that was sent; ``error_code`` says how it ended,
    if badly; ``ended``: it came to its proper end.
    """

    __slots__ = ("_date", "_request", "_writer", "common", "ended", "error_code", "status")

    def __init__(self, writer: Writer, request: Request, date: DateLine) -> None:
        self._writer = writer
        self._request = request
        self._date = date
        self.common = b""
        self.ended = False
        self.status: int | None = None
        self.error_code: str | None = None

    def whole(self, status: int, body: bytes, content_type: bytes = JSON, headers: bytes = b"") -> None:
        """Send a complete answer."""
        head = self._head(status, b"content-type: %b\r\ncontent-length: %d\r\n%b" % (content_type, len(body), headers))
        self.ended = True
        if self._request.method == "HEAD":
            self._writer.write(head)
        elif len(body) <= SMALL_BODY_BYTES:
            self._writer.write(head + body)
        else:
            self._writer.write(head)
            self._writer.write(body)

    def empty(self, headers: bytes = b"") -> None:
        """Send an answer without a body."""
        self.ended = True
        self._writer.write(self._head(204, headers))

    def begin_stream(self, headers: bytes = b"") -> None:
        """Send the head of a stream of events, unless that has happened."""
        if self.status is None:
            frame = b"transfer-encoding: chunked\r\n" if self._request.chunked else b""
            self._writer.write(self._head(200, _STREAM + frame + headers))

    async def events(self, data: bytes) -> None:
        """Send complete events; waits while the client has not read the ones before."""
        self._writer.write(b"%x\r\n%b\r\n" % (len(data), data) if self._request.chunked else data)
        await self._writer.drain()

    def end_stream(self, data: bytes = b"") -> None:
        """Send the last events and end the stream properly."""
        self.ended = True
        if self._request.chunked:
            last = b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data) if data else b"0\r\n\r\n"
            self._writer.write(last)
        elif data:
            self._writer.write(data)

    def fail(self, error: RouterError, headers: bytes = b"") -> None:
        """Send an error: as the answer, or as the last frame of a stream that has begun; nothing after its end."""
        self.error_code = error.code
        if self.ended:
            return
        if self.status is None:
            own = "".join(f"{name}: {value}\r\n" for name, value in error.headers.items())
            self.whole(error.status, error.body(), headers=own.encode() + headers)
        else:
            self.end_stream(b"data: " + error.body() + b"\n\n")

    def _head(self, status: int, headers: bytes) -> bytes:
        self.status = status
        request = self._request
        line = _STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status
        close = b"" if request.keep_alive and request.complete else b"connection: close\r\n"
        common = self.common + close + _AS_IT_SAYS
        return b"%b%b%bx-request-id: %b\r\n%b\r\n" % (line, headers, common, request.id.encode(), self._date.line())
