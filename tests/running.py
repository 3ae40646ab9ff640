"""A real control API for tests: served by uvicorn on a free port, on a store of its own."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import uvicorn
from fastapi import FastAPI

from control_api.app import create_app
from control_api.client import Client
from control_api.kit.database import Database
from control_api.kit.secretbox import SecretBox
from control_api.kit.serving import uvicorn_config
from control_api.kit.tasks import owned_task
from control_api.kit.tls import trusted
from control_api.migrations import runner
from control_api.settings import Settings

WAIT_S = 30.0
KEY = "mk_" + "t" * 40


async def until[Value](look: Callable[[], Awaitable[Value]], *, what: str, timeout_s: float = WAIT_S) -> Value:
    """Look again and again until there is something true; fail naming what was waited for."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    while True:
        if value := await look():
            return value
        if asyncio.get_running_loop().time() > deadline:
            raise AssertionError(f"waited {timeout_s} s in vain: {what}")
        await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def serving(app: FastAPI | Any, trusted_proxies: Sequence[str] = (), **options: Any) -> AsyncIterator[str]:
    """Yield the URL of an app that is served on a free port."""
    server = uvicorn.Server(uvicorn_config(app, "127.0.0.1", 0, trusted_proxies, **options))
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    async with owned_task(server._serve(), name="test server") as task:

        async def started() -> bool:
            if task.done():
                task.result()
            return server.started

        await until(started, what="the server to start")
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        server.should_exit = True
        await asyncio.wait({task}, timeout=15)


@dataclass
class Api:
    """A running control API, an admin's client, and its store."""

    url: str
    settings: Settings
    key: str
    client: Client
    http: httpx2.AsyncClient
    database: Database


@contextlib.asynccontextmanager
async def running_api(settings: Settings, *, migrated: bool = False, **options: Any) -> AsyncIterator[Api]:
    """Yield a control API that runs with these settings; the store is migrated first, unless it is the copy of one that was."""
    if not migrated:
        await runner.upgrade(settings)
    database = Database.open(settings.control_url, settings.telemetry_url)
    try:
        async with serving(create_app(settings, **options), settings.trusted_proxies) as url:
            reaching = {"headers": {"authorization": f"Bearer {KEY}"}, "timeout": 30, "verify": trusted()}
            async with Client(url, KEY) as client, httpx2.AsyncClient(base_url=url, **reaching) as http:
                yield Api(url, settings, KEY, client, http, database)
    finally:
        await database.close()


def settings_for(folder: Path, **values: Any) -> Settings:
    """Return settings whose state is in a folder of the test's own."""
    folders = {"state_dir": folder / "state", "cache_dir": folder / "cache", "run_dir": folder / "runs"}
    return Settings(**{**folders, "bootstrap_api_key": KEY, **values})


def on_postgres(url: str) -> dict[str, Any]:
    """Return the settings of a store on PostgreSQL, which makes no keys of its own."""
    return {"database_url": url, "routing_key": SecretBox.new_key(), "credentials_key": SecretBox.new_key()}
