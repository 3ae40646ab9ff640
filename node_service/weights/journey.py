"""A model on its way: what is wanted, and who is told how far it is."""

from collections.abc import Callable
from dataclasses import dataclass

import structlog

from node_service.states import ModelState
from node_service.weights.lock import ArtifactLock
from node_service.weights.progress import Progress
from node_service.wire import Artifact, ModelSpec

__all__ = ["Journey", "Meter"]

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Journey:
    """One model on its way: where it is told what happens."""

    spec: ModelSpec
    progress: Progress
    phase: Callable[[ModelState], None]


class Meter:
    """Takes the growth of a part file to the progress, the lock's note and, each tenth, the log.

    Parameters:
        before: bytes of the model that came with earlier artifacts.
    """

    def __init__(self, journey: Journey, artifact: Artifact, before: int, lock: ArtifactLock) -> None:
        self._journey = journey
        self._artifact = artifact
        self._before = before
        self._lock = lock
        self._tenths = -1

    def __call__(self, size: int) -> None:
        """Note that the part holds `size` bytes."""
        progress = self._journey.progress
        progress.move(self._before + size)
        tenths = 10 * size // self._artifact.size if self._artifact.size else 10
        if tenths == self._tenths:
            return
        self._tenths = tenths
        self._lock.note(tenths / 10)
        log.info(
            "download progress",
            model=self._journey.spec.id,
            artifact=self._artifact.name,
            percent=tenths * 10,
            bytes_done=size,
            bytes_total=self._artifact.size,
            speed_bps=progress.speed_bps,
            eta_s=progress.eta_s,
            source=progress.source,
        )
