"""A control API, a router on its store, and providers that look like the real ones."""

import contextlib
from collections.abc import AsyncIterator

import httpx2
import pytest

from control_api.keys import load_keys
from control_api.router.record import RequestRecord
from control_api.router.repository import StoreSource
from control_api.router.settings import RouterSettings
from tests.providers.lookalikes import Lookalike, lookalike
from tests.router.running import running_router
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
    settings = RouterSettings(poll_interval_s=0.02, shutdown_deadline_s=1.0, cloud_timeout_s=1.0)
    source = StoreSource(api.database.control, load_keys(api.settings).routing)
    async with running_router(settings, source, key=KEY, sinks=[records]) as http:
        yield http


@contextlib.asynccontextmanager
async def running(name: str) -> AsyncIterator[tuple[Lookalike, str]]:
    """Yield a look-alike and its base URL."""
    provider = lookalike(name)
    async with serving(provider.app) as url:
        yield provider, url + provider.prefix
