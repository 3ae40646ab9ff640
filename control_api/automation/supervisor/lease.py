"""The lease of an attempt: renewed by the supervisor alone, and what stops the run when it cannot be."""

import asyncio
import os
import time
from enum import StrEnum

import structlog
from sqlalchemy.exc import SQLAlchemyError

from control_api.automation import repository
from control_api.automation.order import RunOrder
from control_api.kit.clock import db_now
from control_api.kit.database import Store

log = structlog.get_logger()

POLL_S = 1.0


class Stop(StrEnum):
    """Why a run is ended before its time."""

    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    TERMINATED = "terminated"
    LEASE_LOST = "lease_lost"
    GIVEN_UP = "given_up"


class Lease:
    """Renews the lease and looks whether the job was cancelled.

    Attributes
    ----------
    stop: resolved with the first reason to end the run.
    """

    def __init__(self, store: Store, order: RunOrder, beat: int) -> None:
        self._store = store
        self._order = order
        self._beat = beat
        self._renewed_at = self._now()
        self.stop: asyncio.Future[Stop] = asyncio.get_running_loop().create_future()

    @staticmethod
    def _now() -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def end(self, reason: Stop) -> None:
        """Ask for the run to be ended; the first reason counts."""
        if not self.stop.done():
            log.info("run.stopping", job_id=self._order.job_id, reason=reason)
            self.stop.set_result(reason)

    async def renew(self, **values: object) -> bool:
        """Renew once, changing the job's row as well; False if the attempt was given up by the workers."""
        until = db_now(self._order.lease.reusable_s)
        async with self._store.write() as session:
            ours = await repository.update_running(
                session, self._order.job_id, self._order.attempt, lease_until=until, **values
            )
        if ours:
            self._renewed_at = self._now()
            os.write(self._beat, b".")
        return ours

    async def run(self) -> None:
        """Renew and look every second, until cancelled."""
        # Two tasks: a store that hangs rather than fails must not keep us from noticing how long it has been.
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep())
            tasks.create_task(self._watch_silence())

    async def _watch_silence(self) -> None:
        # In short steps: the machine may sleep, and this clock goes on then.
        while True:
            await asyncio.sleep(POLL_S)
            if self._now() - self._renewed_at > self._order.lease.term_s:
                self.end(Stop.LEASE_LOST)

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(POLL_S)
            try:
                await self._turn()
            except (SQLAlchemyError, OSError) as error:
                log.warning("lease.store_unavailable", error=str(error))

    async def _turn(self) -> None:
        if self._now() - self._renewed_at >= self._order.lease.renew_s and not await self.renew():
            self.end(Stop.GIVEN_UP)
        async with self._store.read() as session:
            if await repository.cancel_requested(session, self._order.job_id):
                self.end(Stop.CANCELLED)
