"""Two models on a real node, behind the real router: an engine that dies costs nobody a request."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from control_api.router.table import RouteNode, RouteTarget
from tests.hub import Hub
from tests.node_service.conftest import REPO, hub_model, prepare_node
from tests.node_service.control_plane import ControlPlane
from tests.node_service.process import NodeProcess, descendants
from tests.processes import wait_for
from tests.router.fleet import CHAT, Fleet, chat

pytestmark = pytest.mark.anyio

BOTH, ONE = "node-both", "node-one"
FILES = {"tiny:a": "cycle.gguf", "tiny:b": "wide.gguf"}
ROUNDS = 20


@pytest.fixture
def start(tmp_path: Path, hub: Hub, tiny_models: Path) -> Iterator[Callable[..., NodeProcess]]:
    """Start nodes that hold the named models and wait until they are ready."""
    started: list[tuple[ControlPlane, NodeProcess]] = []

    def node(name: str, *models: str) -> NodeProcess:
        control = ControlPlane().start()
        control.assign(*(hub_model(control, tiny_models, model, FILES[model], REPO) for model in models))
        # More slots than anybody takes: a node frees one a moment after its answer has left, and would be busy once in a while.
        process = prepare_node(tmp_path / name, control, hub, slots=4).start()
        started.append((control, process))
        wait_for(lambda: control.last.get("ready_models") == {"loaded": len(models), "total": len(models)}, f"{name} ready")
        return process

    yield node
    for control, process in started:
        process.kill()
        control.stop()


@pytest.fixture
async def routed(anyio_backend: Any) -> AsyncIterator[Fleet]:
    """A router's view of nodes that the test adds."""
    fleet = Fleet()
    yield fleet
    await fleet.close()


def add(fleet: Fleet, node_id: str, node: NodeProcess, *models: str) -> None:
    """Let the router know a real node."""
    entry = RouteNode(node_id, node_id, node.url, node.key, "online", "open", silent=False)
    targets = dict(fleet.table.models)
    for model in models:
        targets[model] = (*targets.get(model, ()), RouteTarget(node_id, True, 2, "ready", 0, 0))
    fleet.source.change(nodes={**fleet.table.nodes, node_id: entry}, models=targets)


def engine_of(node: NodeProcess, model: str) -> int:
    """Return the process that has a model's file open."""
    assert node.process is not None
    maps = {pid: Path(f"/proc/{pid}/maps").read_text() for pid in descendants(node.process.pid)}
    return next(pid for pid, text in maps.items() if FILES[model] in text)


async def test_killed_engine_costs_no_request_and_the_other_model_nothing(
    start: Callable[..., NodeProcess], routed: Fleet
) -> None:
    both, one = start("both", "tiny:a", "tiny:b"), start("one", "tiny:a")
    add(routed, BOTH, both, "tiny:a", "tiny:b")
    add(routed, ONE, one, "tiny:a")
    victim, spared = engine_of(both, "tiny:a"), engine_of(both, "tiny:b")
    answers: dict[str, list[httpx2.Response]] = {model: [] for model in FILES}
    async with routed.router() as http:

        async def ask(model: str) -> None:
            for _ in range(ROUNDS):
                answers[model].append(await http.post(CHAT, json=chat(model=model, max_tokens=8)))

        async def kill() -> None:
            while len(answers["tiny:a"]) < ROUNDS // 2:
                await asyncio.sleep(0.005)
            os.kill(victim, signal.SIGKILL)

        await asyncio.gather(kill(), *(ask(model) for model in ("tiny:a", "tiny:b", "tiny:a", "tiny:b")))

    for model, got in answers.items():
        texts = {answer.json()["choices"][0]["message"]["content"] for answer in got if answer.is_success}
        assert (model, [answer.text for answer in got if not answer.is_success], texts) == (model, [], {"abcdefgh"})
    assert {answer.headers["x-muster-node"] for answer in answers["tiny:a"]} == {BOTH, ONE}
    assert any(answer.headers["x-muster-attempts"] != "1" for answer in answers["tiny:a"])
    assert {(a.headers["x-muster-node"], a.headers["x-muster-attempts"]) for a in answers["tiny:b"]} == {(BOTH, "1")}
    await asyncio.to_thread(wait_for, lambda: both.chat("tiny:a").is_success, "the killed model back by itself")
    assert engine_of(both, "tiny:a") != victim
    assert engine_of(both, "tiny:b") == spared
