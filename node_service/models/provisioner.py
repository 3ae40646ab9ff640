"""The one worker that brings models here, one after the other, and starts their engines."""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from node_service.engine.catalogue import EngineCatalogue
from node_service.errors import ArtifactBusy, NoSourceLeft, WeightsError
from node_service.models.loader import Loader
from node_service.models.record import ModelRecord
from node_service.states import ModelState
from node_service.weights.installer import Installer
from node_service.weights.journey import Journey
from node_service.weights.store import Store

__all__ = ["Provisioner"]

_FIRST_RETRY_S = 1.0
_MAX_RETRY_S = 60.0

log = structlog.get_logger(__name__)


class Provisioner:
    """Works on the records that are due, those that need no download first.

    Parameters:
        records: the wanted models by id, kept by the manager.
        departing: those whose engines are still ending; a successor waits for them.
        loader: starts and ends their engines.
        changed: called when a model's state changed.
        drain_deadline_s: how long a stopping engine's requests are waited for.
    """

    def __init__(
        self,
        *,
        store: Store,
        installer: Installer,
        engines: EngineCatalogue,
        records: dict[str, ModelRecord],
        departing: list[ModelRecord],
        loader: Loader,
        changed: Callable[[], None],
        drain_deadline_s: float,
    ) -> None:
        self._store = store
        self._installer = installer
        self._engines = engines
        self._records = records
        self._departing = departing
        self._loader = loader
        self._changed = changed
        self._drain_deadline_s = drain_deadline_s
        self._wake = asyncio.Event()
        self._current: ModelRecord | None = None
        self._job: asyncio.Task[None] | None = None

    def wake(self) -> None:
        """Look for due records now."""
        self._wake.set()

    def repair(self, record: ModelRecord) -> None:
        """Verify a model's files, and bring those here anew that are not right."""
        record.recheck = record.due = True
        self.wake()

    async def run(self) -> None:
        """Work until cancelled."""
        try:
            while True:
                self._wake.clear()
                record = self._next()
                if record is None:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._wake.wait(), self._pause_s())
                    continue
                self._current = record
                self._job = asyncio.create_task(self._work(record))
                await asyncio.wait({self._job})
        finally:
            await self._end_job()

    async def release(self, record: ModelRecord) -> None:
        """Stop everything that is done for a record; requests in flight may end first."""
        record.leaving, record.due = True, False
        if self._current is record:
            await self._end_job()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(record.idle.wait(), self._drain_deadline_s)
        await self._loader.stop(record)

    async def _end_job(self) -> None:
        if self._job is not None:
            self._job.cancel()
            await asyncio.gather(self._job, return_exceptions=True)

    def _waiting(self) -> list[ModelRecord]:
        held_up = {record.spec.id for record in self._departing}
        records = self._records.values()
        return [r for r in records if r.due and not r.leaving and r.spec.id not in held_up]

    def _next(self) -> ModelRecord | None:
        now = time.monotonic()
        due = [record for record in self._waiting() if record.retry_at <= now]
        return next((record for record in due if self._is_here(record)), due[0] if due else None)

    def _is_here(self, record: ModelRecord) -> bool:
        own = not self._engines.needs_weights(record.spec)
        return own or all(self._store.holds(artifact) for artifact in record.spec.artifacts)

    def _pause_s(self) -> float | None:
        times = [record.retry_at for record in self._waiting()]
        return max(0.0, min(times) - time.monotonic()) if times else None

    async def _work(self, record: ModelRecord) -> None:
        record.due = False  # a new order may set it again while this one is worked on
        try:
            if record.recheck and await self._still_good(record):
                return
            record.path = await self._fetch(record)
            self._load(record)
        except (ArtifactBusy, NoSourceLeft) as error:
            transient = isinstance(error, ArtifactBusy) or error.transient
            self._retry(record, str(error)) if transient else self._fail(record, str(error))
        except WeightsError as error:
            self._fail(record, str(error))
        except Exception as error:
            # The worker must outlive what one model does to it; the operator must see it.
            log.exception("provisioning failed unexpectedly", model=record.spec.id)
            self._fail(record, f"internal error: {type(error).__name__}: {error}")

    async def _still_good(self, record: ModelRecord) -> bool:
        """Verify what is here for a new order; the engine goes on meanwhile."""
        record.recheck, ordered = False, record.spec.generation
        try:
            intact = not self._engines.needs_weights(record.spec) or await self._installer.verify(record.spec)
        except Exception:
            # What fails now is this order and not the one before it.
            record.generation = ordered
            raise
        if not (intact and record.ready):
            await self._loader.stop(record)
            return False
        record.generation = ordered
        self._changed()
        return True

    async def _fetch(self, record: ModelRecord) -> Path | None:
        """Bring a model's files here and return the one to open; None where the engine has its own."""
        if record.generation != record.spec.generation:
            # Together, because a report of the new generation must not carry the old one's end.
            record.generation = record.spec.generation
            self._stage(record, ModelState.QUEUED, None)

        if not self._engines.needs_weights(record.spec):
            record.progress.complete(record.spec.size_bytes)
            self._stage(record, ModelState.INSTALLED, None)
            return None

        def phase(state: ModelState) -> None:
            self._stage(record, state, record.stage_error)

        path = await self._installer.provide(Journey(record.spec, record.progress, phase))
        abouts = [self._store.about(artifact.sha256) for artifact in record.spec.artifacts]
        record.installed_at = max(about.installed_at for about in abouts if about is not None)
        self._stage(record, ModelState.INSTALLED, None)
        return path

    def _load(self, record: ModelRecord) -> None:
        """Have a model loaded that is to be loaded at once."""
        reason = self._loader.load(record) if record.spec.resident else None
        if reason is not None:
            self._retry(record, reason)
            return
        record.attempts = 0

    def _retry(self, record: ModelRecord, error: str) -> None:
        record.due = True
        record.attempts += 1
        backoff_s = min(_FIRST_RETRY_S * 2 ** (record.attempts - 1), _MAX_RETRY_S)
        record.retry_at = time.monotonic() + backoff_s * random.uniform(0.8, 1.0)
        log.warning("will try again", model=record.spec.id, error=error, in_s=round(backoff_s, 1))
        installed = record.stage is ModelState.INSTALLED
        self._stage(record, ModelState.INSTALLED if installed else ModelState.QUEUED, error)

    def _fail(self, record: ModelRecord, error: str) -> None:
        log.error("model failed", model=record.spec.id, error=error)
        self._stage(record, ModelState.FAILED, error)

    def _stage(self, record: ModelRecord, stage: ModelState, error: str | None) -> None:
        if (record.stage, record.stage_error) != (stage, error):
            record.stage, record.stage_error = stage, error
            self._changed()
