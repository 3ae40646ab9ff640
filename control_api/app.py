"""Makes the control API: wires the packages together, nothing else."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import structlog
from fastapi import FastAPI
from sqlmodel.ext.asyncio.session import AsyncSession

from control_api import __version__, firststart, live, system
from control_api.access import routes as access_routes
from control_api.access.service import AccessService
from control_api.automation import repository as job_repository
from control_api.automation import routes as automation_routes
from control_api.automation.playbooks import PlaybookCatalogue
from control_api.automation.service import JobService
from control_api.automation.worker import Worker
from control_api.catalogue import routes as catalogue_routes
from control_api.catalogue.service import CatalogueService
from control_api.distribution import routes as distribution_routes
from control_api.distribution.service import DistributionService
from control_api.fleet import node_routes
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
from control_api.kit.tasks import owned_task
from control_api.migrations import runner
from control_api.settings import Settings

log = structlog.get_logger()

BODY_LIMIT_BYTES = 4 << 20


@dataclass(frozen=True)
class Services:
    """What a request finds in ``request.state``."""

    settings: Settings
    database: Database
    bus: Bus
    store_id: str
    access: AccessService
    fleet: FleetService
    nodes: NodeService
    heartbeats: HeartbeatService
    catalogue: CatalogueService
    distribution: DistributionService
    automation: JobService
    node_host: Callable[[AsyncSession, str], Any]
    host_is_busy: Callable[[AsyncSession, str], Any]


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
            services = _wire(settings, database, keys, identity)
            if local_node:
                await firststart.local_host(settings, database, services.fleet)
            for name, loop in _loops(services, keys, with_worker=with_worker).items():
                await stack.enter_async_context(owned_task(loop, name=name))
            yield {name: getattr(services, name) for name in Services.__dataclass_fields__}

    app = FastAPI(title="Muster control API", version=__version__, lifespan=lifespan)
    for router in _ROUTERS:
        app.include_router(router)
    http.install(app, body_limit_bytes=BODY_LIMIT_BYTES)
    return app
