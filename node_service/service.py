"""The node as a whole: its parts, wired, and what it says of itself."""

import asyncio
import uuid
from typing import Any

import structlog

from node_service import __version__
from node_service.control import ControlClient, tls_context
from node_service.engine.catalogue import EngineCatalogue
from node_service.gate import Gate
from node_service.hardware import GpuProbe, disk_facts, machine_facts, memory_total_bytes
from node_service.identity import IdentityStore
from node_service.inference import engine_client
from node_service.metrics import Metrics, NodeCollector
from node_service.models.loader import Loader
from node_service.models.manager import ModelManager
from node_service.models.provisioner import Provisioner
from node_service.models.record import ModelRecord
from node_service.problems import Problems
from node_service.redirects import RedirectingClient
from node_service.reporting import Reporter
from node_service.settings import Settings
from node_service.state_dir import StateDir
from node_service.weights.collector import Collector
from node_service.weights.fetch import Fetcher, FetchLimits
from node_service.weights.installer import Installer
from node_service.weights.scrubber import Scrubber
from node_service.weights.sources import SourceResolver
from node_service.weights.store import Store
from node_service.wire import HeartbeatAnswer, Manifest

__all__ = ["NodeService"]

_FIRST_GPU_READING_S = 5.0
_RESTART_S = 5.0

log = structlog.get_logger(__name__)


