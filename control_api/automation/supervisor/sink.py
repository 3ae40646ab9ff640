"""From ansible-runner's thread to the store: a bounded queue, batches, and nothing lost while the store is away."""

import asyncio
import queue
import threading
from typing import Any

import structlog
from sqlalchemy.exc import SQLAlchemyError

from control_api.automation import repository
from control_api.automation.event import RunLog
from control_api.kit.database import Store

log = structlog.get_logger()

BATCH = 200
EVERY_S = 0.3
QUEUE_SIZE = 2000

Row = dict[str, Any]


class EventSink:
    """Takes events in any thread and writes them in the event loop."""

    def __init__(self, store: Store, run_log: RunLog) -> None:
        self._store = store
        self._log = run_log
        # Full means that the store is away: the run waits, and ends with the lease if that takes too long.
        self._queue: queue.Queue[Row] = queue.Queue(QUEUE_SIZE)
        self._batch: list[Row] = []
        self._lock = threading.Lock()
        self._draining = asyncio.Lock()

    def handle(self, raw: dict[str, Any]) -> bool:
        """Take an event of ansible-runner and return False: it needs no file.

        Never raises: an error would end the thread of ansible-runner and leave Ansible running unattended.
        """
        try:
            with self._lock:
                row = self._log.row(raw)
            if row:
                self._queue.put(row)
        except Exception as error:  # noqa: BLE001 - see above; counted, so that the API says that an event is missing
            self._log.lost()
            log.error("event.lost", error=repr(error))
        return False

    async def note(self, text: str, *, host: str | None = None, status: str | None = None) -> None:
        """Add an event of the supervisor itself."""
        with self._lock:
            row = self._log.note(text, host=host, status=status)
        await asyncio.to_thread(self._queue.put, row)

    async def run(self) -> None:
        """Write what comes, until cancelled. A batch that could not be written is tried again."""
        while True:
            await asyncio.sleep(EVERY_S)
            try:
                await self.drain()
            except (SQLAlchemyError, OSError) as error:
                log.warning("events.store_unavailable", error=str(error))

    async def drain(self) -> None:
        """Write everything that is queued. Raises what the store raises; the batch is kept then."""
        async with self._draining:
            while True:
                while len(self._batch) < BATCH and not self._queue.empty():
                    self._batch.append(self._queue.get_nowait())
                if not self._batch:
                    return
                async with self._store.write() as session:
                    await repository.add_events(session, self._batch)
                self._batch = []
