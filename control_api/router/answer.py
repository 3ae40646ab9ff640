"""A node's answer: its connection fills it from one side, the dispatcher empties it from the other."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from control_api.router.upstream import AnswerLost, AnswerTooLarge, NodeFailure

# So much of a stream may wait for a slow client; then nothing more is read from the node.
HIGH_WATER_BYTES = 1 << 18


class Line(Protocol):
    """What an answer needs of the connection that it comes over."""

    def abort(self) -> None:
        """Close at once."""
        ...

    def pause(self) -> None:
        """Read nothing for now."""
        ...

    def resume(self) -> None:
        """Read on."""
        ...

    def begun(self) -> None:
        """Count silence from the first data on."""
        ...


class Answer:
    """An ``UpstreamAnswer``. ``framed``: its end can be told from the end of the connection."""

    __slots__ = (
        "_failure",
        "_high_water",
        "_line",
        "_paused",
        "_pieces",
        "_size",
        "_waiter",
        "complete",
        "framed",
        "headers",
        "status",
    )

    def __init__(self, line: Line) -> None:
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.complete = False
        self.framed = False
        self._line = line
        self._pieces: list[bytes] = []
        self._size = 0
        self._high_water = HIGH_WATER_BYTES
        self._paused = False
        self._waiter: asyncio.Future[None] | None = None
        self._failure: NodeFailure | None = None

    def add(self, piece: bytes) -> None:
        """A piece of the body is here."""
        self._pieces.append(piece)
        self._size += len(piece)
        if self._size > self._high_water and not self._paused:
            self._paused = True
            self._line.pause()

    def fail(self, failure: NodeFailure) -> None:
        """Nothing more will come."""
        self._failure = failure
        self.wake()

    def wake(self) -> None:
        """Call whoever waits: something has changed."""
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)

    async def head(self) -> None:
        """Wait for status and headers."""
        await self._until(lambda: self.status)

    async def read(self, limit_bytes: int) -> bytes:
        """Return the whole body. Raises ``AnswerTooLarge``, and ``AnswerLost`` for one whose end cannot be told."""
        self._high_water = limit_bytes
        self._resume()
        await self._until(lambda: self.complete or self._size > limit_bytes)
        if self._size > limit_bytes:
            raise AnswerTooLarge(f"more than {limit_bytes} bytes")
        if not self.framed:
            raise AnswerLost("nothing says where the answer ends")
        return self._take()

    async def chunk(self) -> bytes:
        """Return what has arrived of the body; empty at the end."""
        await self._until(lambda: self._pieces or self.complete)
        return self._take()

    def begun(self) -> None:
        """The first data is here."""
        self._line.begun()

    def close(self) -> None:
        """Close the connection unless the answer was complete."""
        if not self.complete:
            self._line.abort()

    async def _until(self, condition: Callable[[], object]) -> None:
        while not condition():
            if self._failure:
                raise self._failure
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None

    def _take(self) -> bytes:
        pieces, self._pieces, self._size = self._pieces, [], 0
        self._resume()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _resume(self) -> None:
        if self._paused:
            self._paused = False
            self._line.resume()