class NodeService:
    """Everything that runs in one node process.

    Raises (on creation):
        ConfigError: the stored identity is damaged.
        OSError: a directory cannot be made, or the CA bundle cannot be read.
    """

    def __init__(self, settings: Settings) -> None:
        state = StateDir(settings.state_dir)
        state.create()
        self._settings = settings
        self._store = Store(settings.store_dir)
        self._store.create()
        self._tls = tls_context(settings.ca_bundle)
        self.instance_id = str(uuid.uuid4())
        self.identities = IdentityStore(state)
        self.problems = Problems()
        self.gate = Gate()
        self.probe = GpuProbe()
        self.metrics = Metrics()
        self.engine_http = engine_client(self._tls)
        self._weights_http = RedirectingClient(self._tls)
        self._control = ControlClient(settings.api_url, self.identities, self._tls)
        self._state = "starting"
        self._tasks: list[asyncio.Task[None]] = []
        records: dict[str, ModelRecord] = {}
        departing: list[ModelRecord] = []
        self._collector = self._make_collector()
        reserve_bytes = settings.disk_reserve_bytes
        self._installer = Installer(store=self._store, collector=self._collector, reserve_bytes=reserve_bytes)
        engines = EngineCatalogue(settings, self.engine_http)
        loader = Loader(
            engines=engines,
            records=records,
            memory=self._memory,
            obstacle=self._obstacle,
            changed=self._changed,
        )
        self._provisioner = Provisioner(
            store=self._store,
            installer=self._installer,
            engines=engines,
            records=records,
            departing=departing,
            loader=loader,
            changed=self._changed,
            drain_deadline_s=settings.drain_deadline_s,
        )
        self._scrubber = Scrubber(
            store=self._store, records=records, damaged=self._provisioner.repair, interval_s=settings.verify_interval_s
        )
        self.models = ModelManager(
            state=state,
            store=self._store,
            identities=self.identities,
            records=records,
            departing=departing,
            provisioner=self._provisioner,
            loader=loader,
            changed=self._changed,
        )
        self.reporter = Reporter(
            node=self,
            control=self._control,
            identities=self.identities,
            problems=self.problems,
            ticket_file=settings.enrolment_ticket_file,
            instance_id=self.instance_id,
        )
        self.metrics.registry.register(NodeCollector(self.gate, self.probe, records))

    @property
    def applied_revision(self) -> int | None:
        """The revision of the manifest that was taken last."""
        return self.models.applied_revision

    @property
    def store(self) -> Store:
        """The model files."""
        return self._store

    async def start(self) -> None:
        """Take up the last manifest and begin to report."""
        self.probe.start()
        await self.models.restore()
        await self.probe.first_reading(_FIRST_GPU_READING_S)
        for part in (self._provisioner, self.reporter, self._scrubber):
            self._tasks.append(asyncio.create_task(self._keep_running(part)))

    async def drain(self) -> None:
        """Refuse new work and wait for what is under way, up to the deadline."""
        self.gate.stopping = True
        log.info("draining", in_flight=self.gate.in_flight)
        if not await self.gate.wait_idle(self._settings.drain_deadline_s):
            log.warning("drain deadline passed", in_flight=self.gate.in_flight)

    async def close(self) -> None:
        """End all tasks and engines."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.models.close()
        for client in (self._control, self._weights_http, self.engine_http):
            await client.aclose()
        await self.probe.close()

    def registration(self) -> dict[str, Any]:
        """Return the facts sent at registration."""
        return {
            "name": self._settings.name,
            "base_url": self._settings.base_url,
            "version": __version__,
            "hardware": self.hardware(),
            "tags": list(self._settings.tags),
        }

    def heartbeat(self) -> dict[str, Any]:
        """Return the body of a heartbeat, without instance, sequence number and errors."""
        self._note_gpus()
        self._note_nameless()
        return {
            "applied_revision": self.models.applied_revision or 0,
            "initializing": self.models.initializing,
            "ready_models": self.models.ready_models,
            "models": self.models.report(),
            "fetches": self._collector.active_fetches,
            "gpus": [gpu.readings() for gpu in self.probe.latest.gpus],
            "disk": disk_facts(self._settings.store_dir),
            "version": __version__,
        }

    def heard(self, answer: HeartbeatAnswer) -> None:
        """Take the control API's answer to a heartbeat."""
        if answer.admission != self.gate.admission:
            log.info("admission changed", admission=answer.admission)
        self.gate.admission = answer.admission
        self._state = answer.state

    async def apply(self, manifest: Manifest) -> None:
        """Take a manifest; raises ManifestRefused."""
        await self.models.apply(manifest)

    def hardware(self) -> dict[str, Any]:
        """Return the machine's facts."""
        return machine_facts(self.probe.latest, self._settings.store_dir)

    def status(self) -> dict[str, Any]:
        """Return what `/v0/status` shows."""
        identity = self.identities.current
        self._note_gpus()
        return {
            "instance_id": self.instance_id,
            "node_id": identity.node_id,
            "version": __version__,
            "registered": identity.registered,
            "state": self._state,
            "admission": self.gate.admission,
            "applied_revision": self.models.applied_revision,
            "initializing": self.models.initializing,
            "ready_models": self.models.ready_models,
            "in_flight": self.gate.in_flight,
            "models": self.models.report(),
            "hardware": self.hardware(),
            "draining": self.gate.draining,
            "errors": self.problems.report(),
        }

    def _make_collector(self) -> Collector:
        resolver = SourceResolver(
            api_url=self._settings.api_url,
            identities=self.identities,
            hub_endpoint=self._settings.hub_endpoint,
            hub_token_file=self._settings.hub_token_file,
        )
        limits = FetchLimits(stall_s=self._settings.source_stall_s)
        fetcher = Fetcher(self._weights_http, limits)
        return Collector(store=self._store, control=self._control, resolver=resolver, fetcher=fetcher)

    def _changed(self) -> None:
        self.reporter.report_soon()

    def _memory(self) -> dict[str, int]:
        gpus = {gpu.uuid: gpu.memory_total for gpu in self.probe.latest.gpus}
        return gpus or {"": memory_total_bytes()}

    def _obstacle(self) -> str | None:
        reading = self.probe.latest
        if self._settings.require_gpu and not reading.gpus:
            return f"no GPU is visible (require_gpu): {'; '.join(reading.errors)}"
        return None

    def _note_gpus(self) -> None:
        reading = self.probe.latest
        wanted = self._settings.require_gpu or reading.gpus
        if reading.errors and wanted:
            self.problems.raise_("gpu_unavailable", "; ".join(reading.errors))
        else:
            self.problems.clear("gpu_unavailable")

    def _note_nameless(self) -> None:
        """Tell of assignments that cannot even be reported under an id."""
        if self.models.nameless:
            self.problems.raise_("assignment_refused", "; ".join(self.models.nameless)[:2000])
        else:
            self.problems.clear("assignment_refused")

    async def _keep_running(self, part: Provisioner | Reporter | Scrubber) -> None:
        """Run a part of the node; a fault of ours in it is shown, and it starts again."""
        while True:
            try:
                await part.run()
            except Exception as error:
                log.exception("internal error", part=type(part).__name__)
                self.problems.raise_("internal_error", f"{type(part).__name__}: {type(error).__name__}: {error}")
            await asyncio.sleep(_RESTART_S)
