"""One model on this node, and what is reported about it."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from node_service.engine.protocol import Endpoint
from node_service.engine.supervisor import EngineSupervisor
from node_service.errors import ModelFailed, ModelLoading, NodeBusy
from node_service.states import ModelState
from node_service.weights.progress import Progress
from node_service.weights.store import InstalledArtifact
from node_service.wire import ModelSpec

_ERROR_LIMIT = 2000  # characters
_UNUSED_GRACE_S = 30.0  # for whoever asked for a model to come back and use it
_LOADING_RETRY_S = (1, 10)

__all__ = ["ModelRecord", "orphan_report"]


@dataclass
class ModelRecord:
    """A model that the manifest wants here.

    `generation` is the one whose work was done or is under way; it follows `spec.generation`
    once the order behind it was taken up.
    """

    spec: ModelSpec
    generation: int
    stage: ModelState = ModelState.QUEUED
    stage_error: str | None = None
    progress: Progress = field(default_factory=Progress)
    engine: EngineSupervisor | None = None
    installed_at: str | None = None
    in_flight: int = 0
    due: bool = True  # there is work to do: fetch, verify or load
    recheck: bool = False  # ordered again: what is on disk is to be verified anew
    attempts: int = 0
    retry_at: float = 0.0  # monotonic seconds
    leaving: bool = False
    idle: asyncio.Event = field(default_factory=asyncio.Event)
    engine_task: asyncio.Task[None] | None = None
    path: Path | None = None  # the file to open
    loading: asyncio.Task[None] | None = None  # waits for room, then starts the engine
    loading_since: float = 0.0  # monotonic seconds
    used_at: float = 0.0  # monotonic seconds

    def __post_init__(self) -> None:
        self.idle.set()

    @property
    def state(self) -> ModelState:
        """Where the model is: the engine's state once there is one."""
        if self.loading is not None:
            return ModelState.LOADING
        if self.engine is not None and self.stage is ModelState.INSTALLED:
            return self.engine.state
        return self.stage

    @property
    def error(self) -> str | None:
        """Why it failed, or what went wrong last."""
        if self.stage_error is not None:
            return self.stage_error
        return None if self.engine is None else self.engine.error

    @property
    def ready(self) -> bool:
        """Whether requests are answered."""
        return self.state is ModelState.READY and not self.leaving

    @property
    def unloaded(self) -> bool:
        """Whether the model is here, and nothing is done to load it."""
        return self.state is ModelState.INSTALLED and self.engine is None and not self.leaving

    @property
    def holds_memory(self) -> bool:
        """Whether its engine runs, or is about to."""
        alive = self.engine is not None and self.engine.state is not ModelState.FAILED
        return alive or self.loading is not None

    @property
    def last_used(self) -> float:
        """When it was last of use, or ready to be; monotonic seconds."""
        ready_at = None if self.engine is None else self.engine.ready_at
        return max(self.used_at, ready_at or 0.0)

    @property
    def movable(self) -> bool:
        """Whether it may be unloaded to make room. What was just loaded waits for whoever asked for it."""
        ready_at = None if self.engine is None else self.engine.ready_at
        if self.spec.resident or self.in_flight or not self.ready or ready_at is None:
            return False
        return self.used_at > ready_at or time.monotonic() - ready_at > _UNUSED_GRACE_S

    @contextmanager
    def slot(self) -> Iterator[Endpoint]:
        """Hold a slot for a request; gives where to send it.

        Raises:
            ModelLoading, ModelFailed, NodeBusy: the request cannot be answered now.
        """
        endpoint = self._enter()
        try:
            yield endpoint
        finally:
            self.in_flight -= 1
            self.used_at = time.monotonic()
            if self.in_flight == 0:
                self.idle.set()

    def _enter(self) -> Endpoint:
        if self.state is ModelState.FAILED:
            raise ModelFailed(f"{self.spec.id} failed on this node: {self.error}", param="model")
        engine = self.engine
        endpoint = None if engine is None else engine.endpoint
        if engine is None or endpoint is None or not self.ready:
            raise ModelLoading(self._loading_text(), param="model", retry_after_s=self._retry_after_s())
        if self.in_flight >= engine.slots:
            raise NodeBusy(f"all {engine.slots} slots of {self.spec.id} are taken", param="model")
        self.in_flight += 1
        self.used_at = time.monotonic()
        self.idle.clear()
        return endpoint

    def report(self) -> dict[str, Any]:
        """Return the model's entry in a heartbeat."""
        endpoint = None if self.engine is None else self.engine.endpoint
        return {
            "id": self.spec.id,
            "generation": self.generation,
            "state": self.state.value,
            "bytes_done": self.progress.bytes_done,
            "bytes_total": self.progress.bytes_total or self.spec.size_bytes,
            "speed_bps": round(self.progress.speed_bps or 0),
            "error": None if self.error is None else self.error[:_ERROR_LIMIT],
            "sha256": self.spec.artifacts[0].sha256,
            "size": self.spec.size_bytes,
            "source": self.progress.source,
            "installed_at": self.installed_at,
            "slots": 0 if self.engine is None else self.engine.slots,
            "in_flight": self.in_flight,
            "device": None if endpoint is None else endpoint.device,
            "gpu_layers": None if endpoint is None else endpoint.gpu_layers,
        }

    def _loading_text(self) -> str:
        text = f"{self.spec.id} is {self.state.value}"
        if self.state in (ModelState.DOWNLOADING, ModelState.QUEUED) and self.progress.bytes_total:
            done, total = self.progress.bytes_done, self.progress.bytes_total
            text += f": {done / 1e9:.1f} of {total / 1e9:.1f} GB"
        if self.state is ModelState.LOADING:
            text += f" {self.spec.size_bytes / 1e9:.1f} GB into memory for {self._loading_s():.0f} s"
        return text

    def _loading_s(self) -> float:
        return time.monotonic() - self.loading_since

    def _retry_after_s(self) -> int | None:
        """Return when to ask again: the longer it has taken, the later; None for the usual time."""
        if self.state is not ModelState.LOADING:
            return None
        least, most = _LOADING_RETRY_S
        return min(max(least, round(self._loading_s())), most)


def orphan_report(artifacts: list[InstalledArtifact]) -> dict[str, Any]:
    """Return the heartbeat entry of a model whose files are here although nobody wants them."""
    size = sum(artifact.size for artifact in artifacts)
    return {
        "id": artifacts[0].model_id,
        "generation": 0,
        "state": ModelState.ORPHANED.value,
        "bytes_done": size,
        "bytes_total": size,
        "speed_bps": 0,
        "error": None,
        "sha256": artifacts[0].sha256,
        "size": size,
        "held": [artifact.sha256 for artifact in artifacts],
        "source": None,
        "installed_at": artifacts[0].installed_at,
        "slots": 0,
        "in_flight": 0,
        "device": None,
        "gpu_layers": None,
    }
