"""Brings the artifacts of a model into the store: resolve → lock → fetch → verify → install."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from node_service.control import ControlClient
from node_service.errors import (
    ControlError,
    ControlUnreachable,
    CorruptArtifact,
    InsufficientDisk,
    NoSourceLeft,
    SourceInterrupted,
    SourceRefused,
    WeightsError,
)
from node_service.states import ModelState
from node_service.weights.fetch import Fetcher
from node_service.weights.lock import ArtifactLock
from node_service.weights.part import PartFile, file_digest
from node_service.weights.progress import Progress
from node_service.weights.sources import SourceResolver, source_label
from node_service.weights.store import Store
from node_service.wire import Artifact, FetchGrant, HubSource, ModelSpec, Source

__all__ = ["Installer", "Journey"]

_BARREN_ATTEMPTS = 3  # attempts without a new byte after which a source is left
_RETRY_S = 0.5
_MAX_RETRY_S = 10.0
_MAX_QUEUE_S = 30.0  # the API may forget us: ask again at least this often

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Journey:
    """One model on its way: where it is told what happens."""

    spec: ModelSpec
    progress: Progress
    phase: Callable[[ModelState], None]


class Installer:
    """Provides models, one artifact at a time.

    Parameters:
        reserve_bytes: disk space that is never used.
    """

    def __init__(
        self,
        *,
        store: Store,
        control: ControlClient,
        resolver: SourceResolver,
        fetcher: Fetcher,
        reserve_bytes: int,
    ) -> None:
        self._store = store
        self._control = control
        self._resolver = resolver
        self._fetcher = fetcher
        self._reserve_bytes = reserve_bytes
        self._fetch_id: str | None = None

    @property
    def active_fetches(self) -> list[str]:
        """The grants that are in use; a heartbeat that names them renews them."""
        return [] if self._fetch_id is None else [self._fetch_id]

    async def provide(self, journey: Journey) -> Path:
        """Bring all artifacts of a model here and return the file to open.

        Raises:
            InsufficientDisk: there is not enough room; nothing was fetched.
            CorruptArtifact: the sources have other bytes than the manifest says.
            NoSourceLeft: no source gave the artifact.
            ArtifactBusy: another process is fetching it, for longer than we wait.
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
                        await self._bring(artifact, journey, done, lock)
                done += artifact.size
                progress.move(done)
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

    async def _bring(self, artifact: Artifact, journey: Journey, before: int, lock: ArtifactLock) -> None:
        """Fetch, verify and install one artifact; `before` bytes of the model came earlier."""
        meter = _Meter(journey, artifact, before, lock)
        # Bytes left by an earlier process may be damaged: then once more from the start.
        for attempt in (1, 2):
            got = await self._collect(artifact, journey, meter)
            if got == artifact.sha256:
                self._store.install(artifact, journey.spec.id)
                log.info("artifact installed", model=journey.spec.id, artifact=artifact.name)
                return
            self._store.discard_part(artifact.sha256)
            text = f"{artifact.name}: expected sha256 {artifact.sha256}, got {got}; discarded"
            log.error("artifact corrupt", model=journey.spec.id, attempt=attempt, error=text)
        raise CorruptArtifact(text)

    async def _collect(self, artifact: Artifact, journey: Journey, meter: "_Meter") -> str:
        """Fill the part file and return the sha256 of what is in it."""
        part = PartFile(self._store.part(artifact.sha256))
        try:
            await part.open()
            if part.size > artifact.size:
                await part.restart()
            meter(part.size)
            await self._try_sources(artifact, journey, part, meter)
            journey.phase(ModelState.VERIFYING)
            await part.settle()
            return await part.digest()
        finally:
            await part.close()

    async def _try_sources(self, artifact: Artifact, journey: Journey, part: PartFile, meter: "_Meter") -> None:
        """Read from one source after the other, asking for sources anew after each failure."""
        failed: dict[str, WeightsError] = {}
        while part.size < artifact.size:
            offered = await self._sources(artifact, part.size, journey)
            source = next((s for s in offered if source_label(s) not in failed), None)
            if source is None:
                raise _no_source_left(artifact, failed)
            journey.phase(ModelState.DOWNLOADING)
            label = source_label(source)
            log.info("fetching", model=journey.spec.id, source=label, have_bytes=part.size)
            try:
                await self._read(source, artifact, part, meter)
            except (SourceInterrupted, SourceRefused) as error:
                log.warning("source left", model=journey.spec.id, error=str(error))
                failed[label] = error
            finally:
                self._fetch_id = None

    async def _read(self, source: Source, artifact: Artifact, part: PartFile, meter: "_Meter") -> None:
        """Read from one source until the part is full or the source gives nothing new."""
        furthest, barren = part.size, 0
        while part.size < artifact.size:
            try:
                location = await self._resolver.locate(source, artifact)
                await self._fetcher.fetch(location, artifact.size, part, meter)
            except SourceInterrupted as error:
                barren = 0 if part.size > furthest else barren + 1
                furthest = max(furthest, part.size)
                if barren >= _BARREN_ATTEMPTS:
                    raise
                log.info("source interrupted", error=str(error), barren=barren)
                backoff_s = min(_RETRY_S * 2**barren, _MAX_RETRY_S)
                await asyncio.sleep(backoff_s * random.uniform(0.5, 1.0))

    async def _sources(self, artifact: Artifact, have_bytes: int, journey: Journey) -> tuple[Source, ...]:
        """Wait for leave to fetch, and return the sources; with the API away, the hub alone."""
        while True:
            try:
                answer = await self._control.request_fetch(artifact.sha256, have_bytes)
            except ControlError as error:
                # Only an API that is away is done without: one that refuses has its reasons.
                away = isinstance(error, ControlUnreachable)
                remembered = self._store.remembered_hub(artifact.sha256) if away else None
                log.warning("no fetch grant", error=str(error), hub_known=bool(remembered))
                if remembered is None:
                    raise NoSourceLeft(f"{artifact.name}: {error}", transient=True) from error
                return (HubSource.model_validate(remembered),)
            if isinstance(answer, FetchGrant):
                self._fetch_id = answer.fetch_id
                hubs = (s for s in answer.sources if isinstance(s, HubSource))
                for hub in hubs:
                    self._store.remember_hub(artifact.sha256, hub.model_dump())
                return answer.sources
            journey.phase(ModelState.QUEUED)
            await asyncio.sleep(min(answer.retry_after_s, _MAX_QUEUE_S))


class _Meter:
    """Takes the growth of a part file to the progress, the lock's note and the log."""

    def __init__(self, journey: Journey, artifact: Artifact, before: int, lock: ArtifactLock) -> None:
        self._journey = journey
        self._artifact = artifact
        self._before = before
        self._lock = lock
        self._tenths = -1

    def __call__(self, size: int) -> None:
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
        )


def _no_source_left(artifact: Artifact, failed: dict[str, WeightsError]) -> NoSourceLeft:
    if not failed:
        return NoSourceLeft(f"{artifact.name}: the control API offers no source", transient=True)
    tried = "; ".join(str(error) for error in failed.values())
    again = any(isinstance(error, SourceInterrupted) for error in failed.values())
    return NoSourceLeft(f"{artifact.name}: every source failed: {tried}", transient=again)


def _digest_or_reason(path: Path) -> str:
    """Return a file's sha256; what cannot be read is as good as damaged, so why not is returned instead."""
    try:
        return file_digest(path)
    except OSError as error:
        return f"not readable: {error.strerror}"


def _gb(count: int) -> str:
    return f"{count / 1e9:.2f} GB ({count} bytes)"
