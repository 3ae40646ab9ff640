"""Which workers are there: each says so now and then, so that jobs that nobody takes are noticed."""

import asyncio

import sqlalchemy as sa
import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import col, delete, update
from sqlmodel.ext.asyncio.session import AsyncSession

from control_api.automation.models import WorkerPresence
from control_api.kit.clock import db_now
from control_api.kit.database import Store

log = structlog.get_logger()

# A worker says that it is there so often,
SAID_EVERY_S = 10.0
# counts as gone after so long,
GONE_AFTER_S = 45
# and is forgotten then, if it was killed.
FORGET_AFTER_S = 86400


class Presence:
    """Says that a worker is there.

    Parameters
    ----------
    name: the worker's, as the jobs have it that it claims.
    """

    def __init__(self, store: Store, name: str) -> None:
        self._store = store
        self._name = name

    async def run(self) -> None:
        """Say so until cancelled, and then that it is gone. A store that is away is told later."""
        try:
            while True:
                await self._say(here=True)
                await asyncio.sleep(SAID_EVERY_S)
        finally:
            await self._say(here=False)

    async def _say(self, *, here: bool) -> None:
        try:
            async with self._store.write() as session:
                await (_here(session, self._name) if here else _gone(session, self._name))
        except (SQLAlchemyError, OSError) as error:
            log.warning("worker.presence_not_told", error=str(error))


async def _here(session: AsyncSession, name: str) -> None:
    own = update(WorkerPresence).where(col(WorkerPresence.name) == name).values(seen_at=db_now())
    if not (await session.exec(own)).rowcount:
        connection = await session.connection()
        await connection.execute(sa.insert(WorkerPresence).values(name=name, seen_at=db_now()))
        await session.exec(delete(WorkerPresence).where(col(WorkerPresence.seen_at) < db_now(-FORGET_AFTER_S)))


async def _gone(session: AsyncSession, name: str) -> None:
    await session.exec(delete(WorkerPresence).where(col(WorkerPresence.name) == name))
