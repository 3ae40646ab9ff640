"""Runs the demo: ``python -m demo [--hosts N] [--check]``."""

import argparse
import asyncio
import json
import logging
import os
import shutil
import signal
import sys
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio.to_thread
import httpx2
import structlog

from control_api.catalogue.supported import SupportedModels
from control_api.client import ApiError, Client
from control_api.client.schemas import ApiKeyCreate, JobCreate, JobOut, JobStatus, RegisterModelRequest, Scope
from control_api.errors import MusterError
from control_api.kit.text import visible
from control_api.settings import LOCAL_KEY_FILE, SETUP_LINK_FILE, Settings
from control_api.wheelhouse import build_wheelhouse
from demo.again import register_again
from demo.display import Display, StageFailed
from demo.hub import hub
from demo.processes import free_port, running
from demo.site import Site, site

MODEL = "smollm2:135m"
QUESTION = "What is the capital of France? Answer in one short sentence."
READY_TIMEOUT_S = 180.0


@dataclass(frozen=True)
class Ports:
    """Where the processes of the demo listen."""

    api: int
    router: int
    dashboard: int
    node: int

    @classmethod
    def choose(cls) -> "Ports":
        """Take the usual ports where they are free."""
        chosen: list[int] = []
        for wanted in (8080, 8000, 8081, 8090):
            chosen.append(free_port(wanted, chosen))
        return cls(*chosen)


def pythons_of(hosts: int) -> list[str]:
    """Return the versions of Python that the demo's hosts have: this one, or those of Debian 12 and 13."""
    return ["3.11", "3.13"] if hosts else [f"{sys.version_info.major}.{sys.version_info.minor}"]


def build(settings: Settings, pythons: list[str], display: Display) -> None:
    """Build the wheelhouse, as ``muster wheelhouse build`` does."""
    folder = settings.cache_dir / "wheelhouse"
    try:
        build_wheelhouse(folder, project_dir=settings.project_dir, pythons=pythons, report=display.now)
    except MusterError as error:
        raise StageFailed(f"{error.message} {error.hint or ''}") from error


def environment(place: Site, ports: Ports, state_dir: Path, hub_url: str) -> dict[str, str]:
    """Return the settings of ``muster up``."""
    return {
        "MUSTER_STATE_DIR": str(state_dir),
        "MUSTER_SITE_DIR": str(state_dir / "site"),
        "MUSTER_HUB_ENDPOINT": hub_url,
        "MUSTER_API_HOST": place.bind,
        "MUSTER_API_PORT": str(ports.api),
        "MUSTER_API_URL": f"http://{place.address}:{ports.api}",
        "MUSTER_ROUTER_PORT": str(ports.router),
        "MUSTER_DASHBOARD_PORT": str(ports.dashboard),
    }


async def demo(hosts: int, display: Display, stack: AsyncExitStack, *, check: bool) -> tuple[dict[str, Any], list[str]]:
    """Run every stage; return the result and the URLs. What was started lives as long as the stack."""
    settings = Settings()
    model = SupportedModels.load(settings.project_dir / "supported_models.json").get(MODEL)
    if model is None:
        raise StageFailed(f"{MODEL} is not in supported_models.json.")
    state_dir = settings.state_dir.with_name("muster-demo" if hosts == 0 else "muster-demo-hosts")
    if hosts:
        # The hosts are new machines each time, so what was known of the last ones is wrong.
        shutil.rmtree(state_dir, ignore_errors=True)
    with display.stage("hosts", f"Booting {hosts} hosts" if hosts else "Looking at this machine"):
        place = await stack.enter_async_context(site(hosts))
    with display.stage("wheelhouse", "Building the wheelhouse (once)"):
        await anyio.to_thread.run_sync(build, settings, pythons_of(hosts), display)
    with display.stage("hub", "Finding the model"):
        hub_url = await stack.enter_async_context(hub(model, settings.cache_dir / "demo", place.bind, place.address, display))
    ports = Ports.choose()  # not earlier: what was free may be taken by another demo meanwhile
    place.write_data(state_dir / "site", {"node_service_port": ports.node} if place.is_local else {})
    with display.stage("start", "Starting Muster"):
        client = await start(place, environment(place, ports, state_dir, hub_url), state_dir, stack)
    with display.stage("register", f"Registering {MODEL}"):
        await client.models.register(RegisterModelRequest(model=MODEL))
    with display.stage("provision", "Provisioning by Ansible"):
        job = await provision(client, await place.add_hosts(client, options(place)), display)
    with display.stage("answer", "Asking the model through the router"):
        answer, node = await ask(client, f"http://127.0.0.1:{ports.router}")
    if check:
        await register_again(client, MODEL, display)
    result = {"answer": answer, "node": node, "model": MODEL, "job": job.id, "seconds": display.seconds}
    urls = [f"Dashboard   http://127.0.0.1:{ports.dashboard}", f"API docs    http://127.0.0.1:{ports.api}/docs"]
    urls.append(f"Router      http://127.0.0.1:{ports.router}/v1")
    link = state_dir / SETUP_LINK_FILE
    if link.exists():
        urls.insert(0, f"First admin {link.read_text().strip()}")
    return result, urls


