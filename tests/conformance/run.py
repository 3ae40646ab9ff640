"""Runs every client against one router, over a faulty engine and over a real one, and collects what they saw."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from control_api.router.table import RouteNode, RouteTarget
from tests.conformance import environments
from tests.conformance.engine import FaultyEngine
from tests.conformance.environments import NotHere
from tests.conformance.matrix import AT_NODES, OPERATIONS, Case, cases_of
from tests.node_service.process import NodeProcess
from tests.router.fleet import CHAT, KEY, Fleet, bearer, chat, key_entry

DRIVERS = Path(__file__).parent / "clients"
LISTED, SPENT, FORBIDDEN, REAL = "mk_listed", "mk_spent", "mk_forbidden", "mk_real"
FINE = "fine:model"
REAL_MODELS = {"embedding": "tiny:embed"}
REAL_CHAT = "tiny:model"
SILENCE_S = 2.0
RUN_LIMIT_S = 600


@dataclass(frozen=True)
class Client:
    """A client: its name, how it is run and which operations it has."""

    name: str
    command: Callable[[], list[str]]
    operations: tuple[str, ...] = tuple(OPERATIONS)


CLIENTS = (
    Client("openai-python", lambda: [*environments.own(), f"{DRIVERS}/openai_python.py", "sync"]),
    Client("openai-python async", lambda: [*environments.own(), f"{DRIVERS}/openai_python.py", "async"]),
    Client("openai-node", lambda: environments.node("openai_node", "client.mjs")),
    Client(
        "LangChain",
        lambda: [*environments.python("langchain"), f"{DRIVERS}/langchain_client.py"],
        ("chat", "chat_stream", "embedding", "response", "response_stream", "headers"),
    ),
    Client(
        "LiteLLM",
        lambda: [*environments.python("litellm"), f"{DRIVERS}/litellm_client.py"],
        ("chat", "chat_stream", "completion", "embedding"),
    ),
    Client("curl", lambda: [*environments.curl(), f"{DRIVERS}/curl_client.py"]),
)


@dataclass
class Outcomes:
    """What clients saw, by case; ``missing``: why a client could not be run."""

    seen: dict[str, dict[str, Any]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


def real_id(client: str, operation: str) -> str:
    """Return the id of an operation on the real engine."""
    return f"{client}/{operation}/real"


async def collect(real: NodeProcess) -> Outcomes:
    """Run all clients at the same time and return what they saw."""
    fleet, outcomes = Fleet(), Outcomes()
    commands: dict[Client, list[str]] = {}
    for client in CLIENTS:
        try:
            commands[client] = client.command()
        except NotHere as why:
            outcomes.missing[client.name] = str(why)
    try:
        await _furnish(fleet, real, [case for client in commands for case in cases_of(client.name, client.operations)])
        async with fleet.router(first_byte_timeout_s=SILENCE_S) as http:
            await http.post(CHAT, json=chat(model=FINE), headers=bearer(SPENT))
            async with asyncio.timeout(RUN_LIMIT_S), asyncio.TaskGroup() as group:
                for client, command in commands.items():
                    group.create_task(_run(client, command, fleet.url + "/v1", outcomes))
    finally:
        await fleet.close()
    return outcomes


async def _furnish(fleet: Fleet, real: NodeProcess, cases: list[Case]) -> None:
    """Make a table in which every case has two nodes of its own; all of them are one engine under different names."""
    engine = await fleet.node(FaultyEngine(), model=FINE)
    entries, models = dict(fleet.table.nodes), dict(fleet.table.models)
    for case in cases:
        if case.fault.name in AT_NODES | {"loading", "not_allowed"}:
            ids = [f"{case.id}/{number}" for number in (1, 2)]
            ready = case.fault.name != "loading"
            for id_ in ids:
                entries[id_] = RouteNode(id_, id_, engine.url, engine.inference_key, "online", "open", False)
            models[case.model] = tuple(RouteTarget(id_, ready, 4, "ready" if ready else "loading", 0, 0) for id_ in ids)
    entries["real"] = RouteNode("real", "real", real.url, real.key, "online", "open", False)
    for model in (REAL_CHAT, *REAL_MODELS.values()):
        models[model] = (RouteTarget("real", True, 2, "ready", 0, 0),)
    keys = (
        fleet.table.keys
        | key_entry(LISTED, "inference", models={FINE})
        | key_entry(REAL, "inference", models={REAL_CHAT})
        | key_entry(FORBIDDEN, "inference", models={FINE})
        | key_entry(SPENT, "inference", tokens_per_minute=1)
    )
    fleet.source.change(nodes=entries, models=models, keys=keys)


async def _run(client: Client, command: list[str], base_url: str, outcomes: Outcomes) -> None:
    wanted = [_wire(case) for case in cases_of(client.name, client.operations)]
    wanted += [_real(client.name, operation) for operation in client.operations]
    plan = json.dumps({"base_url": base_url, "cases": wanted}).encode()
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=pipe)
    try:
        out, errors = await process.communicate(plan)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, f"{client.name}: {errors.decode()[-3000:]}"
    for line in out.splitlines():
        outcome = json.loads(line)
        outcomes.seen[outcome.pop("id")] = outcome


def _wire(case: Case) -> dict[str, str]:
    keys = {"bad_key": "mk_nobody", "not_allowed": FORBIDDEN, "spent": SPENT}
    key = LISTED if case.operation == "models" else KEY
    return {
        "id": case.id,
        "operation": case.operation,
        "key": keys.get(case.fault.name, key),
        "model": FINE if case.fault.name == "spent" else case.model,
    }


def _real(client: str, operation: str) -> dict[str, str]:
    model = REAL_MODELS.get(operation, REAL_CHAT)
    key = REAL if operation == "models" else KEY
    return {"id": real_id(client, operation), "operation": operation, "key": key, "model": model}
