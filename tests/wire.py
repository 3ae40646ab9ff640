"""A client that sends bytes, whatever they are, and says what came back and how much of them was taken."""

import asyncio
import contextlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from control_api.kit.tasks import owned_task

LONGEST_S = 20.0
MIB = 1 << 20
HUGE_HEAD = (b"GET /healthz HTTP/1.1\r\nhost: x\r\n", *[b"x-a: " + b"a" * MIB + b"\r\n"] * 400)


@dataclass(frozen=True)
class Heard:
    """What a server sent, whether it closed, and how many bytes left for it (what the kernels hold is counted)."""

    back: bytes
    closed: bool
    sent_bytes: int

    @property
    def statuses(self) -> list[int]:
        """The statuses of all answers, in order."""
        return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", self.back)]


async def talk(url: str, pieces: Iterable[bytes], enough: Callable[[bytes], bool] = lambda _: False) -> Heard:
    """Send pieces until the server takes no more, and listen until it closes, or until there is enough."""
    where = urlsplit(url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    sent_bytes = 0

    async def send() -> None:
        nonlocal sent_bytes
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                sent_bytes += len(piece)

    back, closed = b"", False
    sending = asyncio.create_task(send())
    try:
        async with asyncio.timeout(LONGEST_S):
            while not enough(back) and not closed:
                piece = await reader.read(65536)
                back, closed = back + piece, not piece
    except ConnectionError:
        closed = True
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        writer.transport.abort()
    return Heard(back, closed, sent_bytes)


async def drip(url: str, beginning: bytes, drop: bytes) -> Heard:
    """Send a beginning and then drop by drop, and return what came back."""
    where = urlsplit(url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    writer.write(beginning)

    async def dripping() -> None:
        while not writer.is_closing():
            writer.write(drop)
            await asyncio.sleep(0.03)

    back = b""
    with contextlib.suppress(ConnectionError):
        async with owned_task(dripping(), name="drip"), asyncio.timeout(LONGEST_S):
            while piece := await reader.read(65536):
                back += piece
    writer.close()
    return Heard(back, True, 0)
