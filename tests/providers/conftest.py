"""A control API, a router on its store, and providers that look like the real ones."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import httpx2
import pytest

from control_api.keys import load_keys
from control_api.router.record import RequestRecord
from control_api.router.repository import StoreSource
from control_api.router.serve import serve
from control_api.router.settings import RouterSettings
from tests.providers.lookalikes import Lookalike, lookalike
from tests.running import KEY, Api, serving


class Records(list[RequestRecord]):
    """A ``RecordSink`` that keeps everything."""

    dropped = 0

    def record(self, record: RequestRecord) -> None:
        """Take one record."""
        self.append(record)


@pytest.fixture
def records() -> Records:
    """What the router recorded."""
    return Records()


@pytest.fixture
async def router(api: Api, records: Records) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of a router that reads the store of the API."""
    listener = socket.create_server(("127.0.0.1", 0))
    settings = RouterSettings(poll_interval_s=0.02, shutdown_deadline_s=1.0, cloud_timeout_s=1.0)
    source = StoreSource(api.database.control, load_keys(api.settings).routing)
    serving = asyncio.create_task(serve(settings, source, sinks=[records], listener=listener))
    try:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with httpx2.AsyncClient(base_url=url, headers={"authorization": f"Bearer {KEY}"}, timeout=20) as http:
            yield http
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


@contextlib.asynccontextmanager
async def running(name: str) -> AsyncIterator[tuple[Lookalike, str]]:
    """Yield a look-alike and its base URL."""
    provider = lookalike(name)
    async with serving(provider.app) as url:
        yield provider, url + provider.prefix
