"""The fetcher against sources that stall or drip, with deadlines short enough to wait for."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from node_service.control import tls_context
from node_service.errors import SourceInterrupted, SourceRefused
from node_service.redirects import RedirectingClient
from node_service.weights.fetch import Fetcher, FetchLimits
from node_service.weights.part import PartFile
from node_service.weights.sources import Location

pytestmark = pytest.mark.anyio

HEAD = b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-99999/100000\r\nContent-Length: 100000\r\n\r\n"


@contextlib.contextmanager
def source(behave: Callable[[socket.socket, threading.Event], None]) -> Iterator[str]:
    """Serve one connection as `behave` says, until the test is over."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                behave(connection, over)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/file"
        over.set()
        thread.join(10)


async def fetch(url: str, path: Path, limits: FetchLimits, size: int = 100_000) -> int:
    """Fetch and return how many bytes are on the disk, whatever happens."""
    part = PartFile(path)
    await part.open()
    try:
        async with contextlib.aclosing(RedirectingClient(tls_context(None))) as http:
            await Fetcher(http, limits).fetch(Location("test", url), size, part, lambda _: None)
    finally:
        await part.close()
    return path.stat().st_size


def stall(connection: socket.socket, over: threading.Event) -> None:
    connection.sendall(HEAD + b"x" * 5000)
    over.wait(30)


def drip(connection: socket.socket, over: threading.Event) -> None:
    connection.sendall(HEAD)
    try:
        while not over.wait(0.05):
            connection.sendall(b"x")
    except OSError:
        return


def too_much(connection: socket.socket, over: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b"x" * 200_000)


def other_range(connection: socket.socket, over: threading.Event) -> None:
    connection.sendall(HEAD.replace(b"bytes 0-", b"bytes 7-") + b"x" * 5000)


async def test_stalled_source_is_left_and_its_bytes_are_kept(tmp_path: Path) -> None:
    part = tmp_path / "part"
    with source(stall) as url, pytest.raises(SourceInterrupted, match=r"no byte for 0\.2 s; at 5000 of 100000"):
        await fetch(url, part, FetchLimits(stall_s=0.2))
    assert part.stat().st_size == 5000


async def test_dripping_source_is_left(tmp_path: Path) -> None:
    with source(drip) as url, pytest.raises(SourceInterrupted, match="too slow"):
        await fetch(url, tmp_path / "part", FetchLimits(stall_s=0.3))


async def test_source_that_sends_too_much_is_refused(tmp_path: Path) -> None:
    with source(too_much) as url, pytest.raises(SourceRefused, match="more than 100000 bytes"):
        await fetch(url, tmp_path / "part", FetchLimits())
    assert (tmp_path / "part").stat().st_size <= 100_000


async def test_source_that_sends_another_range_is_refused(tmp_path: Path) -> None:
    with source(other_range) as url, pytest.raises(SourceRefused, match="instead of bytes 0-"):
        await fetch(url, tmp_path / "part", FetchLimits())
    assert (tmp_path / "part").stat().st_size == 0


async def test_unreachable_source_is_interrupted(tmp_path: Path) -> None:
    with pytest.raises(SourceInterrupted, match="test: "):
        await fetch("http://127.0.0.1:9/file", tmp_path / "part", FetchLimits(connect_s=2))
