"""Writes finished requests to the telemetry store, in batches, after their answers. A slow store costs records, not answers."""

import asyncio
import contextlib
import zlib
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import structlog
from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError

from control_api.kit.clock import utcnow
from control_api.kit.database import Store
from control_api.kit.tasks import owned_task
from control_api.router.record import RequestRecord
from control_api.telemetry import repository

log = structlog.get_logger()

WRITE_EVERY_S = 0.5
BATCH = 1000
PENDING_LIMIT = 20_000
PENDING_CONTENT_LIMIT_BYTES = 64 << 20
WRITE_TIMEOUT_S = 10.0
_COLUMNS = ("at", *RequestRecord._fields)


class History:
    """A ``RecordSink``. What waits to be written is bounded by number and size; ``dropped`` counts what did not fit."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._pending: list[tuple[datetime, RequestRecord]] = []
        self._content_bytes = 0
        self._failing = False
        self.dropped = 0

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, store: Store) -> AsyncIterator["History"]:
        """Yield a history that is being written; what is left at the end is written then."""
        history = cls(store)
        async with owned_task(history.run(), name="router.history"):
            yield history
        await history.flush()

    def record(self, record: RequestRecord) -> None:
        """Take one record."""
        size = _content_bytes(record)
        if len(self._pending) >= PENDING_LIMIT or self._content_bytes + size > PENDING_CONTENT_LIMIT_BYTES:
            self.dropped += 1
            return
        self._content_bytes += size
        self._pending.append((utcnow(), record))

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await asyncio.sleep(WRITE_EVERY_S)
            await self.flush()

    async def flush(self) -> None:
        """Write what has come until now. While the store is away it stays for the next time; what is refused is dropped."""
        while batch := self._pending[:BATCH]:
            try:
                async with asyncio.timeout(WRITE_TIMEOUT_S):
                    await self._write(batch)
                self._failing = False
            except (OperationalError, InterfaceError, OSError) as error:
                if not self._failing:
                    log.warning("router.history_unavailable", exc_info=error)
                self._failing = True
                return
            except SQLAlchemyError:
                log.exception("router.history_refused", records=len(batch))
                self.dropped += len(batch)
            del self._pending[: len(batch)]
            self._content_bytes -= sum(_content_bytes(record) for _, record in batch)

    async def _write(self, batch: list[tuple[datetime, RequestRecord]]) -> None:
        if any(_content_bytes(record) for _, record in batch):
            rows = await asyncio.to_thread(_rows, batch)
        else:
            rows = _rows(batch)
        async with self._store.write() as session:
            await repository.add_requests(session, _COLUMNS, rows)


def _content_bytes(record: RequestRecord) -> int:
    return len(record.request_content or b"") + len(record.response_content or b"")


def _rows(batch: list[tuple[datetime, RequestRecord]]) -> list[tuple[Any, ...]]:
    """Return rows in the order of the columns; the contents come last in a record."""
    return [(at, *record[:-2], _packed(record.request_content), _packed(record.response_content)) for at, record in batch]


def _packed(content: bytes | None) -> bytes | None:
    return None if content is None else zlib.compress(content, 1)
