"""Fills a part file from one source after the other."""

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import structlog

from node_service.control import ControlClient
from node_service.errors import (
    ControlError,
    ControlUnreachable,
    NoSourceLeft,
    SourceInterrupted,
    SourceRefused,
    WeightsError,
)
from node_service.states import ModelState
from node_service.weights.fetch import Fetcher
from node_service.weights.journey import Journey, Meter
from node_service.weights.part import PartFile
from node_service.weights.sources import SourceResolver, source_label
from node_service.weights.store import Store
from node_service.wire import Artifact, FetchGrant, HubSource, PeerSource, Source

__all__ = ["Collector", "Tried"]

_BARREN_ATTEMPTS = 3  # attempts without a new byte after which a hub is left
_PEER_PATIENCE = 3  # interruptions after which a peer is left although it gave bytes each time
_RETRY_S = 0.5
_MAX_RETRY_S = 10.0
_ERROR_LIMIT = 2000  # characters
_MAX_QUEUE_S = 30.0  # the API may forget us: ask again at least this often

log = structlog.get_logger(__name__)


@dataclass
class Tried:
    """What became of the sources of one artifact, and whose bytes are in its part."""

    failed: dict[str, tuple[Source, WeightsError]] = field(default_factory=dict)
    liars: dict[str, tuple[Source, WeightsError]] = field(default_factory=dict)
    suspects: dict[str, tuple[Source, WeightsError]] = field(default_factory=dict)
    givers: dict[str, Source] = field(default_factory=dict)
    interruptions: Counter[str] = field(default_factory=Counter)
    all_known: bool = True  # no byte of the part is from an earlier process

    @property
    def left_out(self) -> dict[str, tuple[Source, WeightsError]]:
        """The sources that are not tried any more."""
        return self.failed | self.suspects | self.liars

    def report(self) -> list[dict[str, Any]]:
        """Return what the control API is told of them."""
        return [_failure(source, error, corrupt=label in self.liars) for label, (source, error) in self.left_out.items()]

    def blame(self, error: WeightsError) -> bool:
        """Draw the consequences of a wrong sha256; return whether a peer is left out from now on.

        A peer is a liar only if all bytes came from it; if there were several givers, its bytes may have been right.
        """
        peers = {label: (source, error) for label, source in self.givers.items() if isinstance(source, PeerSource)}
        blamed = peers if self.all_known else {}
        (self.liars if len(self.givers) == 1 else self.suspects).update(blamed)
        self.failed, self.givers, self.all_known = {}, {}, True
        return bool(blamed)


class Collector:
    """Reads an artifact's bytes: asks for sources, and for others after each failure; one source at a time."""

    def __init__(self, *, store: Store, control: ControlClient, resolver: SourceResolver, fetcher: Fetcher) -> None:
        self._store = store
        self._control = control
        self._resolver = resolver
        self._fetcher = fetcher
        self._fetch_id: str | None = None

    @property
    def active_fetches(self) -> list[str]:
        """The grants that are in use; a heartbeat that names them renews them."""
        return [] if self._fetch_id is None else [self._fetch_id]

    async def fill(self, artifact: Artifact, journey: Journey, part: PartFile, meter: Meter, tried: Tried) -> None:
        """Read until the part is full.

        Raises:
            NoSourceLeft: no source gave the rest; the message names each and what it answered.
            InsufficientDisk: the disk became full.
        """
        tried.all_known = tried.all_known and part.size == 0
        while part.size < artifact.size:
            source = await self._next_source(artifact, part.size, journey, tried)
            label, begun = source_label(source), (part.size, part.beginnings)
            journey.phase(ModelState.DOWNLOADING)
            journey.progress.source = label
            log.info("fetching", model=journey.spec.id, source=label, have_bytes=part.size)
            try:
                await self._read(source, artifact, part, meter)
            except (SourceInterrupted, SourceRefused) as error:
                log.warning("source left", model=journey.spec.id, error=str(error))
                tried.interruptions[label] += 1
                if not self._may_go_on(source, error, gave=part.size > begun[0], times=tried.interruptions[label]):
                    tried.failed[label] = (source, error)
            finally:
                self._fetch_id, journey.progress.source = None, None
                _note_giver(tried, source, part, begun)

    def _may_go_on(self, source: Source, error: WeightsError, *, gave: bool, times: int) -> bool:
        """Whether a source is asked again, with a new ticket: a peer that gave bytes until it was interrupted."""
        return isinstance(source, PeerSource) and isinstance(error, SourceInterrupted) and gave and times < _PEER_PATIENCE

    async def _read(self, source: Source, artifact: Artifact, part: PartFile, meter: Meter) -> None:
        """Read from one source until the part is full or the source gives nothing new."""
        furthest, barren = part.size, 0
        while part.size < artifact.size:
            try:
                location = await self._resolver.locate(source, artifact)
                await self._fetcher.fetch(location, artifact.size, part, meter)
            except SourceInterrupted as error:
                barren = 0 if part.size > furthest else barren + 1
                furthest = max(furthest, part.size)
                # A peer is left at once: its ticket may be used up, and others may be near.
                if isinstance(source, PeerSource) or barren >= _BARREN_ATTEMPTS:
                    raise
                log.info("source interrupted", error=str(error), barren=barren)
                backoff_s = min(_RETRY_S * 2**barren, _MAX_RETRY_S)
                await asyncio.sleep(backoff_s * random.uniform(0.5, 1.0))

    async def _next_source(self, artifact: Artifact, have_bytes: int, journey: Journey, tried: Tried) -> Source:
        offered = await self._sources(artifact, have_bytes, journey, tried)
        source = next((s for s in offered if source_label(s) not in tried.left_out), None)
        if source is None:
            raise _no_source_left(artifact, tried)
        return source

    async def _sources(self, artifact: Artifact, have_bytes: int, journey: Journey, tried: Tried) -> tuple[Source, ...]:
        """Wait for leave to fetch, and return the sources; with the API away, the hub alone."""
        while True:
            try:
                answer = await self._control.request_fetch(artifact.sha256, have_bytes, tried.report())
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
                for hub in (s for s in answer.sources if isinstance(s, HubSource)):
                    self._store.remember_hub(artifact.sha256, hub.model_dump())
                return answer.sources
            journey.phase(ModelState.QUEUED)
            await asyncio.sleep(min(answer.retry_after_s, _MAX_QUEUE_S))


def _note_giver(tried: Tried, source: Source, part: PartFile, begun: tuple[int, int]) -> None:
    """Note whose bytes are in the part now; a source that cannot resume has put its own in place of all others."""
    size, beginnings = begun
    if part.beginnings != beginnings:
        tried.givers, tried.all_known = {source_label(source): source}, True
    elif part.size > size:
        tried.givers[source_label(source)] = source


def _failure(source: Source, error: WeightsError, *, corrupt: bool) -> dict[str, Any]:
    node_id = source.node_id if isinstance(source, PeerSource) else None
    return {"kind": source.kind, "node_id": node_id, "error": str(error)[:_ERROR_LIMIT], "corrupt": corrupt}


def _no_source_left(artifact: Artifact, tried: Tried) -> NoSourceLeft:
    if not tried.left_out:
        return NoSourceLeft(f"{artifact.name}: the control API offers no source", transient=True)
    errors = [error for _, error in tried.left_out.values()]
    again = any(isinstance(error, SourceInterrupted) for error in errors)
    told = "; ".join(str(error) for error in errors)
    return NoSourceLeft(f"{artifact.name}: every source failed: {told}", transient=again)
