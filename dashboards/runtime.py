"""What one dashboard process owns: its connections, its sessions, the shared store, and every task it started."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import structlog

from control_api.client import ApiError, Client
from dashboards.auth import Sessions
from dashboards.router_client import RouterClient
from dashboards.settings import DashboardSettings
from dashboards.store import FleetStore

log = structlog.get_logger()


class Runtime:
    """The parts that all browser tabs share."""

    def __init__(self, settings: DashboardSettings) -> None:
        self.settings = settings
        self.client = Client(settings.api_url)
        self.sessions = Sessions(self.client)
        self.router = RouterClient(settings.router_url)
        self._service: Client | None = None
        self.store: FleetStore | None = None
        if token := settings.service_token():
            self._service = Client(settings.api_url, token)
            self.store = FleetStore(self._service)
        # The service key makes the API believe for whom this process asks.
        self.entry = self._service or self.client
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Keep the shared store fresh while inside; end every task and connection on leaving."""
        self._loop = asyncio.get_running_loop()
        if self.store:
            self.spawn(self._share(self.store), "dashboard-store")
        try:
            yield
        finally:
            await self._close()

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Start a task that ends with this process at the latest. What it raises is logged."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def spawn_soon(self, work: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        """Start a task from whatever thread this is called in; not any more when the process is ending."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(lambda: self.spawn(work(), name))

    def client_of(self, session_id: str) -> Client:
        """Return a client that carries the token of one user."""

        async def token() -> str:
            return await self.sessions.token(session_id)

        return Client(self.settings.api_url, token)

    async def _share(self, store: FleetStore) -> None:
        while True:
            try:
                await store.run()
            except* ApiError as errors:
                log.error("dashboard.service_token_refused", error=str(errors.exceptions[0]))
            await asyncio.sleep(10)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("dashboard.task_failed", task=task.get_name(), exc_info=error)

    async def _close(self) -> None:
        self._loop = None
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for closable in (self.client, self._service, self.router):
            if closable:
                await closable.aclose()
