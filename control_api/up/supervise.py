"""What ``muster up`` runs: the control API with the worker, the router, the dashboard, and services of plays."""

import asyncio
import signal
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import httpx2
from filelock import FileLock, Timeout

from control_api.errors import StartupError
from control_api.kit.files import PRIVATE
from control_api.kit.tasks import owned_task
from control_api.settings import Settings
from control_api.state_dir import make_state_dir
from control_api.up.environment import environment_of
from control_api.up.process import Command, KeptProcess
from control_api.up.services import Services

READY_TIMEOUT_S = 60.0
# The API ends the runs of its worker first, the router finishes answers.
STOP_TIMEOUT_S = {"api": 60.0, "router": 35.0, "dashboard": 10.0}

Say = Callable[[str], None]


async def supervise(settings: Settings, say: Say, *, local_node: bool) -> None:
    """Run everything until SIGINT or SIGTERM, and leave no process behind.

    Raises ``StartupError`` if another ``muster up`` uses the state directory or a port is taken.
    """
    make_state_dir(settings)
    lock = FileLock(settings.state_dir / "up.lock", mode=PRIVATE)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise StartupError(f"Another `muster up` runs on {settings.state_dir}.", code="already_up") from None
    with lock:
        await _check_ports(settings)
        async with AsyncExitStack() as stack:
            stopping = asyncio.Event()
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, stopping.set)
            for role in STOP_TIMEOUT_S:
                process = KeptProcess(_command(settings, role, local_node=local_node))
                await stack.enter_async_context(owned_task(process.run(), name=role))
            services = Services(settings.state_dir / "services", settings.state_dir / "logs")
            await stack.enter_async_context(owned_task(services.run(), name="services"))
            await stack.enter_async_context(owned_task(_announce(settings, say), name="announce"))
            await stopping.wait()
            say("Stopping …")


def _command(settings: Settings, role: str, *, local_node: bool) -> Command:
    extra = ["--with-worker", *(["--local-node"] if local_node else [])] if role == "api" else []
    return Command(
        name=role,
        argv=[sys.executable, "-m", "control_api.cli", "serve", role, *extra],
        environment=environment_of(role, settings),
        working_dir=Path("/"),
        log_file=settings.state_dir / "logs" / f"{role}.log",
        stop_timeout_s=STOP_TIMEOUT_S[role],
    )


async def _check_ports(settings: Settings) -> None:
    ports = {
        "MUSTER_API_PORT": (settings.api_host, settings.api_port),
        "MUSTER_ROUTER_PORT": (settings.router_host, settings.router_port),
        "MUSTER_DASHBOARD_PORT": (settings.dashboard_host, settings.dashboard_port),
    }
    for name, (host, port) in ports.items():
        try:
            server = await asyncio.start_server(lambda *_: None, host, port)
        except OSError as error:
            raise StartupError(
                f"{host}:{port} cannot be used: {error.strerror}.", code="port_taken", hint=f"Set {name}."
            ) from error
        server.close()
        await server.wait_closed()


async def _announce(settings: Settings, say: Say) -> None:
    urls = {
        "control API": f"{settings.public_api_url}/healthz",
        "router": f"{settings.public_router_url}/healthz",
        "dashboard": f"{settings.public_dashboard_url}/healthz",
    }
    async with httpx2.AsyncClient(timeout=2.0) as client:
        for name, url in urls.items():
            if not await _answers(client, url):
                say(f"The {name} does not answer yet; see {settings.state_dir / 'logs'}.")
    say(f"Control API  {settings.public_api_url}/docs")
    say(f"Router       {settings.public_router_url}/v1")
    say(f"Dashboard    {settings.public_dashboard_url}")
    link = settings.state_dir / "setup_link"
    if link.exists():
        say(f"First admin  {link.read_text().strip()}  (once, within the hour)")
    say("Ctrl-C stops everything.")


async def _answers(client: httpx2.AsyncClient, url: str) -> bool:
    deadline = asyncio.get_running_loop().time() + READY_TIMEOUT_S
    while asyncio.get_running_loop().time() < deadline:
        try:
            if (await client.get(url)).status_code == 200:
                return True
        except httpx2.TransportError:
            pass  # not there yet
        await asyncio.sleep(0.2)
    return False
