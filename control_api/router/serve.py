"""The router as a process: wires the parts, serves them by uvicorn, ends cleanly."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator, Iterator, Sequence

import uvicorn

from control_api.errors import StartupError
from control_api.kit.tasks import owned_task
from control_api.router.app import RouterApp
from control_api.router.balance import Balancer
from control_api.router.dispatch import Dispatcher
from control_api.router.inference import Inference
from control_api.router.listing import Listing
from control_api.router.metrics import Metrics
from control_api.router.pool import Pools
from control_api.router.record import RecordSink
from control_api.router.settings import RouterSettings
from control_api.router.source import RouteTableSource, TablePoller
from control_api.router.table import RouteTable
from control_api.router.waiting import WaitingRoom

# Longer than the pools of usual clients keep a connection, so that it is never closed under a request of theirs.
KEEP_ALIVE_S = 75


@contextlib.asynccontextmanager
async def router_app(
    settings: RouterSettings, source: RouteTableSource, sinks: Sequence[RecordSink] = ()
) -> AsyncIterator[RouterApp]:
    """Yield the application with everything behind it running."""
    balancer = Balancer()
    room = WaitingRoom(balancer, size=settings.queue_size, deadline_s=settings.queue_deadline_s)

    timeouts = {"connect_timeout_s": settings.connect_timeout_s, "silence_timeout_s": settings.first_byte_timeout_s}
    async with Pools.open(**timeouts) as pools:

        def adopt(table: RouteTable) -> None:
            pools.adopt(table)
            balancer.adopt(table)
            room.call_all()

        poller = TablePoller(source, interval_s=settings.poll_interval_s, adopt=adopt)
        metrics = Metrics(balancer, room)
        dispatcher = Dispatcher(poller, balancer, room, pools, limit_bytes=settings.body_limit_bytes)
        inference = Inference(poller, dispatcher, (metrics, *sinks), settings)
        async with owned_task(poller.run(), name="router.table"):
            yield RouterApp(poller, inference, Listing(poller), metrics)


async def serve(
    settings: RouterSettings,
    source: RouteTableSource,
    *,
    sinks: Sequence[RecordSink] = (),
    listener: socket.socket | None = None,
) -> None:
    """Serve until SIGTERM, SIGINT or cancellation; then accept nothing more and finish what runs, up to the deadline.

    Parameters
    ----------
    sinks: get a record of each request beside the metrics.
    listener: a bound socket to use instead of ``settings.host`` and ``settings.port``.

    Raises ``StartupError`` if it cannot listen.
    """
    listener = listener or _listen(settings.host, settings.port)
    async with router_app(settings, source, sinks) as app:
        server = _Server(_config(app, settings))
        serving = asyncio.create_task(server.serve([listener]), name="router.server")
        try:
            await asyncio.shield(serving)
        except asyncio.CancelledError:
            server.should_exit = True
            await serving
            raise


def _config(app: RouterApp, settings: RouterSettings) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        interface="asgi3",
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=round(settings.shutdown_deadline_s),
    )


class _Server(uvicorn.Server):
    """Returns after a signal instead of raising it again, so that what it used is closed and the exit code is 0."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise StartupError(f"The router cannot listen on {host}:{port}: {error}", code="cannot_listen") from error
