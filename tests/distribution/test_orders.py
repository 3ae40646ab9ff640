"""Orders and the tasks that follow from them, through HTTP, with nodes played at the wire."""

import pytest
from sqlmodel import select

from control_api.kit.bus import BusEvent
from tests.distribution.fleet import new_model, new_node, order, report, task
from tests.running import Api, until

pytestmark = pytest.mark.anyio


async def test_an_order_reaches_the_manifest_and_its_task_follows_the_node_to_the_end(api: Api) -> None:
    model, node = await new_model(api, "a"), await new_node(api, "gpu-01")
    before = (await node.manifest())["revision"]

    answer = await order(api, "a:1b")

    assert answer["job_id"] is None
    [task_id] = answer["task_ids"]
    manifest = await node.apply()
    assert manifest["revision"] > before
    [wanted] = manifest["models"]
    assert (wanted["id"], wanted["generation"], wanted["residency"]) == ("a:1b", 1, "resident")
    assert wanted["params"] == {"context": 8192, "slots": 4, "embedding": False, "gpu_uuids": []}
    assert [a["sha256"] for a in wanted["artifacts"]] == [a["sha256"] for a in model["artifacts"]]
    assert (await task(api, task_id))["status"] == "pending"

    await node.beat(report("a:1b", 1, "downloading", bytes_done=250, bytes_total=1000, speed_bps=50))
    moving = await task(api, task_id)
    assert (moving["status"], moving["progress"], moving["eta_s"]) == ("in_progress", 0.25, 15)

    await node.beat(report("a:1b", 1, "loading", bytes_done=1000, bytes_total=1000))
    done = await task(api, task_id)
    assert (done["status"], done["progress"], done["error"]) == ("completed", 1.0, None)
    assert done["completed_at"] >= done["started_at"]


async def test_a_node_is_told_its_models_in_the_order_in_which_they_were_ordered(api: Api) -> None:
    node = await new_node(api, "gpu-01")
    for name in ("a", "b", "c"):
        await new_model(api, name)
    tasks = [(await order(api, f"{name}:1b"))["task_ids"][0] for name in ("c", "a", "b")]
    assert [model["id"] for model in (await node.apply())["models"]] == ["c:1b", "a:1b", "b:1b"]

    await api.http.post(f"/v0/tasks/{tasks[0]}/cancel")
    await order(api, "c:1b")

    assert [model["id"] for model in (await node.manifest())["models"]] == ["a:1b", "b:1b", "c:1b"]


async def test_every_change_of_a_task_is_an_event(api: Api) -> None:
    await new_model(api, "a")
    node = await new_node(api, "gpu-01")
    await order(api, "a:1b")
    await node.beat(report("a:1b", 1, "downloading", bytes_done=1, bytes_total=1000))
    await node.beat(report("a:1b", 1, "ready", bytes_done=1000, bytes_total=1000))

    async with api.database.control.read() as session:
        rows = (await session.exec(select(BusEvent).where(BusEvent.topic == "tasks"))).all()
    assert [row.data["status"] for row in rows] == ["pending", "in_progress", "completed"]


async def test_ordering_again_returns_the_open_task(api: Api) -> None:
    await new_model(api, "a")
    node = await new_node(api, "gpu-01")
    first = await order(api, "a:1b")
    revision = (await node.manifest())["revision"]

    again = await order(api, "a:1b", if_installed="redownload")

    assert again["task_ids"] == first["task_ids"]
    assert (await node.manifest())["revision"] == revision


async def test_what_is_installed_is_skipped_with_a_warning_unless_it_shall_be_fetched_again(api: Api) -> None:
    await new_model(api, "a")
    node = await new_node(api, "gpu-01")
    await order(api, "a:1b")
    await node.beat(report("a:1b", 1, "ready", bytes_done=1000, bytes_total=1000))

    skipped = await order(api, "a:1b")
    assert (skipped["task_ids"], [s["node_id"] for s in skipped["skipped"]]) == ([], [node.id])
    assert "redownload" in skipped["warnings"][0]

    [task_id] = (await order(api, "a:1b", if_installed="redownload"))["task_ids"]
    assert (await node.manifest())["models"][0]["generation"] == 2
    # A heartbeat that was under way when the order came speaks of the generation before.
    await node.beat(report("a:1b", 1, "ready", bytes_done=1000, bytes_total=1000))
    assert (await task(api, task_id))["status"] == "pending"
    await node.beat(report("a:1b", 2, "ready", bytes_done=1000, bytes_total=1000))
    assert (await task(api, task_id))["status"] == "completed"


async def test_a_failed_download_says_why_and_can_be_ordered_anew(api: Api) -> None:
    await new_model(api, "a")
    node = await new_node(api, "gpu-01")
    [task_id] = (await order(api, "a:1b"))["task_ids"]

    await node.beat(report("a:1b", 1, "queued", error="hub: 500; trying again"))
    retrying = await task(api, task_id)
    assert (retrying["status"], retrying["error"]) == ("pending", "hub: 500; trying again")
    await node.beat(report("a:1b", 1, "failed", error="sha256 differs"))
    failed = await task(api, task_id)
    assert (failed["status"], failed["error"]) == ("failed", "sha256 differs")

    [second] = (await order(api, "a:1b"))["task_ids"]
    assert (await task(api, second))["generation"] == 2
    assert (await task(api, task_id))["status"] == "failed"


