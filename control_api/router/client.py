"""The client's side of a request: its head, its body as it arrives, and the moment when it leaves."""

import asyncio
import re
from typing import Protocol
from urllib.parse import unquote

from control_api.kit.ids import new_id
from control_api.router.errors import RouterError, TooLarge

# So much of a body may arrive before somebody has looked at the head.
UNREAD_LIMIT_BYTES = 1 << 18
_SANE_ID = re.compile(rb"[\x21-\x7e]{1,128}\Z")


class BodySource(Protocol):
    """What a request needs of the connection that it comes over."""

    def pause(self) -> None:
        """Read nothing for now."""
        ...

    def resume(self) -> None:
        """Read on; the body is wanted."""
        ...


class Request:
    """One HTTP request, filled by its connection.

    Parameters
    ----------
    path: decoded, without the query.
    headers: by lower-case name, the last of equal ones.
    id: the client's own ``x-request-id`` if it is sane.
    complete: all of it has arrived.
    keep_alive: another one may follow. ``chunked``: the answer may be sent in pieces whose sizes are told.
    gone: the client has left; there is nobody to answer.
    fault: why it cannot be read, to be told as the answer.
    """

    __slots__ = (
        "_pieces", "_size", "_source", "_waiter", "_wanted",
        "chunked", "complete", "fault", "gone", "headers", "id", "keep_alive", "method", "path",
    )  # fmt: skip

    def __init__(self, source: BodySource) -> None:
        self.method = ""
        self.path = ""
        self.headers: dict[bytes, bytes] = {}
        self.id = ""
        self.complete = False
        self.keep_alive = False
        self.chunked = True
        self.gone = False
        self.fault: RouterError | None = None
        self._source = source
        self._pieces: list[bytes] = []
        self._size = 0
        self._wanted = False
        self._waiter: asyncio.Future[None] | None = None

    def begin(self, method: str, target: str) -> None:
        """The head has arrived; ``target`` is its path and query."""
        path = target.partition("?")[0]
        self.method = method
        self.path = unquote(path) if "%" in path else path
        given = self.headers.get(b"x-request-id")
        self.id = given.decode() if given and _SANE_ID.match(given) else new_id()

    def header(self, name: bytes) -> str | None:
        """Return a header's value, ``None`` if it was not sent."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")

    def add(self, piece: bytes) -> None:
        """A piece of the body is here."""
        self._pieces.append(piece)
        self._size += len(piece)
        if not self._wanted and self._size > UNREAD_LIMIT_BYTES:
            self._source.pause()
        self._wake()

    def end(self) -> None:
        """The body is complete."""
        self.complete = True
        self._wake()

    def fail(self, fault: RouterError) -> None:
        """The rest cannot be read."""
        self.fault = fault
        self._wake()

    @property
    def size_bytes(self) -> int:
        """How much of the body has arrived."""
        return self._size

    async def body(self, limit_bytes: int) -> bytes:
        """Return the whole body. Raises ``TooLarge``, or the request's fault."""
        declared = self.headers.get(b"content-length", b"0")
        if not self.complete and int(declared) <= limit_bytes:
            await self._receive(limit_bytes)
        if self._size > limit_bytes or int(declared) > limit_bytes:
            self._pieces.clear()
            raise TooLarge(f"The request is larger than {limit_bytes} bytes.")
        return self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)

    async def _receive(self, limit_bytes: int) -> None:
        self._wanted = True
        self._source.resume()
        while not self.complete and self._size <= limit_bytes:
            if self.fault:
                raise self.fault
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter

    def _wake(self) -> None:
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)
