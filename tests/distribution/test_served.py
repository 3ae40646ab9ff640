"""A node answers only for what it was given: what it says of other models routes nothing and shows as an orphan."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from sqlmodel import select

from control_api.catalogue.models import Artifact, Model
from control_api.fleet.models import Assignment, Node, NodeModel
from control_api.fleet.states import ModelState
from control_api.keys import load_routing_key
from control_api.kit import revision
from control_api.router.repository import StoreSource
from control_api.router.settings import RouterSettings
from tests.distribution.fleet import new_model, new_node, order, report
from tests.router.fleet import CHAT, bearer, chat
from tests.router.running import running_router
from tests.running import Api, until

pytestmark = pytest.mark.anyio


async def shown(api: Api) -> dict[str, Any]:
    """Return what the API says of the model ``a:1b`` and of where it is."""
    model = (await api.http.get("/v0/models/a:1b")).json()
    [node] = (await api.http.get("/v0/nodes")).json()["items"]
    states = {reported["id"]: reported["state"] for reported in node["models"]}
    return {"lifecycle": model["lifecycle_status"], "ready": model["ready_nodes"], "on the node": states}


@contextlib.asynccontextmanager
async def router(api: Api) -> AsyncIterator[httpx2.AsyncClient]:
    """Run a router on the API's store, and wait until it has read its routes."""
    source = StoreSource(api.database.control, load_routing_key(api.settings))
    async with running_router(RouterSettings(poll_interval_s=0.02), source, key=api.key, sinks=[]) as http:

        async def ready() -> bool:
            return bool((await http.get("/healthz")).json()["ready"])

        await until(ready, what="the router to read its routes")
        yield http


async def served(http: httpx2.AsyncClient) -> list[str]:
    return [model["id"] for model in (await http.get("/v1/models")).json()["data"]]


async def test_from_the_order_to_the_cancel_and_no_longer(api: Api) -> None:
    await new_model(api, "a")
    node = await new_node(api, "gpu-01")
    await node.apply()
    ready = report("a:1b", 1, "ready", slots=4)
    await node.beat(ready, report("stranger:1b", 1, "ready"), report("openai:gpt-x", 1, "ready"))
    orphans = {"a:1b": "orphaned", "stranger:1b": "orphaned"}
    assert await shown(api) == {"lifecycle": "registered", "ready": 0, "on the node": orphans}

    async with router(api) as http:
        assert await served(http) == []
        answers = [await http.post(CHAT, json=chat(model=model)) for model in ("a:1b", "stranger:1b", "openai:gpt-x")]
        said = [(answer.status_code, answer.json()["error"]["code"]) for answer in answers]
        assert said == [(503, "no_ready_node"), (404, "model_not_found"), (404, "model_not_found")]
        pinned = await http.post(CHAT, json=chat(model="a:1b"), headers={"x-muster-pin-node": node.id})
        assert (pinned.status_code, "was not given" in pinned.json()["error"]["message"]) == (503, True)

        [task_id] = (await order(api, "a:1b"))["task_ids"]
        await until(lambda: served(http), what="the router to learn of the order, with no further report")
        assert await shown(api) == {"lifecycle": "ready", "ready": 1, "on the node": orphans | {"a:1b": "ready"}}

        await api.http.post(f"/v0/tasks/{task_id}/cancel")

        async def nothing() -> bool:
            return await served(http) == []

        await until(nothing, what="the router to learn of the cancel, with no further report")
    assert await shown(api) == {"lifecycle": "registered", "ready": 0, "on the node": orphans}


async def test_nobody_is_offered_what_a_node_was_not_given(api: Api) -> None:
    async def offered() -> dict[str, tuple[str, list[str]]]:
        models = (await api.http.get("/v0/models/available")).json()["models"]
        return {model["id"]: (model["source"], model["node_ids"]) for model in models}

    await new_model(api, "a")
    node = await new_node(api, "gpu-01")
    await node.apply()
    before = await offered()
    named = ("a:1b", "smollm2:135m", "stranger:1b", "openai:gpt-x")
    for state in ("ready", "installed", "absent", "removing"):
        await node.beat(*[report(model_id, 1, state, size=7) for model_id in named])
        assert await offered() == before, state

    await node.beat(*[report(model_id, 1, "ready") for model_id in named])
    [task_id] = (await order(api, "a:1b"))["task_ids"]
    assert await offered() == before | {"a:1b": ("registered", [node.id])}
    await api.http.post(f"/v0/tasks/{task_id}/cancel")
    assert await offered() == before


async def test_an_id_with_a_providers_prefix_is_the_providers_whatever_the_store_holds(api: Api) -> None:
    node = await new_node(api, "gpu-01")
    provider = {"api_key": "sk-12345678", "models": ["gpt-x"], "base_url": "http://127.0.0.1:9/v1"}
    assert (await api.http.put("/v0/providers/openai", json=provider)).status_code == 200
    async with api.database.control.write() as session:
        names = {"name": "x", "repo": "o/r", "revision": "c" * 40}
        session.add(Model(id="openai:gpt-x", size_bytes=1, required_memory_bytes=1, **names))
        await session.flush()
        session.add(Assignment(node_id=node.id, model_id="openai:gpt-x", generation=1))
        session.add(NodeModel(node_id=node.id, model_id="openai:gpt-x", state=ModelState.READY, slots=9))
        (await session.get_one(Node, node.id)).base_url = "http://127.0.0.1:10"
        await revision.bump(session, revision.ROUTES)

    async with router(api) as http:
        listed = (await http.get("/v1/models/openai:gpt-x")).json()
        answer = await http.post(CHAT, json=chat(model="openai:gpt-x"), headers=bearer(api.key))

    assert listed["owned_by"] == "openai"
    assert (answer.status_code, "openai could not be asked" in answer.json()["error"]["message"]) == (502, True)


async def test_what_a_hub_said_long_ago_costs_a_node_only_that_model(api: Api) -> None:
    await new_model(api, "a")
    await new_model(api, "b")
    node = await new_node(api, "gpu-01")
    for name in ("a", "b"):
        await order(api, f"{name}:1b")
    for wrong in ({"sha256": "../../../etc/passwd"}, {"size": -5}, {"name": "../x"}, {"name": "a\nb"}):
        async with api.database.control.write() as session:
            artifact = (await session.exec(_of("a:1b"))).one()
            before = artifact.model_dump()
            artifact.sqlmodel_update(wrong)
        assert [model["id"] for model in (await node.manifest())["models"]] == ["b:1b"], wrong
        async with api.database.control.write() as session:
            (await session.exec(_of("a:1b"))).one().sqlmodel_update(before)
    assert [model["id"] for model in (await node.manifest())["models"]] == ["a:1b", "b:1b"]


def _of(model_id: str) -> Any:
    return select(Artifact).where(Artifact.model_id == model_id)
