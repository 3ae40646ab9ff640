"""Starts and ends the models' engines, and keeps those that are loaded on demand within the memory budget."""

import asyncio
import time
from collections.abc import Callable

import structlog

from node_service.engine.catalogue import EngineCatalogue
from node_service.engine.supervisor import EngineSupervisor
from node_service.errors import ModelFailed, NodeBusy
from node_service.models.record import ModelRecord
from node_service.models.residency import Loaded, Memory, Room, make_room, spread

__all__ = ["Loader"]

log = structlog.get_logger(__name__)


class Loader:
    """Resident models are loaded when they are here; the others by the first request that asks for them.

    Parameters:
        records: the wanted models by id, kept by the manager.
        memory: the memory of each device that engines compute on.
        obstacle: says why no engine may be started now, or None.
        changed: called when a model's state changed.
    """

    def __init__(
        self,
        *,
        engines: EngineCatalogue,
        records: dict[str, ModelRecord],
        memory: Callable[[], Memory],
        obstacle: Callable[[], str | None],
        changed: Callable[[], None],
    ) -> None:
        self._engines = engines
        self._records = records
        self._memory = memory
        self._obstacle = obstacle
        self._changed = changed
        self._endings: set[asyncio.Task[None]] = set()
        self.reserve_bytes = 0  # of each device, as the manifest says

    def load(self, record: ModelRecord) -> str | None:
        """Load a resident model; return why that cannot be now, or None."""
        if (obstacle := self._obstacle()) is not None:
            return obstacle
        room = self._room_for(record)
        # Whether residents fit beside each other was decided where they were placed.
        if room.short_bytes and any(other.holds_memory for other in self._others(record) if not other.spec.resident):
            return f"waits until models that were loaded on demand are idle: {_gb(room.short_bytes)} too little"
        self._begin(record, room)
        return None

    def want(self, record: ModelRecord) -> None:
        """Begin to load a model that is loaded on demand, because a request asks for it.

        Raises:
            ModelFailed: it cannot be loaded on this node as it is.
            NodeBusy: there is no room until other models' requests have ended.
        """
        if record.spec.resident or not record.unloaded:
            return
        if (obstacle := self._obstacle()) is not None:
            raise ModelFailed(f"{record.spec.id} cannot be loaded: {obstacle}", param="model")
        room = self._room_for(record)
        if room.short_bytes:
            raise self._no_room(record)
        self._begin(record, room)

    async def stop(self, record: ModelRecord) -> None:
        """End a record's engine at once, also while it is being loaded."""
        loading, record.loading = record.loading, None
        if loading is not None:
            loading.cancel()
            await asyncio.gather(loading, return_exceptions=True)
        task = record.engine_task
        record.engine = record.engine_task = None
        await _end(task)

    async def close(self) -> None:
        """Wait for engines that are ending."""
        await asyncio.gather(*self._endings, return_exceptions=True)

    def _begin(self, record: ModelRecord, room: Room) -> None:
        for model_id in room.unload:
            self._unload(self._records[model_id])
        record.loading_since = time.monotonic()
        record.loading = asyncio.create_task(self._start(record))
        self._changed()

    def _unload(self, record: ModelRecord) -> None:
        log.info("unloading", model=record.spec.id)
        task = record.engine_task
        record.engine = record.engine_task = None
        ending = asyncio.create_task(_end(task))
        self._endings.add(ending)
        ending.add_done_callback(self._endings.discard)

    async def _start(self, record: ModelRecord) -> None:
        """Start an engine once all that are ending have given their memory back."""
        await asyncio.gather(*self._endings, return_exceptions=True)
        record.loading = None
        record.engine = EngineSupervisor(record.spec, record.path, self._engines, self._changed)
        record.engine_task = asyncio.create_task(record.engine.run())
        self._changed()

    def _budget(self) -> Memory:
        return {device: max(0, total - self.reserve_bytes) for device, total in self._memory().items()}

    def _room_for(self, record: ModelRecord) -> Room:
        budget = self._budget()
        loaded = [
            Loaded(other.spec.id, self._needs(other, budget), other.last_used, other.movable)
            for other in self._others(record)
            if other.holds_memory
        ]
        return make_room(self._needs(record, budget), budget, loaded)

    def _others(self, record: ModelRecord) -> list[ModelRecord]:
        return [other for other in self._records.values() if other is not record]

    def _needs(self, record: ModelRecord, budget: Memory) -> Memory:
        """Return what a model needs of each device; a server that is not ours has its own."""
        if not self._engines.needs_weights(record.spec):
            return {}
        return spread(record.spec.memory_bytes, budget, record.spec.gpu_uuids)

    def _no_room(self, record: ModelRecord) -> ModelFailed | NodeBusy:
        """Return the error for a model that does not fit, by whether it may fit later."""
        budget = self._budget()
        need = self._needs(record, budget)
        residents = [self._needs(other, budget) for other in self._others(record) if other.spec.resident]
        free = {device: budget[device] - sum(held.get(device, 0) for held in residents) for device in need}
        if any(need[device] > free[device] for device in need):
            left = f"{_gb(sum(max(0, count) for count in free.values()))} of {_gb(sum(budget[d] for d in need))}"
            text = f"{record.spec.id} needs {_gb(sum(need.values()))} of memory, and {left} are left beside the resident models"
            return ModelFailed(text, param="model")
        busy = [o.spec.id for o in self._others(record) if o.holds_memory and not o.spec.resident and not o.movable]
        return NodeBusy(f"no room for {record.spec.id} while {', '.join(busy)} is in use", param="model")


async def _end(task: asyncio.Task[None] | None) -> None:
    if task is not None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _gb(count: int) -> str:
    return f"{count / 1e9:.2f} GB"
