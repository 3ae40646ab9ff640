"""The router as a process: wires the parts, serves them, ends cleanly."""

import contextlib
import socket
from collections.abc import AsyncIterator, Sequence

from control_api.errors import StartupError
from control_api.kit import openfiles
from control_api.kit.systemd import notify_ready
from control_api.kit.tasks import owned_task
from control_api.router.app import RouterApp
from control_api.router.balance import Balancer
from control_api.router.cloud import Cloud
from control_api.router.cors import Cors
from control_api.router.dispatch import Dispatcher
from control_api.router.inference import Inference
from control_api.router.listing import Listing
from control_api.router.metrics import Metrics
from control_api.router.pool import Pools
from control_api.router.record import RecordSink
from control_api.router.report import BreakerSink, report_breakers
from control_api.router.server import HttpServer, told_to_stop
from control_api.router.settings import RouterSettings
from control_api.router.source import RouteTableSource, TablePoller
from control_api.router.table import RouteTable
from control_api.router.upstream import Timeouts
from control_api.router.waiting import WaitingRoom


@contextlib.asynccontextmanager
async def router_app(
    settings: RouterSettings,
    source: RouteTableSource,
    sinks: Sequence[RecordSink] = (),
    breaker_sink: BreakerSink | None = None,
) -> AsyncIterator[RouterApp]:
    """Yield the application with everything behind it running."""
    balancer = Balancer()
    room = WaitingRoom(balancer, size=settings.queue_size, deadline_s=settings.queue_deadline_s)

    timeouts = Timeouts(settings.connect_timeout_s, settings.first_byte_timeout_s, settings.stall_timeout_s)
    cloud_timeouts = Timeouts(*3 * (settings.cloud_timeout_s,))
    async with Pools.open(timeouts) as pools, Pools.open(cloud_timeouts) as cloud_pools:

        def adopt(table: RouteTable) -> None:
            pools.adopt(table.nodes)
            cloud_pools.adopt(table.providers)
            balancer.adopt(table)
            room.call_all()

        poller = TablePoller(source, interval_s=settings.poll_interval_s, adopt=adopt)
        metrics = Metrics(balancer, room, sinks)
        dispatcher = Dispatcher(poller, balancer, room, pools, limit_bytes=settings.body_limit_bytes)
        cloud = Cloud(cloud_pools, limit_bytes=settings.body_limit_bytes)
        inference = Inference(poller, dispatcher, cloud, (metrics, *sinks), settings)
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(owned_task(poller.run(), name="router.table"))
            if breaker_sink:
                await stack.enter_async_context(owned_task(report_breakers(balancer, breaker_sink), name="router.breakers"))
            yield RouterApp(poller, inference, Listing(poller), metrics, Cors(settings.cors_origins))


async def serve(
    settings: RouterSettings,
    source: RouteTableSource,
    *,
    sinks: Sequence[RecordSink] = (),
    breaker_sink: BreakerSink | None = None,
    listener: socket.socket | None = None,
) -> None:
    """Serve until SIGTERM, SIGINT or cancellation; then accept nothing more and finish what runs, up to the deadline.

    Parameters
    ----------
    sinks: get a record of each request beside the metrics.
    breaker_sink: is told of nodes that are out of rotation.
    listener: a bound socket to use instead of ``settings.host`` and ``settings.port``.

    Raises ``StartupError`` if it cannot listen.
    """
    listener = listener or _listen(settings)
    async with router_app(settings, source, sinks, breaker_sink) as app:
        server = HttpServer(
            app,
            bounds=settings.bounds(),
            shutdown_deadline_s=settings.shutdown_deadline_s,
            connection_limit=settings.connection_limit or openfiles.limit() // 2,
        )
        async with server.listening(listener):
            with told_to_stop() as stop:
                notify_ready()
                await stop.wait()


def _listen(settings: RouterSettings) -> socket.socket:
    host, port = settings.host, settings.port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048, reuse_port=settings.reuse_port)
    except OSError as error:
        raise StartupError(f"The router cannot listen on {host}:{port}: {error}", code="cannot_listen") from error
