"""A real router on a real port."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import httpx2

from control_api.router.serve import serve
from control_api.router.settings import RouterSettings


@contextlib.asynccontextmanager
async def running_router(settings: RouterSettings, source: Any, *, key: str, **sinks: Any) -> AsyncIterator[httpx2.AsyncClient]:
    """Run a router and yield a client for it with an API key; ``sinks``: those of ``serve``."""
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    serving = asyncio.create_task(serve(settings, source, listener=listener, **sinks))
    try:
        async with httpx2.AsyncClient(base_url=url, headers={"authorization": f"Bearer {key}"}, timeout=20) as http:
            yield http
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
