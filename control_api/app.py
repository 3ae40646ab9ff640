"""Makes the control API: wires the packages together, nothing else."""

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from sqlmodel.ext.asyncio.session import AsyncSession

from control_api import __version__, firststart, live, reference, system
from control_api.access import routes as access_routes
from control_api.access import settings_routes
from control_api.access.logins import Logins
from control_api.access.preferences import PreferenceService
from control_api.access.service import AccessService
from control_api.alerts import routes as alert_routes
from control_api.alerts.service import AlertService
from control_api.automation import check_routes
from control_api.automation import repository as job_repository
from control_api.automation import routes as automation_routes
from control_api.automation.drift import DriftSchedule, DriftService
from control_api.automation.plans import PlanService
from control_api.automation.playbooks import PlaybookCatalogue
from control_api.automation.service import JobService
from control_api.automation.worker import Worker
from control_api.catalogue import routes as catalogue_routes
from control_api.catalogue.hub import Hub
from control_api.catalogue.mirror import open_hub
from control_api.catalogue.popularity import PopularityCache
from control_api.catalogue.service import CatalogueHooks, CatalogueService
from control_api.catalogue.supported import SupportedModels
from control_api.distribution import hub_routes
from control_api.distribution import routes as distribution_routes
from control_api.distribution.caller import NodeCaller
from control_api.distribution.service import DistributionService
from control_api.errors import Unauthenticated
from control_api.fleet import node_routes
from control_api.fleet import repository as fleet_repository
from control_api.fleet import routes as fleet_routes
from control_api.fleet.heartbeats import HeartbeatService
from control_api.fleet.hooks import FleetHooks
from control_api.fleet.nodes import NodeService
from control_api.fleet.presence import Presence
from control_api.fleet.service import FleetService
from control_api.keys import Keys, load_keys
from control_api.kit import http
from control_api.kit.bus import Bus
from control_api.kit.database import Database
from control_api.kit.secretbox import token_hash
from control_api.kit.tasks import owned_task
from control_api.providers import routes as provider_routes
from control_api.providers.service import ProviderService
from control_api.settings import Settings
from control_api.telemetry import metrics
from control_api.telemetry import routes as telemetry_routes
from control_api.telemetry.breakers import Breakers
from control_api.telemetry.service import HistoryPruner

BODY_LIMIT_BYTES = 4 << 20
# A node with hundreds of models says all of them in a tenth of this.
NODE_LIMITS_BYTES = {"/v0/nodes/": 1 << 20}


_ROUTERS = (
    system.router,
    reference.router,
    access_routes.router,
    settings_routes.router,
    fleet_routes.router,
    node_routes.router,
    catalogue_routes.router,
    distribution_routes.router,
    hub_routes.router,
    automation_routes.router,
    provider_routes.router,
    telemetry_routes.router,
    metrics.router,
    check_routes.router,
    alert_routes.router,
    live.router,
)


@dataclass(frozen=True)
class Services:
    """What a request finds in ``request.state``."""

    settings: Settings
    database: Database
    bus: Bus
    sockets: live.Sockets
    store_id: str
    access: AccessService
    logins: Logins
    preferences: PreferenceService
    fleet: FleetService
    nodes: NodeService
    heartbeats: HeartbeatService
    catalogue: CatalogueService
    hub: Hub
    popularity: PopularityCache
    distribution: DistributionService
    caller: NodeCaller
    automation: JobService
    drift: DriftService
    providers: ProviderService
    plans: PlanService
    breakers: Breakers
    alerts: AlertService
    node_host: Callable[[AsyncSession, str], Awaitable[str | None]]
    host_is_busy: Callable[[AsyncSession, str], Awaitable[bool]]


