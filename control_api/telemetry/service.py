"""Keeps the history from growing without end."""

import asyncio
from datetime import timedelta

import structlog
from sqlalchemy.exc import OperationalError

from control_api.kit.clock import utcnow
from control_api.kit.database import Store
from control_api.telemetry import repository

log = structlog.get_logger()

KEEP = timedelta(days=7)
PRUNE_EVERY_S = 600.0


class HistoryPruner:
    """Deletes requests that are older than seven days, little by little."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def run(self) -> None:
        """Prune until cancelled."""
        while True:
            try:
                await self.prune()
            except OperationalError as error:
                log.warning("telemetry.prune_failed", error=str(error.orig))
            await asyncio.sleep(PRUNE_EVERY_S)

    async def prune(self) -> None:
        """Delete all that is too old, in transactions short enough for others to write in between."""
        before = utcnow() - KEEP
        while True:
            async with self._store.write() as session:
                if not await repository.prune_requests(session, before):
                    return
            await asyncio.sleep(0)
