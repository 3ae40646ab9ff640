"""Where route tables come from, and the task that keeps the newest one in memory."""

import asyncio
from collections.abc import Callable
from typing import Protocol

import structlog

from control_api.router.errors import NotReady
from control_api.router.table import RouteTable

log = structlog.get_logger()

LOAD_TIMEOUT_S = 5.0


class RouteTableSource(Protocol):
    """A place that holds the routes."""

    async def load(self, known_revision: int | None) -> RouteTable | None:
        """Return the table, or ``None`` if it still has ``known_revision``. Any error means: not now."""
        ...


class TablePoller:
    """Keeps the newest route table. When the source fails, the last table stays in force."""

    def __init__(self, source: RouteTableSource, *, interval_s: float, adopt: Callable[[RouteTable], None]) -> None:
        self._source = source
        self._interval_s = interval_s
        self._adopt = adopt
        self._next_round = asyncio.Event()
        self._failing = False
        self._table: RouteTable | None = None

    @property
    def loaded(self) -> bool:
        """Whether there is a table."""
        return self._table is not None

    @property
    def table(self) -> RouteTable:
        """The newest table. Raises ``NotReady`` before there is one."""
        if self._table is None:
            raise NotReady("The router has not read its routes yet.", code="no_ready_node", retry_after_s=1)
        return self._table

    async def run(self) -> None:
        """Poll until cancelled."""
        while True:
            this_round, self._next_round = self._next_round, asyncio.Event()
            await self._poll()
            this_round.set()
            await asyncio.sleep(self._interval_s)

    async def wait_for_refresh(self) -> None:
        """Wait for the end of a poll that begins after this call, but no longer than a poll should take."""
        try:
            async with asyncio.timeout(2 * self._interval_s + 0.5):
                await self._next_round.wait()
        except TimeoutError:
            log.warning("router.refresh_late")

    async def _poll(self) -> None:
        known = self._table.revision if self._table else None
        try:
            async with asyncio.timeout(LOAD_TIMEOUT_S):
                table = await self._source.load(known)
        except Exception as error:  # whatever is wrong with the store, answers go on from the last table
            if not self._failing:
                log.warning("router.table_unavailable", revision=known, exc_info=error)
            self._failing = True
            return
        if self._failing:
            log.info("router.table_available", revision=known)
        self._failing = False
        if table is not None:
            self._table = table
            self._adopt(table)
