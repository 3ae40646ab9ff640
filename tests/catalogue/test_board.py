"""The hub list is up to date at every look, though only what is new is read and written again."""

from typing import Any

import pytest

from tests.distribution.fleet import WireNode, new_node, report
from tests.running import Api

pytestmark = pytest.mark.anyio

SMALL = "smollm2:135m"


async def shown(api: Api, model_id: str = SMALL) -> tuple[str, str, list[tuple[str, str, str, float]]]:
    """Return status, lifecycle and where a model is, as the list says."""
    response = await api.http.get("/v0/models/hub")
    assert response.headers["content-type"] == "application/json"
    model: dict[str, Any] = next(m for m in response.json()["models"] if m["id"] == model_id)
    nodes = [(n["name"], n["node_state"], n["state"], n["progress"]) for n in model["nodes"]]
    return model["status"], model["lifecycle_status"], nodes


async def ready(node: WireNode, *models: dict[str, Any]) -> None:
    """Let a node apply its manifest and report."""
    await node.apply()
    await node.beat(*models)


async def test_every_report_is_seen_at_the_next_look(api: Api) -> None:
    assert await shown(api) == ("available", "available", [])
    await api.http.post("/v0/models/register", json={"model": SMALL})
    assert await shown(api) == ("available", "registered", [])

    second, first = await new_node(api, "b"), await new_node(api, "a")
    await ready(second, report(SMALL, 1, "downloading", bytes_done=25, bytes_total=100))
    assert await shown(api) == ("downloading", "pending", [("b", "online", "downloading", 0.25)])

    await ready(first, report(SMALL, 1, "ready"), report("unknown:1b", 1, "ready"))
    await second.beat(report(SMALL, 1, "failed", error="disk full", bytes_done=25, bytes_total=100))
    status, lifecycle, nodes = await shown(api)
    assert (status, lifecycle, [node[0] for node in nodes]) == ("downloaded", "ready", ["a", "b"])

    await first.beat(report("unknown:1b", 1, "ready"))
    assert [node[0] for node in (await shown(api))[2]] == ["b"]


async def test_nodes_that_go_and_models_that_are_deleted_leave_the_list(api: Api) -> None:
    await api.http.post("/v0/models/register", json={"model": SMALL, "slots": 2})
    node = await new_node(api, "a")
    await ready(node, report(SMALL, 1, "ready"))
    listed = {m["id"]: m for m in (await api.http.get("/v0/models/hub")).json()["models"]}
    assert listed[SMALL]["memory"]["slots"] == 2
    assert (await shown(api))[1] == "ready"

    await api.http.delete(f"/v0/nodes/{node.id}", params={"force": True})
    assert await shown(api) == ("available", "registered", [])
    await api.http.delete(f"/v0/models/{SMALL}")
    assert await shown(api) == ("available", "available", [])
    listed = {m["id"]: m for m in (await api.http.get("/v0/models/hub")).json()["models"]}
    assert listed[SMALL]["memory"]["slots"] == 4


async def test_a_model_that_is_configured_anew_tells_its_memory_at_once(api: Api) -> None:
    async def cache_bytes() -> int:
        listed = {m["id"]: m for m in (await api.http.get("/v0/models/hub")).json()["models"]}
        return int(listed[SMALL]["memory"]["kv_cache_bytes"])

    await api.http.post("/v0/models/register", json={"model": SMALL})
    before = await cache_bytes()

    await api.http.patch(f"/v0/models/{SMALL}", json={"kv_cache_type": "q8_0"})

    assert await cache_bytes() == before * 34 // 64


async def test_a_drained_node_is_shown_as_one(api: Api) -> None:
    await api.http.post("/v0/models/register", json={"model": SMALL})
    node = await new_node(api, "a")
    await ready(node, report(SMALL, 1, "ready"))
    assert (await shown(api))[2] == [("a", "online", "ready", 1.0)]

    await api.http.post(f"/v0/nodes/{node.id}/drain", json={"force": True})

    assert (await shown(api))[2][0][1] in ("draining", "drained")
