"""What goes back to the client, as ASGI messages: one whole answer or one stream of events, and errors in either."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from control_api.router.errors import RouterError

# A client that reads nothing for so long has left without saying so, and holds a node's slot.
SLOW_CLIENT_S = 60.0
JSON = b"application/json"

type Header = tuple[bytes, bytes]
type Send = Callable[[dict[str, Any]], Awaitable[None]]


class SlowClient(Exception):
    """The client does not read its answer."""


class Reply:
    """The one answer to a request. ``status`` is the one that was sent; ``error_code`` says how it ended, if badly."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self._request_id = request_id.encode()
        self._ended = False
        self.status: int | None = None
        self.error_code: str | None = None

    async def whole(self, status: int, body: bytes, content_type: bytes = JSON, headers: Iterable[Header] = ()) -> None:
        """Send a complete answer."""
        await self._start(status, [(b"content-type", content_type), (b"content-length", b"%d" % len(body)), *headers])
        await self._end(body)

    async def empty(self, headers: Iterable[Header] = ()) -> None:
        """Send an answer without a body."""
        await self._start(204, list(headers))
        await self._end()

    async def begin_stream(self, headers: Iterable[Header] = ()) -> None:
        """Send the head of a stream of events, unless that has happened."""
        if self.status is None:
            head = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
            await self._start(200, [*head, (b"x-accel-buffering", b"no"), *headers])

    async def events(self, data: bytes) -> None:
        """Send complete events. Raises ``SlowClient`` when the client has not read the ones before."""
        try:
            async with asyncio.timeout(SLOW_CLIENT_S):
                await self._send({"type": "http.response.body", "body": data, "more_body": True})
        except TimeoutError as error:
            raise SlowClient from error

    async def end_stream(self) -> None:
        """End the stream properly."""
        await self._end()

    async def fail(self, error: RouterError, headers: Iterable[Header] = ()) -> None:
        """Send an error: as the answer, or as the last frame of a stream that has begun; nothing after its end."""
        self.error_code = error.code
        if self._ended:
            return
        if self.status is None:
            own = [(name.encode(), value.encode()) for name, value in error.headers.items()]
            await self.whole(error.status, error.body(), headers=[*own, *headers])
        else:
            await self.events(b"data: " + error.body() + b"\n\n")
            await self.end_stream()

    async def _start(self, status: int, headers: list[Header]) -> None:
        self.status = status
        headers.append((b"x-request-id", self._request_id))
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def _end(self, body: bytes = b"") -> None:
        self._ended = True
        await self._send({"type": "http.response.body", "body": body})
