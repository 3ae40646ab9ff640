"""Giving up the locks on hosts when the part of a playbook that changes them is over."""

import asyncio
import contextlib
from typing import Any

import structlog
from sqlalchemy.exc import SQLAlchemyError

from control_api.automation import repository
from control_api.automation.order import RunOrder
from control_api.kit.database import Store

log = structlog.get_logger()

RETRY_S = 1.0


class HostRelease:
    """Waits for the play that the order names and gives up the locks then."""

    def __init__(self, store: Store, order: RunOrder) -> None:
        self._store = store
        self._order = order
        self._loop = asyncio.get_running_loop()
        self._reached = asyncio.Event()

    def look(self, raw: dict[str, Any]) -> None:
        """Look at an event of ansible-runner, in its thread. Never raises."""
        data = raw.get("event_data")
        if raw.get("event") != "playbook_on_play_start" or not isinstance(data, dict):
            return
        if self._order.unlocks_at and data.get("play") == self._order.unlocks_at:
            # The loop may be closed: a thread that outlived a killed run has nobody left to tell.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._reached.set)

    async def run(self) -> None:
        """Give up the locks once it is time; tried again while the store is away."""
        await self._reached.wait()
        while True:
            try:
                async with self._store.write() as session:
                    return await repository.release_hosts(session, self._order.job_id, self._order.attempt)
            except (SQLAlchemyError, OSError) as error:
                log.warning("release.store_unavailable", error=str(error))
            await asyncio.sleep(RETRY_S)