async def start(place: Site, variables: dict[str, str], state_dir: Path, stack: AsyncExitStack) -> Client:
    """Start ``muster up`` and return a client once the control API is ready."""
    argv = [sys.executable, "-m", "control_api.cli", "up", *(["--local-node"] if place.is_local else [])]
    log_file = state_dir / "logs" / "up.log"
    process = await stack.enter_async_context(running("muster up", argv, log_file, variables))
    url = f"http://127.0.0.1:{variables['MUSTER_API_PORT']}"
    deadline = asyncio.get_running_loop().time() + READY_TIMEOUT_S
    key_file = state_dir / LOCAL_KEY_FILE
    async with httpx2.AsyncClient(timeout=2.0) as probe:
        while not (key_file.exists() and await answers(probe, f"{url}/healthz")):
            if asyncio.get_running_loop().time() > deadline or process.restarts:
                raise StageFailed(f"Muster did not start; see {log_file.parent}:\n{log_file.read_text()[-1500:]}")
            await asyncio.sleep(0.2)
    return await stack.enter_async_context(Client(url, key_file.read_text().strip()))


async def answers(probe: httpx2.AsyncClient, url: str) -> bool:
    """Tell whether a URL answers 200."""
    try:
        return (await probe.get(url)).status_code == 200
    except httpx2.TransportError:
        return False


def options(place: Site) -> dict[str, Any]:
    """Return the options of the roles that the demo sets on its hosts."""
    if not place.is_local:
        return {"node_service_engine_threads": 1}
    # It is the only node, so after an update of Muster it is switched although nobody else answers meanwhile.
    return {"node_service_engine_threads": 2, "node_service_drain_force": True}


async def provision(client: Client, hosts: list[str], display: Display) -> JobOut:
    """Run ``site.yml`` on the hosts and follow it to its end."""
    job = await client.jobs.create(JobCreate(playbook="site.yml", hosts=hosts))
    tail: list[str] = []
    async with aclosing(client.jobs.follow(job.id)) as events:
        async for event in events:
            if event.task:
                display.now(f"{event.host or ''} {event.task}".strip())
            tail = [*tail, event.stdout][-12:]
    job = await client.jobs.get(job.id)
    if job.status is not JobStatus.SUCCESSFUL:
        raise StageFailed(f"Job {job.id} is {job.status}: {job.reason or ''}\n" + "\n".join(filter(None, tail))[-3000:])
    return job


async def ask(client: Client, router_url: str) -> tuple[str, str]:
    """Ask the model through the router with a new API key; return the answer and the node that gave it."""
    key = await client.keys.create(ApiKeyCreate(name="demo", scopes=[Scope.INFERENCE]))
    try:
        body = {"model": MODEL, "messages": [{"role": "user", "content": QUESTION}], "max_tokens": 64, "temperature": 0}
        async with httpx2.AsyncClient(timeout=60.0, headers={"authorization": f"Bearer {key.key}"}) as http:
            response = await http.post(f"{router_url}/v1/chat/completions", json=body)
        if response.status_code != 200:
            raise StageFailed(f"The router answered {response.status_code}: {response.text[:500]}")
        text: str = response.json()["choices"][0]["message"]["content"].strip()
        node = await client.nodes.get(response.headers["x-muster-node"])
        return text, node.name
    finally:
        await client.keys.delete(key.id)


async def run(hosts: int, *, check: bool) -> int:
    """Run the demo; return the exit code."""
    display = Display()
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with AsyncExitStack() as stack:
        work = asyncio.create_task(demo(hosts, display, stack, check=check))
        stopped = asyncio.create_task(stopping.wait())
        await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not work.done():
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            return 130
        try:
            result, urls = work.result()
        except (StageFailed, ApiError) as error:
            return failed(error, check=check)
        if check:
            print(json.dumps(result))
            return 0
        display.line(f"\n{MODEL} on {result['node']}: {result['answer']}\n")
        for line in [*urls, "Ctrl-C stops everything."]:
            display.line(line)
        await stopping.wait()
        display.line("Stopping …")
    return 0


def failed(error: StageFailed | ApiError, *, check: bool) -> int:
    """Say which stage failed and why; return the exit code."""
    stage = getattr(error, "stage", "api")
    print(visible(f"The demo failed at stage {stage!r}: {error}"), file=sys.stderr)
    if check:
        print(json.dumps({"failed": stage, "error": str(error)}))
    return 1


def main() -> int:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(prog="make demo", description="From nothing to an answer through the router.")
    parser.add_argument(
        "--hosts", type=int, default=0, metavar="N", help="boot N real hosts instead of using this machine (root, podman)"
    )
    parser.add_argument("--check", action="store_true", help="print one JSON line and leave")
    arguments = parser.parse_args()
    os.umask(0o077)
    # The display tells what happens; only what goes wrong is worth a line of log.
    quiet = structlog.make_filtering_bound_logger(logging.WARNING)
    structlog.configure(wrapper_class=quiet, logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    return asyncio.run(run(arguments.hosts, check=arguments.check))


if __name__ == "__main__":
    sys.exit(main())
