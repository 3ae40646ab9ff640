"""Measures ``GET /v0/models/hub`` with 200 models that 100 nodes report: ``python -m benchmarks.catalogue``.

A control API of its own on SQLite, one caller, one request after the other, from the request to the last byte of the answer.
`quiet`: nothing changes meanwhile. `moving`: before each request another node reports progress. The hub is a port that nobody
listens on. The last line is one JSON object.
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
from datetime import timedelta
from pathlib import Path
from statistics import quantiles
from typing import Any

import httpx2
from sqlmodel import Session, create_engine, select

from benchmarks.processes import Process, free_port
from control_api.fleet.models import Admission, ModelState, Node, NodeModel, NodeState
from control_api.kit.clock import utcnow

PROJECT = Path(__file__).parents[1]
KEY = "mk_" + "b" * 43
START_LIMIT_S = 60


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
async def control_plane(folder: Path, project: Path) -> AsyncIterator[httpx2.AsyncClient]:
    """Run a control API and yield a client of it."""
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
            yield http
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


async def measured(http: httpx2.AsyncClient, count: int, before: Callable[[], Awaitable[None]] | None) -> list[float]:
    """Return how long requests took, in milliseconds."""
    took = []
    for number in range(count + 10):
        if before:
            await before()
        started = time.perf_counter()
        answer = await http.get("/v0/models/hub")
        if number >= 10:
            took.append((time.perf_counter() - started) * 1000)
        if not answer.is_success:
            sys.exit(f"The list was refused: {answer.text}")
    return took


def figures(name: str, took_ms: list[float]) -> dict[str, Any]:
    """Return the median and the 99th percentile, rounded."""
    cuts = quantiles(took_ms, n=100)
    return {f"hub_list_{name}_p50_ms": round(cuts[49], 1), f"hub_list_{name}_p99_ms": round(cuts[98], 1)}


async def bench(models: int, nodes: int, requests: int) -> dict[str, Any]:
    """Measure and return the figures."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with control_plane(folder, make_project(folder, models)) as http:
            fleet = Fleet(folder, models, nodes)
            fleet.register()
            size = len((await http.get("/v0/models/hub")).content)
            quiet = await measured(http, requests, None)
            moving = await measured(http, requests, fleet.move)
    return {"models": models, "nodes": nodes, "answer_bytes": size} | figures("quiet", quiet) | figures("moving", moving)


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
