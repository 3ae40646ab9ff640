"""Files on the hub, read as streams: opened with a Range. Nothing is kept."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from urllib.parse import quote

import httpx2

from control_api.catalogue.gguf import MAX_HEADER_BYTES, BadHeader, GgufHeader, HeaderReader
from control_api.catalogue.transport import HubTransport
from control_api.errors import TooMany, Unavailable
from control_api.settings import Settings

# A header may have 64 MiB, which a hub decides: whoever registers models shall not keep the others from being answered.
HEADERS_AT_ONCE = 2


class Files(ABC):
    """Files of a place that has models, a hub or a mirror, and the headers of those that are GGUF."""

    def __init__(self, settings: Settings) -> None:
        self._timeout_s = settings.hub_timeout_s
        self._places = asyncio.Semaphore(HEADERS_AT_ONCE)

    async def header(self, repo: str, revision: str, path: str) -> GgufHeader:
        """Read the header of a GGUF file and not a piece more, after those that are being read already.

        Raises ``BadHeader`` (not GGUF), ``Unavailable`` (the file cannot be read, or not within the hub's time limit),
        ``BadAnswer``, or ``TooMany`` if others took that time.
        """
        waits = self._places.locked()
        try:
            async with asyncio.timeout(self._timeout_s), self._places:
                return await self._read_header(repo, revision, path)
        except TimeoutError as error:
            if waits:
                raise _busy(path) from error
            raise _unreadable(path, f"no header within {self._timeout_s:g} s") from error
        except httpx2.HTTPError as error:
            raise _unreadable(path, str(error) or type(error).__name__) from error

    async def _read_header(self, repo: str, revision: str, path: str) -> GgufHeader:
        reader = HeaderReader()
        async with self.open(repo, revision, path, byte_range=f"bytes=0-{MAX_HEADER_BYTES - 1}") as response:
            if response.status_code not in (200, 206):
                raise _unreadable(path, f"the hub answered {response.status_code}")
            async for piece in response.aiter_raw():
                # A piece can hold thousands of entries; meanwhile others must be answered.
                if await asyncio.to_thread(reader.feed, piece):
                    return reader.header
        raise BadHeader("it ends within its header")

    @abstractmethod
    def open(
        self, repo: str, revision: str, path: str, *, byte_range: str | None
    ) -> AbstractAsyncContextManager[httpx2.Response]:
        """Yield a file, or the part of it that is asked for, as a hub's answer of whatever status, before its body is read."""


class HubFiles(Files):
    """Opens files of one hub."""

    def __init__(self, settings: Settings, transport: HubTransport) -> None:
        super().__init__(settings)
        self._transport = transport

    @asynccontextmanager
    async def open(self, repo: str, revision: str, path: str, *, byte_range: str | None) -> AsyncIterator[httpx2.Response]:
        """Ask the hub for a file and yield its answer, of whatever status, before the body is read.

        Raises as ``HubTransport.open`` does.
        """
        where = f"/{repo}/resolve/{quote(revision, safe='')}/{quote(path)}"
        async with self._transport.open(where, {"range": byte_range} if byte_range else {}) as response:
            yield response


def _unreadable(what: str, reason: str) -> Unavailable:
    return Unavailable(f"{what} cannot be read from the hub: {reason[:300]}", code="hub_unreachable")


def _busy(what: str) -> TooMany:
    return TooMany(
        f"{what} was not read: the headers of other files were read until the hub's time limit.",
        code="hub_busy",
        hint="Try again.",
        headers={"retry-after": "10"},
    )
