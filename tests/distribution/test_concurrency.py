"""Several callers at once, on both databases: one task for one order, and never more grants than the limit."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.conftest import store
from tests.distribution.fleet import new_model, new_node, order, report
from tests.hub import Hub
from tests.running import Api, running_api, settings_for

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["sqlite", "postgresql"])
async def api(tmp_path: Path, hub: Hub, request: pytest.FixtureRequest, anyio_backend: str) -> AsyncIterator[Api]:
    """A control API that grants two fetches at once, on each kind of database."""
    values = {"hub_endpoint": hub.url, "auto_distribution": "off", "max_concurrent_downloads": 2}
    settings = settings_for(tmp_path, **values, **store(request, tmp_path, request.param))
    async with running_api(settings, migrated=True) as running:
        yield running


async def test_many_orders_at_once_make_one_task(api: Api) -> None:
    await new_model(api, "a")
    node = await new_node(api, "gpu-01")

    answers = await asyncio.gather(*(order(api, "a:1b") for _ in range(8)))

    assert len({task_id for answer in answers for task_id in answer["task_ids"]}) == 1
    assert [m["generation"] for m in (await node.manifest())["models"]] == [1]


async def test_orders_of_several_models_each_get_a_revision_of_their_own(api: Api) -> None:
    for name in ("a", "b", "c"):
        await new_model(api, name)
    node = await new_node(api, "gpu-01")
    before = (await node.manifest())["revision"]

    await asyncio.gather(*(order(api, f"{name}:1b") for name in ("a", "b", "c")))

    manifest = await node.manifest()
    assert {m["id"] for m in manifest["models"]} == {"a:1b", "b:1b", "c:1b"}
    assert manifest["revision"] == before + 3


async def test_nodes_that_ask_at_once_never_get_more_than_the_limit(api: Api) -> None:
    model = await new_model(api, "a")
    nodes = [await new_node(api, f"gpu-{i:02}") for i in range(6)]
    await order(api, "a:1b")
    sha256 = model["artifacts"][0]["sha256"]

    answers = await asyncio.gather(*(node.ask(sha256) for node in nodes))

    assert sorted(answer.status_code for answer in answers) == [200] * 2 + [202] * 4
    assert sorted(a.json()["position"] for a in answers if a.status_code == 202) == [1, 2, 3, 4]


async def test_registering_a_model_twice_at_once_makes_it_once(api: Api) -> None:
    bodies = [{"source": "lab/a", "id": "a:1b"}] * 4

    answers = await asyncio.gather(*(api.http.post("/v0/models/register", json=body) for body in bodies))

    assert {answer.status_code for answer in answers} <= {200, 201, 409}
    assert [m["id"] for m in (await api.http.get("/v0/models")).json()["items"]] == ["a:1b"]


async def test_the_whole_way_on_each_database(api: Api) -> None:
    model, node = await new_model(api, "a"), await new_node(api, "gpu-01")
    [task_id] = (await order(api, "a:1b"))["task_ids"]
    await node.apply()
    fetch = (await node.ask(model["artifacts"][0]["sha256"])).json()["fetch_id"]
    await node.beat(report("a:1b", 1, "downloading", bytes_done=10, bytes_total=1000), fetches=[fetch])
    await node.beat(report("a:1b", 1, "ready"))
    assert (await api.http.get(f"/v0/tasks/{task_id}")).json()["status"] == "completed"
    refused = await api.http.post(f"/v0/nodes/{node.id}/drain", json={})
    assert refused.json()["error"]["code"] == "last_ready_node"

    assert (await api.http.delete("/v0/models/a:1b")).status_code == 204

    assert (await node.manifest())["remove"] == [model["artifacts"][0]["sha256"]]
    await node.apply()
    assert (await api.http.delete(f"/v0/nodes/{node.id}")).status_code == 204
    assert (await api.http.get("/v0/tasks")).json()["items"] == []
