"""The processes of the control plane that use its store: what ``muster serve api``, ``router`` and ``worker`` run."""

from contextlib import aclosing

import uvicorn

from control_api import firststart
from control_api.app import create_app, wire, worker_of
from control_api.catalogue.hub import Hub
from control_api.keys import load_keys, load_routing_key
from control_api.kit.bounds import Bounds
from control_api.kit.database import Database
from control_api.kit.serving import uvicorn_config
from control_api.kit.systemd import notify_ready
from control_api.migrations import runner
from control_api.router import memory
from control_api.router.history import History
from control_api.router.report import StoreReport
from control_api.router.repository import StoreSource
from control_api.router.serve import serve
from control_api.router.settings import RouterSettings
from control_api.settings import Settings


async def serve_api(settings: Settings, *, with_worker: bool, local_node: bool) -> None:
    """Serve the control API; migrate the store first."""
    await runner.upgrade(settings)
    await _check(settings)
    app = create_app(settings, with_worker=with_worker, local_node=local_node)
    await uvicorn.Server(uvicorn_config(app, settings.api_host, settings.api_port, settings.trusted_proxies)).serve()


async def _check(settings: Settings) -> None:
    """Raise what would stop the API from starting, before the server turns it into a traceback."""
    database = Database.open(settings.control_url, settings.telemetry_url)
    try:
        await firststart.prepare(settings, database, load_keys(settings))
        await firststart.let_in(settings, database)
    finally:
        await database.close()


async def serve_router(settings: Settings) -> None:
    """Serve the router from the route table in the store."""
    await runner.wait_until_current(settings)
    database = Database.open(settings.control_url, settings.telemetry_url)
    try:
        routing = load_routing_key(settings)
        await firststart.await_key(database, routing)
        source = StoreSource(database.control, routing)
        memory.settle()
        async with History.open(database.telemetry) as history:
            await serve(router_settings(settings), source, sinks=[history], breaker_sink=StoreReport(database.telemetry))
    finally:
        await database.close()


def router_settings(settings: Settings) -> RouterSettings:
    """Return the router's part of the settings."""
    return RouterSettings(
        host=settings.router_host,
        port=settings.router_port,
        reuse_port=settings.router_reuse_port,
        body_limit_bytes=settings.router_body_limit_bytes,
        body_timeout_s=settings.router_body_timeout_s,
        body_s=max(Bounds.body_s, settings.router_body_timeout_s),
        queue_size=settings.router_queue_size,
        queue_deadline_s=settings.router_queue_deadline_s,
        connect_timeout_s=settings.router_connect_timeout_s,
        first_byte_timeout_s=settings.router_first_byte_timeout_s,
        stall_timeout_s=settings.router_stall_timeout_s,
        cloud_timeout_s=settings.router_cloud_timeout_s,
        poll_interval_s=settings.router_poll_interval_s,
        history_content=settings.router_history_content,
        cors_origins=tuple(settings.router_cors_origins),
    )


async def run_worker(settings: Settings) -> None:
    """Run a worker beside any number of others."""
    await runner.wait_until_current(settings)
    keys = load_keys(settings)
    database = Database.open(settings.control_url, settings.telemetry_url)
    try:
        identity = await firststart.prepare(settings, database, keys)
        async with aclosing(Hub(settings)) as hub:
            worker = worker_of(wire(settings, database, keys, identity, hub), stop_jobs=False)
            notify_ready()
            await worker.run()
    finally:
        await database.close()
