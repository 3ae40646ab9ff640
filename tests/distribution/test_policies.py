"""What is placed without being ordered."""

from pathlib import Path

import pytest

from tests.distribution.fleet import GIB, assignments, new_model, new_node, report
from tests.hub import Hub
from tests.running import Api, running_api, settings_for

pytestmark = pytest.mark.anyio

registered = pytest.mark.parametrize("api", [{"auto_distribution": "registered"}], indirect=True)


async def statuses(api: Api) -> dict[tuple[str, str], str]:
    items = (await api.http.get("/v0/tasks")).json()["items"]
    return {(t["node_id"], t["model_id"]): t["status"] for t in items}


@registered
async def test_a_new_model_goes_to_every_node_and_a_new_node_gets_every_model(api: Api) -> None:
    early = await new_node(api, "early")
    await new_model(api, "a")
    late = await new_node(api, "late")

    assert await statuses(api) == {(early.id, "a:1b"): "pending", (late.id, "a:1b"): "pending"}
    for node in (early, late):
        assert [m["id"] for m in (await node.manifest())["models"]] == ["a:1b"]


@registered
async def test_what_does_not_fit_is_shown_with_its_reason_and_gets_its_place_when_there_is_room(api: Api) -> None:
    node = await new_node(api, "gpu-01", memory_bytes=5 * GIB // 4, disk_free_bytes=GIB + 2500)
    await new_model(api, "a")
    await new_model(api, "b")

    assert "disk" in (await assignments(api, node))["b:1b"]["unschedulable"]
    assert await statuses(api) == {(node.id, "a:1b"): "pending"}

    await api.http.delete("/v0/models/a:1b")

    assert (await assignments(api, node))["b:1b"]["unschedulable"] is None
    assert await statuses(api) == {(node.id, "a:1b"): "cancelled", (node.id, "b:1b"): "pending"}
    assert [m["id"] for m in (await node.manifest())["models"]] == ["b:1b"]


@registered
async def test_what_exceeds_the_memory_is_installed_and_loaded_on_demand_until_there_is_room(api: Api) -> None:
    node = await new_node(api, "gpu-01", memory_bytes=5 * GIB // 4)
    await new_model(api, "a")
    await new_model(api, "b")

    before = await node.manifest()
    assert [(m["id"], m["residency"], m["generation"]) for m in before["models"]] == [
        *[("a:1b", "resident", 1), ("b:1b", "on_demand", 1)]
    ]
    assert await statuses(api) == {(node.id, "a:1b"): "pending", (node.id, "b:1b"): "pending"}
    reason = (await assignments(api, node))["b:1b"]["residency_reason"]
    assert reason == "needs 512.0 MiB of RAM, but 256.0 MiB of 1.2 GiB are free beside a reserve of 512.0 MiB"

    await api.http.delete("/v0/models/a:1b")

    after = await node.manifest()
    assert [(m["id"], m["residency"], m["generation"]) for m in after["models"]] == [("b:1b", "resident", 1)]
    assert after["revision"] > before["revision"]
    assert (await assignments(api, node))["b:1b"]["residency_reason"] is None


@registered
async def test_what_would_not_fit_alone_is_refused_with_its_reason(api: Api) -> None:
    node = await new_node(api, "gpu-01", memory_bytes=3 * GIB // 4)
    await new_model(api, "a")

    assert "512.0 MiB of RAM, but 256.0 MiB of 768.0 MiB" in (await assignments(api, node))["a:1b"]["unschedulable"]
    assert (await node.manifest())["models"] == []


@registered
async def test_each_model_is_told_on_which_gpu_it_lives(api: Api) -> None:
    node = await new_node(api, "gpu-01", gpus=(5 * GIB // 4, 7 * GIB // 4))
    for name in ("a", "b", "c"):
        await new_model(api, name)

    manifest = await node.manifest()

    assert {m["id"]: (m["residency"], m["params"]["gpu_uuids"]) for m in manifest["models"]} == {
        "a:1b": ("resident", ["GPU-0"]),
        "b:1b": ("resident", ["GPU-1"]),
        "c:1b": ("resident", ["GPU-1"]),
    }
    assert {m["required_memory_bytes"] for m in manifest["models"]} == {
        (512 << 20) + 1200,
        (512 << 20) + 2400,
        (512 << 20) + 3600,
    }
    assert manifest["memory_reserve_bytes"] == GIB // 2


@registered
async def test_a_model_goes_only_to_nodes_with_the_tags_that_it_needs(api: Api) -> None:
    plain, tagged = await new_node(api, "plain"), await new_node(api, "tagged", tags=("gpu-a", "site:tokyo"))
    await new_model(api, "a", needs=["gpu-a"])

    assert await statuses(api) == {(tagged.id, "a:1b"): "pending"}
    assert await assignments(api, plain) == {}

    await api.http.patch(f"/v0/nodes/{plain.id}", json={"tags": ["gpu-a"]})

    assert (plain.id, "a:1b") in await statuses(api)


@registered
async def test_the_tags_that_a_model_needs_can_be_changed_and_what_is_there_stays(api: Api) -> None:
    node = await new_node(api, "gpu-01")
    await new_model(api, "a", needs=["gpu-a"])
    assert await assignments(api, node) == {}

    changed = await api.http.patch("/v0/models/a:1b", json={"needs": []})
    assert (changed.status_code, changed.json()["needs"]) == (200, [])
    assert (node.id, "a:1b") in await statuses(api)

    await api.http.patch("/v0/models/a:1b", json={"needs": ["gpu-z"]})
    assert [m["id"] for m in (await node.manifest())["models"]] == ["a:1b"]


@registered
async def test_what_was_cancelled_is_not_placed_again_by_itself(api: Api) -> None:
    node = await new_node(api, "gpu-01")
    await new_model(api, "a")
    [item] = (await api.http.get("/v0/tasks")).json()["items"]
    await api.http.post(f"/v0/tasks/{item['id']}/cancel")

    await new_model(api, "b")

    assert [m["id"] for m in (await node.manifest())["models"]] == ["b:1b"]


@pytest.mark.parametrize("api", [{"auto_distribution": "best-fit"}], indirect=True)
async def test_best_fit_puts_one_model_on_a_node_and_leaves_it_there(api: Api) -> None:
    await new_model(api, "a")
    await new_model(api, "c")
    node = await new_node(api, "gpu-01")

    assert [m["id"] for m in (await node.manifest())["models"]] == ["c:1b"]
    await new_model(api, "b")
    assert [m["id"] for m in (await node.manifest())["models"]] == ["c:1b"]


@pytest.mark.parametrize("api", [{"auto_distribution": "all"}], indirect=True)
async def test_all_keeps_to_the_fixed_list(api: Api) -> None:
    await new_model(api, "a")
    node = await new_node(api, "gpu-01")

    assert await assignments(api, node) == {}


async def test_off_places_nothing(api: Api) -> None:
    await new_model(api, "a")
    node = await new_node(api, "gpu-01")

    assert await assignments(api, node) == {}


@registered
async def test_a_node_that_registers_again_keeps_what_it_has(api: Api) -> None:
    await new_model(api, "a")
    node = await new_node(api, "gpu-01")
    await node.beat(report("a:1b", 1, "ready"))
    before = await assignments(api, node)

    ticket = (await api.http.post(f"/v0/hosts/{node.host_id}/enrolment", params={"force": True})).json()["ticket"]
    facts = {"name": "gpu-01", "base_url": "http://127.0.0.1:8090", "version": "0.1.0", "instance_id": "second"}
    facts |= {"inference_key": "k" * 43, "hardware": {"memory_total": 8 * GIB, "disk_free": 50 * GIB}}
    answer = await api.http.post("/v0/nodes/register", json=facts, headers={"authorization": f"Bearer {ticket}"})

    assert answer.json()["node_id"] == node.id
    assert await assignments(api, node) == before
    assert len((await api.http.get("/v0/tasks")).json()["items"]) == 1


async def test_a_node_with_less_disk_than_before_is_looked_at_again_when_it_comes_online(tmp_path: Path, hub: Hub) -> None:
    settings = settings_for(tmp_path, hub_endpoint=hub.url, auto_distribution="registered")
    async with running_api(settings) as api:
        await new_model(api, "a")
        node = await new_node(api, "gpu-01", disk_free_bytes=GIB)
        assert (await assignments(api, node))["a:1b"]["unschedulable"]
        await node.apply()

        assert (await api.http.get(f"/v0/nodes/{node.id}")).json()["state"] == "online"
        assert (await assignments(api, node))["a:1b"]["unschedulable"] is None
