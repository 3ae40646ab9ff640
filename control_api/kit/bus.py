"""Events for whoever looks on: written to an outbox in the transaction that caused them, fanned out by each API process.

The outbox makes the bus work between processes on both databases with one mechanism: supervisors, workers and other API
replicas write rows; each API process tails them. Nobody relies on an event having arrived: subscribers read the list first.
"""

import asyncio
import contextlib
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Field, col, delete, select
from sqlmodel.ext.asyncio.session import AsyncSession

from control_api.kit.clock import db_now, utcnow
from control_api.kit.database import Store
from control_api.kit.tables import ControlTable

log = structlog.get_logger()

POLL_S = 0.25
KEEP_S = 600
QUEUE_SIZE = 1000
# Ids of concurrent transactions become visible out of order on PostgreSQL: look back this many rows.
LOOK_BACK = 200


class BusEvent(ControlTable, table=True):
    """One event of the outbox."""

    __tablename__ = "bus_event"
    __table_args__ = {"sqlite_autoincrement": True}

    id: int | None = Field(default=None, primary_key=True)
    topic: str = Field(max_length=64)
    type: str = Field(max_length=64)
    at: datetime = Field(default_factory=utcnow, index=True)
    data: dict[str, Any] = Field(sa_type=sa.JSON)

    def wire(self) -> dict[str, Any]:
        """Return the event as a WebSocket client sees it."""
        return {"topic": self.topic, "type": self.type, "at": self.at.isoformat(), "data": self.data}


def publish(session: AsyncSession, topic: str, type_: str, data: dict[str, Any]) -> None:
    """Add an event to the caller's transaction."""
    session.add(BusEvent(topic=topic, type=type_, data=data))


class Bus:
    """Fans events of the outbox out to the subscribers of this process."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._queues: set[asyncio.Queue[dict[str, Any] | None]] = set()
        self._last_id = 0
        self._seen: set[int] = set()

    @contextlib.contextmanager
    def subscribe(self) -> Iterator[asyncio.Queue[dict[str, Any] | None]]:
        """Yield a queue of events. ``None`` in it means that events were lost: the subscriber fell behind."""
        queue: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue(QUEUE_SIZE)
        self._queues.add(queue)
        try:
            yield queue
        finally:
            self._queues.discard(queue)

    async def run(self) -> None:
        """Tail the outbox until cancelled. A store that is away is tried again at the next turn."""
        await self._skip_history()
        turns = 0
        while True:
            await asyncio.sleep(POLL_S)
            turns += 1
            try:
                await self._turn()
                if turns % 400 == 0:
                    await self._forget_old()
            except (SQLAlchemyError, OSError) as error:
                log.warning("bus.store_unavailable", error=str(error))

    async def _skip_history(self) -> None:
        async with self._store.read() as session:
            latest = select(BusEvent.id).order_by(col(BusEvent.id).desc()).limit(LOOK_BACK)
            self._seen = {i for i in (await session.exec(latest)).all() if i}
        self._last_id = max(self._seen, default=0)

    async def _turn(self) -> None:
        async with self._store.read() as session:
            statement = select(BusEvent).where(
                col(BusEvent.id) > self._last_id - LOOK_BACK, col(BusEvent.id).not_in(self._seen)
            )
            events = (await session.exec(statement.order_by(col(BusEvent.id)).limit(QUEUE_SIZE))).all()
        for event in events:
            self._seen.add(event.id or 0)
            self._deliver(event.wire())
        self._last_id = max([self._last_id, *(event.id or 0 for event in events)])
        self._seen = {i for i in self._seen if i > self._last_id - LOOK_BACK}

    def tell(self, topic: str, type_: str, data: dict[str, Any]) -> None:
        """Hand an event to the subscribers of this process only: what each process finds out by itself."""
        self._deliver(BusEvent(topic=topic, type=type_, data=data).wire())

    def _deliver(self, event: dict[str, Any]) -> None:
        for queue in self._queues:
            try:
                queue.put_nowait(event)
            except asyncio.QueueFull:
                while not queue.empty():
                    queue.get_nowait()
                queue.put_nowait(None)

    async def _forget_old(self) -> None:
        async with self._store.write() as session:
            await session.exec(delete(BusEvent).where(col(BusEvent.at) < db_now(-KEEP_S)))