@pytest.mark.parametrize("api", [{"offline_after_s": 1, "listening_gap_s": 5}], indirect=True)
async def test_an_offline_node_is_refused_with_an_offer_or_waited_for(api: Api) -> None:
    await new_model(api, "a")
    node = await new_node(api, "gpu-01")

    async def offline() -> bool:
        return (await api.http.get(f"/v0/nodes/{node.id}")).json()["state"] == "offline"

    await until(offline, what="the node to be offline")

    refused = await api.http.post("/v0/models/distribute", json={"model": "a:1b"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "node_offline")
    assert "retry_when_online" in refused.json()["error"]["hint"]
    pulled = await api.http.post(f"/v0/nodes/{node.id}/models/pull", json={"model": "a:1b"})
    assert (pulled.status_code, pulled.json()["error"]["code"]) == (409, "node_offline")
    assert (await node.manifest())["models"] == []

    [task_id] = (await order(api, "a:1b", retry_when_online=True))["task_ids"]
    assert (await task(api, task_id))["status"] == "waiting_for_node"
    await node.beat()
    assert (await task(api, task_id))["status"] == "pending"
    assert [m["id"] for m in (await node.manifest())["models"]] == ["a:1b"]


async def test_cancel_takes_the_model_off_the_manifest_until_it_is_ordered_again(api: Api) -> None:
    await new_model(api, "a")
    node = await new_node(api, "gpu-01")
    [task_id] = (await order(api, "a:1b"))["task_ids"]
    revision = (await node.apply())["revision"]

    cancelled = await api.http.post(f"/v0/tasks/{task_id}/cancel")

    assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")
    manifest = await node.manifest()
    assert (manifest["models"], manifest["remove"]) == ([], [])
    assert manifest["revision"] > revision
    assert (await api.http.post(f"/v0/tasks/{task_id}/cancel")).json()["status"] == "cancelled"
    await node.beat(report("a:1b", 1, "downloading", bytes_done=900, bytes_total=1000))
    assert (await task(api, task_id))["status"] == "cancelled"

    [second] = (await order(api, "a:1b"))["task_ids"]
    assert second != task_id
    assert [(m["id"], m["generation"]) for m in (await node.manifest())["models"]] == [("a:1b", 2)]


async def test_a_task_that_ended_cannot_be_cancelled(api: Api) -> None:
    await new_model(api, "a")
    node = await new_node(api, "gpu-01")
    [task_id] = (await order(api, "a:1b"))["task_ids"]
    await node.beat(report("a:1b", 1, "ready"))

    response = await api.http.post(f"/v0/tasks/{task_id}/cancel")

    assert (response.status_code, response.json()["error"]["code"]) == (409, "task_ended")


async def test_tasks_are_found_by_ids_node_and_status(api: Api) -> None:
    for name in ("a", "b"):
        await new_model(api, name)
    one, two = await new_node(api, "gpu-01"), await new_node(api, "gpu-02")
    ids = (await order(api, "a:1b"))["task_ids"]
    [pulled] = (await api.http.post(f"/v0/nodes/{two.id}/models/pull", json={"model": "b:1b"})).json()["task_ids"]
    await two.beat(report("b:1b", 1, "ready"))

    async def found(**query: str) -> set[str]:
        return {t["id"] for t in (await api.http.get("/v0/tasks", params=query)).json()["items"]}

    assert await found() == {*ids, pulled}
    assert await found(ids=f"{ids[0]},{pulled},unknown") == {ids[0], pulled}
    assert await found(ids="") == set()
    assert pulled in await found(node_id=two.id)
    assert await found(node_id=one.id, status="pending") < set(ids)
    assert await found(status="completed") == {pulled}
    assert (await api.http.get("/v0/tasks", params={"status": "nonsense"})).status_code == 422


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"model": "nobody:1b"}, 404, "unknown_model"),
        ({"model": "gpt-oss:20b"}, 404, "unknown_model"),
        ({"model": "a:1b", "target": "specific", "node_ids": ["nowhere"]}, 404, "unknown_node"),
        ({"model": "a:1b", "target": "specific"}, 422, "invalid_request"),
        ({"model": "a:1b", "target": "all", "node_ids": ["x"]}, 422, "invalid_request"),
        ({"model": "a:1b", "target": "some"}, 422, "invalid_request"),
        ({"model": "a\u0000b"}, 422, "invalid_request"),
        ({"model": "a:1b", "if_installed": "maybe"}, 422, "invalid_request"),
    ],
)
async def test_orders_that_make_no_sense_are_refused(api: Api, body: dict[str, object], status: int, code: str) -> None:
    await new_model(api, "a")

    response = await api.http.post("/v0/models/distribute", json=body)

    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    assert (await api.http.get("/v0/tasks")).json()["items"] == []


async def test_an_order_without_nodes_is_taken_and_does_nothing(api: Api) -> None:
    await new_model(api, "a")

    assert await order(api, "a:1b") == {"task_ids": [], "job_id": None, "skipped": [], "warnings": []}
