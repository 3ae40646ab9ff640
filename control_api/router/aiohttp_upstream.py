"""Upstream over aiohttp."""

import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from control_api.router.upstream import AnswerLost, AnswerTimeout, AnswerTooLarge, Unreachable, UpstreamRequest

# Shorter than uvicorn's 5 s on the node's side: an idle connection is closed by the router, never under a request.
KEEP_ALIVE_S = 4.0
# Above this a body is written piece by piece, so that other requests get their turn.
LARGE_BODY_BYTES = 1 << 18
_FORWARDED = ("content-type", "retry-after")


class AiohttpAnswer:
    """An answer of aiohttp."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status = response.status
        self.headers = {name: response.headers[name] for name in _FORWARDED if name in response.headers}

    async def read(self, limit_bytes: int) -> bytes:
        """Return the whole body."""
        pieces, size = [], 0
        while piece := await self.chunk():
            size += len(piece)
            if size > limit_bytes:
                raise AnswerTooLarge(f"more than {limit_bytes} bytes")
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def chunk(self) -> bytes:
        """Return what has arrived of the body; empty at the end."""
        try:
            return await self._response.content.readany()
        except TimeoutError as error:
            raise AnswerTimeout(str(error)) from error
        except (aiohttp.ClientError, OSError) as error:
            raise AnswerLost(str(error)) from error

    def close(self) -> None:
        """Close the connection unless the answer was complete."""
        self._response.close()


class AiohttpUpstream:
    """Sends requests through one aiohttp session."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    @classmethod
    @asynccontextmanager
    async def open(cls, *, connect_timeout_s: float, silence_timeout_s: float) -> AsyncIterator["AiohttpUpstream"]:
        """Yield an upstream whose connections are closed at the end. The number of connections is bounded by the leases."""
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_S),
            timeout=aiohttp.ClientTimeout(total=None, connect=connect_timeout_s, sock_read=silence_timeout_s),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("user-agent", "accept-encoding"),
            auto_decompress=False,
            trust_env=False,
        ) as session:
            yield cls(session)

    async def send(self, request: UpstreamRequest) -> AiohttpAnswer:
        """Send a request and wait for the headers of the answer."""
        url = request.node.base_url + request.path
        body = request.body if len(request.body) <= LARGE_BODY_BYTES else io.BytesIO(request.body)
        try:
            response = await self._session.post(url, data=body, headers=request.headers, allow_redirects=False)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL) as error:
            raise Unreachable(str(error)) from error
        except TimeoutError as error:
            raise AnswerTimeout(str(error)) from error
        except (aiohttp.ClientError, OSError) as error:
            raise AnswerLost(str(error)) from error
        return AiohttpAnswer(response)
