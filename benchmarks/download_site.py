"""A site for the download benchmark: a control API and real node services on this machine, which load no model."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from benchmarks.file_hub import REPO
from benchmarks.processes import Process
from tests.distribution.services import new_service
from tests.node_service.process import NodeProcess
from tests.ports import free_port

KEY = "mk_" + "b" * 43
MODEL = "bench:zeros"
LIMIT_S = 900
_ALL_CPUS = f"0-{(os.cpu_count() or 1) - 1}"


def peak_rss_mb(pid: int) -> float:
    """Return the most memory that a process ever had in RAM, in MB (VmHWM)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return round(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024 / 1e6, 1)


async def until(look: Callable[[], Awaitable[Any]], what: str, *, every_s: float = 0.1) -> Any:
    """Look until there is something; leave when that takes too long."""
    give_up = time.monotonic() + LIMIT_S
    while not (found := await look()):
        if time.monotonic() > give_up:
            sys.exit(f"not within {LIMIT_S} s: {what}")
        await asyncio.sleep(every_s)
    return found


@dataclass
class Site:
    """What runs, and a client of the API."""

    http: httpx2.AsyncClient
    api: Process
    stack: ExitStack
    folder: Path
    hub_url: str
    nodes: list[NodeProcess] = field(default_factory=list)

    async def add_node(self, *, reaches_hub: bool = True) -> NodeProcess:
        """Add a host and start a node service on it."""
        name = f"node-{len(self.nodes)}"
        changed = {} if reaches_hub else {"hub_endpoint": "http://127.0.0.1:9"}
        node = await new_service(self.http, self.folder / name, name, tags=["site:bench"], **changed)
        self.stack.callback(node.kill)
        self.nodes.append(await asyncio.to_thread(node.start))
        return node

    async def online(self) -> None:
        """Wait until every node has reported."""

        async def all_heard() -> bool:
            found = (await self.http.get("/v0/nodes", params={"limit": 500})).json()["items"]
            return len(found) == len(self.nodes) and all(node["state"] == "online" for node in found)

        await until(all_heard, f"{len(self.nodes)} nodes online")

    async def distribute(self) -> float:
        """Register the file, order it everywhere, and return how many seconds that took."""
        wanted = {"source": f"{REPO}:zeros.gguf", "id": MODEL}
        answer = await self.http.post("/v0/models/register", json=wanted)
        answer.raise_for_status()
        started = time.monotonic()
        ordered = (await self.http.post("/v0/models/distribute", json={"model": MODEL})).json()
        ids = ",".join(ordered["task_ids"])

        async def ended() -> list[dict[str, Any]]:
            tasks = (await self.http.get("/v0/tasks", params={"ids": ids, "limit": 500})).json()["items"]
            over = [task for task in tasks if task["status"] not in ("pending", "in_progress")]
            return over if len(over) == len(ordered["task_ids"]) else []

        for task in await until(ended, "every download ended"):
            if task["status"] != "completed":
                sys.exit(f"a download {task['status']}: {task['error']}")
        return time.monotonic() - started


@asynccontextmanager
async def site(folder: Path, hub_url: str) -> AsyncIterator[Site]:
    """Run a control API until the block ends, and then everything that was added."""
    port = free_port()
    environment = {
        "MUSTER_STATE_DIR": str(folder / "api"),
        "MUSTER_BOOTSTRAP_API_KEY": KEY,
        "MUSTER_API_PORT": str(port),
        "MUSTER_HUB_ENDPOINT": hub_url,
        "MUSTER_AUTO_DISTRIBUTION": "off",
        "MUSTER_DISK_RESERVE_BYTES": "0",
    }
    headers = {"authorization": f"Bearer {KEY}"}
    with ExitStack() as stack:
        argv = [sys.executable, "-m", "control_api.cli", "serve", "api"]
        api = Process(argv, cpus=_ALL_CPUS, folder=folder / "api-log", env=environment)
        stack.callback(api.stop)
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=30) as http:

            async def answers() -> bool:
                if why := api.ended():
                    sys.exit(f"the control API: {why}")
                try:
                    return (await http.get("/healthz")).is_success
                except httpx2.TransportError:
                    return False

            await until(answers, "the control API")
            yield Site(http, api, stack, folder, hub_url)
