"""Servers for the tests: an ASGI application on a real port, in a thread with its own loop."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import uvicorn

from control_api.dashboard import LARGEST_MESSAGE_BYTES
from control_api.kit.serving import uvicorn_config

START_S = 60


@dataclass(frozen=True)
class Running:
    """A server that answers at ``url``."""

    url: str
    loop: asyncio.AbstractEventLoop

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function on the server's loop and return its result."""
        done: Future[Any] = Future()
        self.loop.call_soon_threadsafe(lambda: done.set_result(function(*args)))
        return done.result(10)


@contextmanager
def serving(make_app: Callable[[], Any]) -> Iterator[Running]:
    """Serve an application while inside."""
    started: Future[Running] = Future()
    servers: list[uvicorn.Server] = []

    async def serve() -> None:
        config = uvicorn_config(make_app(), "127.0.0.1", 0, largest_message_bytes=LARGEST_MESSAGE_BYTES, deflate=True)
        server = uvicorn.Server(config)
        servers.append(server)
        task = asyncio.create_task(server._serve())
        while not server.started and not task.done():
            await asyncio.sleep(0.01)
        if server.started:
            port = server.servers[0].sockets[0].getsockname()[1]
            started.set_result(Running(f"http://127.0.0.1:{port}", asyncio.get_running_loop()))
        await task

    def run() -> None:
        try:
            asyncio.run(serve())
        finally:
            started.cancel()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield started.result(START_S)
    finally:
        for server in servers:
            server.should_exit = True
        thread.join(START_S)
