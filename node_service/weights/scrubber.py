"""Hashes installed files again from time to time: disks forget, and a damaged file must not answer."""

import asyncio
import contextlib
import time
from collections.abc import Callable

import structlog

from node_service.models.record import ModelRecord
from node_service.states import ModelState
from node_service.weights.part import file_digest
from node_service.weights.store import Store
from node_service.wire import Artifact

__all__ = ["Scrubber"]

_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 3600.0

log = structlog.get_logger(__name__)


class Scrubber:
    """Looks for the file that was verified longest ago, one at a time.

    Parameters:
        records: the wanted models by id, kept by the manager.
        damaged: told of a model with a file that is not what it should be.
        interval_s: how often each file is verified; 0: never.
    """

    def __init__(
        self,
        *,
        store: Store,
        records: dict[str, ModelRecord],
        damaged: Callable[[ModelRecord], None],
        interval_s: float,
    ) -> None:
        self._store = store
        self._records = records
        self._damaged = damaged
        self._interval_s = interval_s

    async def run(self) -> None:
        """Verify until cancelled."""
        while True:
            age_s, record, artifact = self._oldest()
            if not self._interval_s or record is None or artifact is None or age_s < self._interval_s:
                await asyncio.sleep(self._pause_s(age_s))
            elif await self._is_good(artifact):
                self._store.note_verified(artifact.sha256)
            elif self._records.get(record.spec.id) is record:
                log.error("installed artifact is damaged", model=record.spec.id, sha256=artifact.sha256)
                # While it is due for repair, it is not looked at again.
                self._damaged(record)

    def _pause_s(self, age_s: float) -> float:
        due_in_s = max(self._interval_s - age_s, _SHORTEST_PAUSE_S)
        return min(due_in_s, _LONGEST_PAUSE_S) if self._interval_s else _LONGEST_PAUSE_S

    def _oldest(self) -> tuple[float, ModelRecord | None, Artifact | None]:
        """Return the installed artifact that was verified longest ago, and how many seconds ago."""
        now = time.time()
        found: tuple[float, ModelRecord | None, Artifact | None] = (0.0, None, None)
        for record in self._records.values():
            for artifact in record.spec.artifacts if record.stage is ModelState.INSTALLED and not record.due else ():
                verified_at = self._store.verified_at(artifact.sha256)
                if verified_at is not None and now - verified_at >= found[0]:
                    found = now - verified_at, record, artifact
        return found

    async def _is_good(self, artifact: Artifact) -> bool:
        path = self._store.find(artifact.sha256)
        with contextlib.suppress(OSError):
            return path is None or await asyncio.to_thread(file_digest, path) == artifact.sha256
        return self._store.find(artifact.sha256) is None