def wire(settings: Settings, database: Database, keys: Keys, identity: firststart.Identity, hub: Hub) -> Services:
    """Build the services from the lowest domain up; lower ones tell higher ones through hooks."""
    playbooks = PlaybookCatalogue(settings.project_dir)
    supported = SupportedModels.load(settings.project_dir / "supported_models.json")
    distribution = DistributionService(settings, supported, keys.routing)
    hooks = FleetHooks(
        host_variables=playbooks.gate.host_changes,
        node_registered=distribution.node_registered,
        heartbeat_applied=distribution.heartbeat_applied,
        node_came_online=distribution.node_came_online,
        node_tagged=distribution.node_came_online,
        node_removed=distribution.node_removed,
        renew_fetches=distribution.renew_fetches,
        is_last_ready=distribution.is_last_ready,
    )
    fleet = FleetService(settings, keys.credentials, hooks)
    jobs = JobService(settings, fleet, playbooks)
    popularity = PopularityCache(hub, [entry.repo for entry in supported.all])
    catalogue_hooks = CatalogueHooks(
        model_registered=distribution.model_registered,
        model_changed=distribution.model_registered,
        model_configured=distribution.model_configured,
        model_deleting=distribution.model_deleting,
    )
    bus = Bus(database.control)
    access = AccessService(identity.signer, running_job=job_repository.running_job)
    return Services(
        settings=settings,
        database=database,
        bus=bus,
        sockets=live.Sockets(),
        store_id=identity.store_id,
        access=access,
        logins=Logins(database.control, access, firststart.dashboard_keys(settings)),
        preferences=PreferenceService(settings, distribution.preferences_changed),
        fleet=fleet,
        nodes=NodeService(settings, keys.routing, hooks),
        heartbeats=HeartbeatService(settings, database.control, hooks),
        catalogue=CatalogueService(supported, hub, popularity, catalogue_hooks),
        hub=hub,
        popularity=popularity,
        distribution=distribution,
        caller=NodeCaller(keys.routing),
        automation=jobs,
        drift=DriftService(jobs),
        providers=ProviderService(keys.routing, timeout_s=settings.hub_timeout_s),
        plans=PlanService(settings, jobs, fleet),
        breakers=Breakers(database.telemetry),
        alerts=AlertService(database, bus),
        node_host=fleet_repository.host_of_node,
        host_is_busy=job_repository.is_busy,
    )


def worker_of(services: Services, *, stop_jobs: bool) -> Worker:
    """Return a worker that runs jobs with these services."""
    return Worker(
        services.settings,
        services.database,
        services.access,
        services.fleet,
        services.automation.playbooks,
        wake=services.automation.wake,
        stop_jobs=stop_jobs,
    )


def _loops(services: Services) -> dict[str, Coroutine[Any, Any, None]]:
    presence = Presence(services.settings, services.database.control)
    drift = DriftSchedule(services.database.control, services.drift, services.settings.drift_interval_s)
    return {
        "bus": services.bus.run(),
        "presence": presence.run(),
        "heartbeats": services.heartbeats.run(),
        "popularity": services.popularity.run(),
        "history": HistoryPruner(services.database.telemetry).run(),
        "drift": drift.run(),
        "alerts": services.alerts.run(),
    }


async def _knows(state: Mapping[str, Any], credential: str) -> bool:
    """Tell whether a credential is one of a caller or of a node."""
    async with state["database"].control.read() as session:
        try:
            await state["access"].authenticate(session, credential)
        except Unauthenticated:
            return await fleet_repository.node_by_token(session, token_hash(credential)) is not None
    return True


def create_app(settings: Settings, *, with_worker: bool = False, local_node: bool = False) -> FastAPI:
    """Return the control API.

    Parameters
    ----------
    with_worker: run jobs in this process too, as ``muster up`` does.
    local_node: make this machine a host named ``local``.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        keys = load_keys(settings)
        database = Database.open(settings.control_url, settings.telemetry_url)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(database.close)
            await database.ping()
            identity = await firststart.prepare(settings, database, keys)
            await firststart.let_in(settings, database)
            hub = await stack.enter_async_context(aclosing(open_hub(settings)))
            services = wire(settings, database, keys, identity, hub)
            stack.push_async_callback(services.caller.aclose)
            if local_node:
                await firststart.local_host(settings, database, services.fleet)
            for name, loop in _loops(services).items():
                await stack.enter_async_context(owned_task(loop, name=name))
            if with_worker:
                # The runs end with `muster up`; a worker of its own leaves them to their supervisors.
                worker = worker_of(services, stop_jobs=True)
                await stack.enter_async_context(owned_task(worker.run(), name="worker"))
            yield {name: getattr(services, name) for name in Services.__dataclass_fields__}

    app = FastAPI(title="Muster control API", version=__version__, lifespan=lifespan, openapi_url=None)
    for router in _ROUTERS:
        app.include_router(router)
    http.install(app, body_limit_bytes=BODY_LIMIT_BYTES, smaller_limits=NODE_LIMITS_BYTES, knows=_knows)
    return app
