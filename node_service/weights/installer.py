"""Brings the artifacts of a model into the store: resolve → lock → fetch → verify → install."""

import asyncio
from pathlib import Path

import structlog

from node_service.errors import CorruptArtifact, InsufficientDisk, WeightsError
from node_service.states import ModelState
from node_service.weights.collector import Collector, Tried
from node_service.weights.journey import Journey, Meter
from node_service.weights.lock import ArtifactLock
from node_service.weights.part import PartFile, file_digest
from node_service.weights.store import Store
from node_service.wire import Artifact, ModelSpec

__all__ = ["Installer"]

log = structlog.get_logger(__name__)


class Installer:
    """Provides models, one artifact at a time.

    Parameters:
        reserve_bytes: disk space that is never used.
    """

    def __init__(self, *, store: Store, collector: Collector, reserve_bytes: int) -> None:
        self._store = store
        self._collector = collector
        self._reserve_bytes = reserve_bytes

    async def provide(self, journey: Journey) -> Path:
        """Bring all artifacts of a model here and return the file to open.

        Raises:
            InsufficientDisk: there is not enough room; nothing was fetched.
            CorruptArtifact: the sources have other bytes than the manifest says.
            NoSourceLeft: no source gave the artifact.
            ArtifactBusy: another process is fetching it, for longer than we wait.
            WeightsError: the disk refuses for another reason.
        """
        spec, progress = journey.spec, journey.progress
        missing = [artifact for artifact in spec.artifacts if not self._store.holds(artifact)]
        self._check_disk(spec, missing)
        done = spec.size_bytes - sum(artifact.size for artifact in missing)
        progress.bytes_total = spec.size_bytes
        progress.begin(done)
        try:
            for artifact in missing:
                async with ArtifactLock(self._store.locks, artifact.sha256) as lock:
                    # Whoever held the lock before us may have brought it.
                    if not self._store.holds(artifact):
                        await self._bring(artifact, journey, Meter(journey, artifact, done, lock))
                done += artifact.size
                progress.move(done)
        except OSError as error:
            raise WeightsError(f"{error.filename or self._store.path}: {error.strerror or error}") from error
        finally:
            progress.rest()
        return self._store.open_model(spec)

    async def verify(self, spec: ModelSpec) -> bool:
        """Hash a model's installed files again; what is not right is removed."""
        intact = True
        for artifact in spec.artifacts:
            path = self._store.find(artifact.sha256)
            if path is None:
                intact = False
                continue
            found = await asyncio.to_thread(_digest_or_reason, path)
            if found != artifact.sha256:
                log.error("installed artifact is damaged", model=spec.id, sha256=artifact.sha256, found=found)
                await asyncio.to_thread(self._store.remove, artifact.sha256)
                intact = False
            else:
                self._store.note_verified(artifact.sha256)
        return intact

    def _check_disk(self, spec: ModelSpec, missing: list[Artifact]) -> None:
        here = sum(self._store.part_size(artifact.sha256) for artifact in missing)
        needed = sum(artifact.size for artifact in missing) - here
        free = self._store.free_bytes()
        if missing and needed > free - self._reserve_bytes:
            raise InsufficientDisk(
                f"not enough disk for {spec.id}: needs {_gb(needed)}, "
                f"has {_gb(free)} free of which {_gb(self._reserve_bytes)} are kept in reserve"
            )

    async def _bring(self, artifact: Artifact, journey: Journey, meter: Meter) -> None:
        """Fetch, verify and install one artifact."""
        tried, once_more = Tried(), True
        while True:
            got = await self._collect(artifact, journey, meter, tried)
            if got == artifact.sha256:
                self._store.install(artifact, journey.spec.id)
                log.info("artifact installed", model=journey.spec.id, artifact=artifact.name)
                return
            self._store.discard_part(artifact.sha256)
            givers = ", ".join(tried.givers) or "an earlier process"
            text = f"{artifact.name}: expected sha256 {artifact.sha256}, got {got} from {givers}; discarded"
            log.error("artifact corrupt", model=journey.spec.id, error=text)
            # Bytes left by an earlier process, or changed on the way, may be better the next time.
            if not tried.blame(CorruptArtifact(text)):
                if not once_more:
                    raise CorruptArtifact(text)
                once_more = False

    async def _collect(self, artifact: Artifact, journey: Journey, meter: Meter, tried: Tried) -> str:
        """Fill the part file and return the sha256 of what is in it."""
        part = PartFile(self._store.part(artifact.sha256))
        try:
            await part.open()
            if part.size > artifact.size:
                await part.restart()
            meter(part.size)
            await self._collector.fill(artifact, journey, part, meter, tried)
            journey.phase(ModelState.VERIFYING)
            await part.settle()
            return await part.digest()
        finally:
            await part.close()


def _digest_or_reason(path: Path) -> str:
    """Return a file's sha256; what cannot be read is as good as damaged, so why not is returned instead."""
    try:
        return file_digest(path)
    except OSError as error:
        return f"not readable: {error.strerror}"


def _gb(count: int) -> str:
    return f"{count / 1e9:.2f} GB ({count} bytes)"
