"""Makes the models on this node what the manifest says."""

import asyncio
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import structlog
from pydantic import ValidationError

from node_service.errors import ManifestRefused, ModelNotFound, WeightsError
from node_service.identity import IdentityStore
from node_service.models.loader import Loader
from node_service.models.provisioner import Provisioner
from node_service.models.record import ModelRecord, orphan_report
from node_service.state_dir import StateDir
from node_service.states import ModelState
from node_service.weights.store import InstalledArtifact, Store
from node_service.wire import Manifest, RefusedModel

__all__ = ["ModelManager"]

_DOCUMENT = "manifest.json"

log = structlog.get_logger(__name__)


class ModelManager:
    """Holds a record for each wanted model, and lets the others go.

    Nothing is deleted but the digests that a manifest lists under `remove`: what it merely
    does not mention stays on the disk and is reported as orphaned.
    """

    def __init__(
        self,
        *,
        state: StateDir,
        store: Store,
        identities: IdentityStore,
        records: dict[str, ModelRecord],
        departing: list[ModelRecord],
        provisioner: Provisioner,
        loader: Loader,
        changed: Callable[[], None],
    ) -> None:
        self._state = state
        self._store = store
        self._identities = identities
        self._changed = changed
        self._records = records
        self._provisioner = provisioner
        self._loader = loader
        self._departing = departing
        self._departures: set[asyncio.Task[None]] = set()
        self._orphans: list[InstalledArtifact] = []
        self._refused: dict[str, RefusedModel] = {}
        self.nameless: tuple[str, ...] = ()
        self.applied_revision: int | None = None

    async def restore(self) -> None:
        """Take up the last manifest again, so that a restart needs no control API."""
        try:
            document = self._state.read(_DOCUMENT)
            if document is not None:
                await self._take(Manifest.model_validate(document))
        except (ValueError, ValidationError) as error:
            # The control API has it: the next heartbeat brings it again.
            log.error("stored manifest is damaged", error=str(error)[:500])

    async def apply(self, manifest: Manifest) -> None:
        """Take a manifest from the control API.

        Raises:
            ManifestRefused: it comes from another store than the one this node belongs to.
        """
        own = self._identities.current.store_id
        if manifest.store_id != own:
            raise ManifestRefused(f"manifest of store {manifest.store_id}, this node is in {own}")
        await self._take(manifest)
        await asyncio.to_thread(self._state.write, _DOCUMENT, manifest.model_dump(mode="json", by_alias=True))
        log.info("manifest applied", revision=manifest.revision, models=len(manifest.models))
        for each in manifest.refused:
            log.error("assignment not understood", model=each.id, reason=each.reason)

    def find(self, model_id: str) -> ModelRecord:
        """Return a wanted model's record; raises ModelNotFound."""
        record = self._records.get(model_id)
        if record is None:
            known = ", ".join(self._records) or "none"
            text = f"model {model_id[:200]!r} is not on this node; models here: {known}"
            raise ModelNotFound(text, param="model")
        return record

    def prepare(self, record: ModelRecord) -> None:
        """Have a model loaded that is loaded on demand; raises ModelFailed or NodeBusy where that cannot be."""
        self._loader.want(record)

    @property
    def records(self) -> list[ModelRecord]:
        """The wanted models."""
        return list(self._records.values())

    @property
    def ready_models(self) -> dict[str, int]:
        """How many of the models to be loaded are loaded."""
        resident = [record for record in self.records if record.spec.resident]
        return {"loaded": sum(r.ready for r in resident), "total": len(resident) + len(self._refused)}

    @property
    def initializing(self) -> bool:
        """Whether models are still on their way to being ready or failed."""
        waiting = (r for r in self.records if r.spec.resident and not r.ready)
        settled = all(r.state is ModelState.FAILED for r in waiting)
        return self.applied_revision is None or not settled

    def report(self) -> list[dict[str, Any]]:
        """Return the models' entries of a heartbeat."""
        entries = [record.report() | {"held": self._held(record)} for record in self.records]
        entries += [refused.report() for refused in self._refused.values()]
        shown = set(self._records) | set(self._refused)
        for record in self._departing:
            if record.spec.id not in shown and record.stage is ModelState.REMOVING:
                entries.append(record.report())
                shown.add(record.spec.id)
        by_model = defaultdict(list)
        for artifact in self._orphans:
            by_model[artifact.model_id].append(artifact)
        entries += [orphan_report(own) for id_, own in by_model.items() if id_ not in shown]
        return entries

    async def close(self) -> None:
        """End all engines; what was fetched so far stays."""
        for task in self._departures:
            task.cancel()
        await asyncio.gather(*self._departures, return_exceptions=True)
        records = [*self._records.values(), *self._departing]
        await asyncio.gather(*(self._loader.stop(record) for record in records))
        await self._loader.close()

    async def _take(self, manifest: Manifest) -> None:
        wanted = {spec.id: spec for spec in manifest.models}
        self._loader.reserve_bytes = manifest.memory_reserve_bytes
        kept = {a.sha256 for spec in wanted.values() for a in spec.artifacts}
        remove = set(manifest.remove) - kept
        if refused := set(manifest.remove) & kept:
            log.error("manifest wants artifacts both kept and removed: kept", sha256=sorted(refused))
        for record in self.records:
            spec = wanted.get(record.spec.id)
            if spec is None or not record.spec.same_work(spec):
                remove -= self._let_go(record, remove)
            elif spec.generation != record.spec.generation:
                record.spec, record.recheck, record.due, record.retry_at = spec, True, True, 0.0
        for spec in wanted.values():
            # Put at the end one after the other: the manifest's order is that of the queue.
            self._records[spec.id] = self._records.pop(spec.id, ModelRecord(spec, spec.generation))
        for digest in remove:
            await self._delete(digest)
        self._refused = {each.id: each for each in manifest.refused if each.id and each.id not in wanted}
        self.nameless = tuple(each.reason for each in manifest.refused if not each.id)
        await self._find_orphans()
        self.applied_revision = manifest.revision
        self._provisioner.wake()

    def _let_go(self, record: ModelRecord, remove: set[str]) -> set[str]:
        """Begin a record's departure; return the digests that go with it."""
        del self._records[record.spec.id]
        digests = {artifact.sha256 for artifact in record.spec.artifacts} & remove
        if digests:
            record.stage = ModelState.REMOVING
        self._departing.append(record)
        task = asyncio.create_task(self._depart(record, digests))
        self._departures.add(task)
        task.add_done_callback(self._departures.discard)
        return digests

    async def _depart(self, record: ModelRecord, digests: set[str]) -> None:
        """Let a model's requests end, stop its engine, and delete what was ordered."""
        await self._provisioner.release(record)
        # What was ordered again meanwhile stays.
        for digest in digests - self._kept():
            await self._delete(digest)
        # By identity: another one of the same name may be on its way out as well.
        self._departing[:] = [other for other in self._departing if other is not record]
        await self._find_orphans()
        self._provisioner.wake()
        self._changed()

    async def _delete(self, digest: str) -> None:
        """Delete an artifact; if the disk refuses, it is reported as an orphan from now on."""
        try:
            await asyncio.to_thread(self._store.remove, digest)
        except WeightsError as error:
            log.error("cannot remove an artifact", sha256=digest, error=str(error))

    async def _find_orphans(self) -> None:
        installed = await asyncio.to_thread(self._store.installed)
        leaving = {a.sha256 for record in self._departing for a in record.spec.artifacts}
        self._orphans = [a for a in installed if a.sha256 not in self._kept() | leaving]

    def _held(self, record: ModelRecord) -> list[str]:
        return [artifact.sha256 for artifact in record.spec.artifacts if self._store.holds(artifact)]

    def _kept(self) -> set[str]:
        return {a.sha256 for record in self.records for a in record.spec.artifacts}
