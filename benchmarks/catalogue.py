"""Measures ``GET /v0/models/hub`` with 200 models that 100 nodes report: ``python -m benchmarks.catalogue``.

A control API of its own on SQLite, one caller, one request after the other, from the request to the last byte of the answer.
`nothing`: `/healthz`, which shows what the machine itself costs. `quiet`: nothing changes meanwhile. `moving`: before each
request another node reports progress. The hub is a port that nobody listens on. Beside the latency, which grows with what
else the machine does, stands the CPU time of the API for one request; its heartbeat sweep and the like are in it. The last
line is one JSON object.
"""

import argparse
import asyncio
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from statistics import quantiles
from typing import Any

import httpx2
from sqlmodel import Session, create_engine, select

from benchmarks.processes import Process, cpu_s, tree
from control_api.fleet.models import Assignment, Node, NodeModel
from control_api.fleet.states import Admission, ModelState, NodeState
from control_api.kit.clock import utcnow
from tests.ports import free_port

PROJECT = Path(__file__).parents[1]
KEY = "mk_" + "b" * 43
START_LIMIT_S = 60
LIST = "/v0/models/hub"


def make_project(folder: Path, models: int) -> Path:
    """Return a project directory whose catalogue has so many models: this one's, again and again."""
    project = folder / "project"
    project.mkdir()
    for name in ("inventory", "plugins", "roles", "playbooks"):
        (project / name).symlink_to(PROJECT / name)
    shutil.copy(PROJECT / "ansible.cfg", project)
    entries = json.loads((PROJECT / "supported_models.json").read_text())
    many = [entries[index % len(entries)] | {"id": f"model-{index}:1b"} for index in range(models)]
    (project / "supported_models.json").write_text(json.dumps(many))
    return project


@asynccontextmanager
async def control_plane(folder: Path, project: Path) -> AsyncIterator[tuple[httpx2.AsyncClient, int]]:
    """Run a control API and yield a client of it, and its process id."""
    port = free_port()
    environment = {
        "MUSTER_STATE_DIR": str(folder / "state"),
        "MUSTER_CACHE_DIR": str(folder / "cache"),
        "MUSTER_PROJECT_DIR": str(project),
        "MUSTER_BOOTSTRAP_API_KEY": KEY,
        "MUSTER_API_PORT": str(port),
        "MUSTER_HUB_ENDPOINT": f"http://127.0.0.1:{free_port()}",
        "MUSTER_LOG_LEVEL": "warning",
    }
    argv = [sys.executable, "-m", "control_api.cli", "serve", "api"]
    api = Process(argv, folder=folder / "api", cpus=f"0-{(os.cpu_count() or 1) - 1}", env=environment)
    headers = {"authorization": f"Bearer {KEY}"}
    try:
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=30) as http:
            await _until_ready(http, api)
            yield http, api.pid
    finally:
        api.stop()


async def _until_ready(http: httpx2.AsyncClient, api: Process) -> None:
    give_up = time.monotonic() + START_LIMIT_S
    while True:
        try:
            if (await http.get("/healthz")).is_success:
                return
        except httpx2.HTTPError:
            if (why := api.ended()) or time.monotonic() > give_up:
                sys.exit(f"The control API does not answer: {why}")
        await asyncio.sleep(0.1)


class Fleet:
    """Nodes in the store, written past the API: what is measured is reading."""

    def __init__(self, folder: Path, models: int, nodes: int) -> None:
        self._engine = create_engine(f"sqlite:///{folder / 'state/control.db'}")
        self._models = [f"model-{index}:1b" for index in range(models)]
        self._ids = [f"node-{index}" for index in range(nodes)]
        self._turn = 0

    def register(self) -> None:
        """Write all nodes, each with a report of every model."""
        with Session(self._engine) as session:
            for node_id in self._ids:
                session.add(_node(node_id))
            session.flush()
            for node_id in self._ids:
                for model_id in self._models:
                    session.add(NodeModel(node_id=node_id, model_id=model_id, state=ModelState.READY, slots=4))
                    session.add(Assignment(node_id=node_id, model_id=model_id, generation=1))
            session.commit()

    async def move(self) -> None:
        """Let the next node report progress of one model."""
        self._turn += 1
        node_id, model_id = self._ids[self._turn % len(self._ids)], self._models[self._turn % len(self._models)]
        with Session(self._engine) as session:
            row = session.exec(select(NodeModel).where(NodeModel.node_id == node_id, NodeModel.model_id == model_id)).one()
            row.state, row.bytes_done, row.bytes_total = ModelState.DOWNLOADING, self._turn, 1 << 20
            node = session.exec(select(Node).where(Node.id == node_id)).one()
            node.models_revision += 1
            session.add_all([row, node])
            session.commit()


def _node(node_id: str) -> Node:
    # Never silent for so long that it would be taken for offline.
    return Node(
        id=node_id,
        name=node_id,
        base_url="http://127.0.0.1:8090",
        admission=Admission.OPEN,
        state=NodeState.ONLINE,
        inference_key_encrypted="",
        token_hash="",
        version="0",
        hardware={},
        instance_id="1",
        last_heartbeat_at=utcnow() + timedelta(hours=1),
    )


@dataclass(frozen=True)
class Took:
    """How long each request took, and the API's CPU time for one, in milliseconds."""

    latencies_ms: list[float]
    cpu_ms: float


async def measured(
    http: httpx2.AsyncClient, pid: int, count: int, *, path: str = LIST, before: Callable[[], Awaitable[None]] | None = None
) -> Took:
    """Ask again and again; the first ten times warm up."""
    took, cpu_before_s = [], 0.0
    for number in range(count + 10):
        if number == 10:
            cpu_before_s = cpu_s(tree(pid))
        if before:
            await before()
        started = time.perf_counter()
        answer = await http.get(path)
        if number >= 10:
            took.append((time.perf_counter() - started) * 1000)
        if not answer.is_success:
            sys.exit(f"{path} was refused: {answer.text}")
    return Took(took, (cpu_s(tree(pid)) - cpu_before_s) * 1000 / count)


def figures(name: str, took: Took) -> dict[str, Any]:
    """Return the median and the 99th percentile, and the CPU time, rounded."""
    cuts = quantiles(took.latencies_ms, n=100)
    values = {"p50_ms": cuts[49], "p99_ms": cuts[98], "cpu_ms": took.cpu_ms}
    return {f"{name}_{key}": round(value, 1) for key, value in values.items()}


async def bench(models: int, nodes: int, requests: int) -> dict[str, Any]:
    """Measure and return the figures."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with control_plane(folder, make_project(folder, models)) as (http, pid):
            fleet = Fleet(folder, models, nodes)
            fleet.register()
            size = len((await http.get(LIST)).content)
            nothing = await measured(http, pid, requests, path="/healthz")
            quiet = await measured(http, pid, requests)
            moving = await measured(http, pid, requests, before=fleet.move)
    answers = figures("nothing", nothing) | figures("hub_list_quiet", quiet) | figures("hub_list_moving", moving)
    return {"models": models, "nodes": nodes, "answer_bytes": size} | answers


def main() -> None:
    """Parse the arguments, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=200)
    parser.add_argument("--nodes", type=int, default=100)
    parser.add_argument("--requests", type=int, default=300)
    options = parser.parse_args()
    print(json.dumps(asyncio.run(bench(options.models, options.nodes, options.requests))))


if __name__ == "__main__":
    main()
