"""The client's side of a request: its headers and body, and the moment when it leaves."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any

from control_api.kit.ids import new_id
from control_api.router.errors import SlowBody, TooLarge

# A body must go on arriving; the router holds a caller's memory while it waits.
BODY_SILENCE_S = 30.0
_SANE_ID = re.compile(rb"[\x21-\x7e]{1,128}\Z")

type Receive = Callable[[], Awaitable[dict[str, Any]]]


class ClientGone(Exception):
    """The client left before its request was complete: there is nobody to answer."""


class Request:
    """One HTTP request. ``id`` is the client's own ``x-request-id`` if it is sane."""

    def __init__(self, scope: dict[str, Any], receive: Receive) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.receive = receive
        given = self.headers.get(b"x-request-id", b"")
        self.id = given.decode() if _SANE_ID.match(given) else new_id()

    def header(self, name: bytes) -> str | None:
        """Return a header's value, ``None`` if it was not sent."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")

    async def body(self, limit_bytes: int) -> bytes:
        """Return the whole body. Raises ``TooLarge``, ``SlowBody`` or ``ClientGone``."""
        declared = self.headers.get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > limit_bytes:
            raise _too_large(limit_bytes)
        piece, more = await self._receive_body()
        pieces, size = [piece], len(piece)
        while more and size <= limit_bytes:
            piece, more = await self._receive_body()
            pieces.append(piece)
            size += len(piece)
        if size > limit_bytes:
            raise _too_large(limit_bytes)
        return b"".join(pieces)

    async def _receive_body(self) -> tuple[bytes, bool]:
        """Return the next piece and whether more comes."""
        try:
            async with asyncio.timeout(BODY_SILENCE_S):
                message = await self.receive()
        except TimeoutError as error:
            raise SlowBody("The request's body stopped arriving.", headers={"connection": "close"}) from error
        if message["type"] == "http.disconnect":
            raise ClientGone
        return message.get("body", b""), message.get("more_body", False)


def _too_large(limit_bytes: int) -> TooLarge:
    return TooLarge(f"The request is larger than {limit_bytes} bytes.")


class ClientWatch:
    """Cancels the block that it encloses when the client leaves, and ends that cancellation at the block's end.

    Use it once the body was read. ``gone`` tells afterwards what happened.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.gone = False

    async def __aenter__(self) -> "ClientWatch":
        self._enclosed = asyncio.current_task()
        self._watcher = asyncio.create_task(self._watch(), name="router.client_watch")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._watcher.cancel()
        await asyncio.wait((self._watcher,))
        own = self.gone and self._enclosed is not None and self._enclosed.uncancel() == 0
        return own and kind is asyncio.CancelledError

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.gone = True
        if self._enclosed:
            self._enclosed.cancel()
