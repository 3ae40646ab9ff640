"""Reads an artifact's bytes by Range requests, from where the last attempt stopped."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import httpx2

from node_service.errors import SourceInterrupted, SourceRefused
from node_service.redirects import NameUnresolved, RedirectingClient, RedirectRefused
from node_service.weights.part import PartFile
from node_service.weights.sources import Location

__all__ = ["FetchLimits", "Fetcher"]

_BLOCK_BYTES = 2**20
_BLOCK_S = 1.0  # a slow source's bytes are on disk after this long
_ANSWER_LIMIT = 500  # characters
_BUSY = (408, 416, 429)


@dataclass(frozen=True)
class FetchLimits:
    """When a source is given up: no byte for `stall_s`, or fewer than `least_bps` over it."""

    connect_s: float = 10.0
    stall_s: float = 30.0
    least_bps: float = 1024.0


class Fetcher:
    """Streams from one location into a part file."""

    def __init__(self, http: RedirectingClient, limits: FetchLimits) -> None:
        self._http = http
        self._limits = limits
        self._timeout = httpx2.Timeout(limits.stall_s, connect=limits.connect_s)

    async def fetch(self, location: Location, size: int, part: PartFile, moved: Callable[[int], None]) -> None:
        """Read until `part` holds `size` bytes; what was read stays there on an error.

        Parameters:
            moved: called with the number of bytes that are on the disk.

        Raises:
            SourceInterrupted: the source broke off, stalled or is overloaded.
            SourceRefused: it does not serve this file, or serves another one.
        """
        resumable = True
        try:
            async with self._open(location, part.size) as response:
                resumable = response.status_code == 206
                await self._position(location, response, size, part)
                await self._drain(location, response, size, part, moved)
        except httpx2.HTTPError as error:
            stalled = isinstance(error, httpx2.TimeoutException)
            reason = f"no byte for {self._limits.stall_s:g} s" if stalled else str(error) or type(error).__name__
            where = f"at {part.size} of {size} bytes" + ("" if resumable else ", and it cannot resume")
            raise SourceInterrupted(f"{location.label}: {reason}; {where}") from error

    @asynccontextmanager
    async def _open(self, location: Location, start: int) -> AsyncIterator[httpx2.Response]:
        """Ask for the bytes from `start` on, following the redirects that are allowed."""
        asking = self._http.get(
            location.url,
            headers={"range": f"bytes={start}-"},
            credentials=location.headers,
            max_redirects=location.max_redirects,
            timeout=self._timeout,
        )
        try:
            async with asking as response:
                yield response
        except RedirectRefused as error:
            raise SourceRefused(f"{location.label}: {error}") from error
        except NameUnresolved as error:
            raise SourceInterrupted(f"{location.label}: {error}") from error

    async def _position(self, location: Location, response: httpx2.Response, size: int, part: PartFile) -> None:
        """Check that the answer goes on where the part ends, or start again."""
        status = response.status_code
        if status == 206:
            expected = f"bytes {part.size}-{size - 1}/"
            got = response.headers.get("content-range", "")
            if not got.startswith(expected):
                raise SourceRefused(f"{location.label}: sent {got!r} instead of {expected}{size}")
        elif status == 200:
            await part.restart()
        elif status in _BUSY or status >= 500:
            raise SourceInterrupted(f"{location.label}: answered {await _answer(response)}")
        else:
            raise SourceRefused(f"{location.label}: answered {await _answer(response)}")

    async def _drain(
        self,
        location: Location,
        response: httpx2.Response,
        size: int,
        part: PartFile,
        moved: Callable[[int], None],
    ) -> None:
        """Copy the body to the part."""
        received = part.size
        pace = _Pace(self._limits)
        writer = _BlockWriter(part, moved)
        try:
            async for chunk in response.aiter_raw():
                received += len(chunk)
                if received > size:
                    raise SourceRefused(f"{location.label}: sends more than {size} bytes")
                await writer.add(chunk)
                if pace.too_slow(len(chunk)):
                    raise SourceInterrupted(f"{location.label}: too slow, at {received} bytes")
        finally:
            await writer.finish()
        if part.size < size:
            raise SourceInterrupted(f"{location.label}: ended at {part.size} of {size} bytes")


async def _answer(response: httpx2.Response) -> str:
    """Return an error's status and, from our own services, its words; only the first piece of the body is read."""
    async for piece in response.aiter_raw():
        # RecursionError: what a source answers may be nested as deep as it likes.
        with suppress(ValueError, KeyError, TypeError, RecursionError):
            return f"{response.status_code}: {str(json.loads(piece)['error']['message'])[:_ANSWER_LIMIT]}"
        break
    return str(response.status_code)


class _Pace:
    """Tells when a source drips: it sends, but will never come to an end."""

    def __init__(self, limits: FetchLimits) -> None:
        self._limits = limits
        self._since = time.monotonic()
        self._bytes = 0

    def too_slow(self, count: int) -> bool:
        self._bytes += count
        elapsed_s = time.monotonic() - self._since
        if elapsed_s < self._limits.stall_s:
            return False
        slow = self._bytes < self._limits.least_bps * elapsed_s
        self._since, self._bytes = time.monotonic(), 0
        return slow


class _BlockWriter:
    """Collects chunks and writes them in blocks, while the next ones are read."""

    def __init__(self, part: PartFile, moved: Callable[[int], None]) -> None:
        self._part = part
        self._moved = moved
        self._block = bytearray()
        self._block_at = time.monotonic()
        self._writing: asyncio.Task[None] | None = None

    async def add(self, chunk: bytes) -> None:
        self._block += chunk
        due = time.monotonic() - self._block_at > _BLOCK_S
        if due or len(self._block) >= _BLOCK_BYTES:
            await self._write()

    async def finish(self) -> None:
        """Write what is left; also when the fetch was cancelled, so that no byte is lost."""
        await self._write()
        await self._written()

    async def _write(self) -> None:
        await self._written()
        block, self._block = self._block, bytearray()
        self._block_at = time.monotonic()
        self._writing = asyncio.create_task(self._part.append(block))

    async def _written(self) -> None:
        if self._writing is not None:
            writing, self._writing = self._writing, None
            # Shielded: a thread cannot be stopped, and the part must not be closed under it.
            await asyncio.shield(writing)
            self._moved(self._part.size)
