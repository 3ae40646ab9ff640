"""Files on the hub, read as streams: opened with a Range. Nothing is kept."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import quote

import httpx2

from control_api.catalogue.gguf import MAX_HEADER_BYTES, BadHeader, GgufHeader, HeaderReader
from control_api.catalogue.transport import HubTransport
from control_api.errors import Unavailable
from control_api.settings import Settings


class HubFiles:
    """Opens files of one hub."""

    def __init__(self, settings: Settings, transport: HubTransport) -> None:
        self._timeout_s = settings.hub_timeout_s
        self._transport = transport

    async def header(self, repo: str, revision: str, path: str) -> GgufHeader:
        """Read the header of a GGUF file and not a piece more.

        Raises ``BadHeader`` (not GGUF), ``Unavailable`` (the file cannot be read, or not within the hub's time limit) or
        ``BadAnswer``.
        """
        reader = HeaderReader()
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                self.open(repo, revision, path, byte_range=f"bytes=0-{MAX_HEADER_BYTES - 1}") as response,
            ):
                if response.status_code not in (200, 206):
                    raise _unreadable(path, f"the hub answered {response.status_code}")
                async for piece in response.aiter_raw():
                    if reader.feed(piece):
                        return reader.header
        except (TimeoutError, httpx2.HTTPError) as error:
            raise _unreadable(path, str(error) or f"no header within {self._timeout_s:g} s") from error
        raise BadHeader("it ends within its header")

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
