"""Manifests: revisions, deletions, and who may read them."""

import pytest

from tests.distribution.fleet import new_model, new_node, order, report
from tests.running import Api

pytestmark = pytest.mark.anyio


async def test_a_deleted_model_is_listed_for_deletion_until_the_node_has_applied_that(api: Api) -> None:
    model, node = await new_model(api, "a"), await new_node(api, "gpu-01")
    [task_id] = (await order(api, "a:1b"))["task_ids"]
    revision = (await node.apply())["revision"]
    await node.beat(report("a:1b", 1, "downloading"))

    await api.http.delete("/v0/models/a:1b")

    manifest = await node.manifest()
    assert (manifest["models"], manifest["remove"]) == ([], [model["artifacts"][0]["sha256"]])
    assert manifest["revision"] > revision
    assert (await api.http.get(f"/v0/tasks/{task_id}")).json()["status"] == "cancelled"
    await node.beat(report("a:1b", 1, "removing"))
    assert (await node.manifest())["remove"] == manifest["remove"]
    await node.apply()
    await node.beat(models=[])
    assert (await node.manifest())["remove"] == []


async def test_a_file_that_another_model_needs_is_not_deleted(api: Api) -> None:
    for name in ("a", "twin"):
        await new_model(api, name)
    node = await new_node(api, "gpu-01")
    await order(api, "a:1b")
    await order(api, "twin:1b")

    await api.http.delete("/v0/models/a:1b")

    manifest = await node.manifest()
    assert ([m["id"] for m in manifest["models"]], manifest["remove"]) == (["twin:1b"], [])


async def test_a_model_that_comes_back_is_not_deleted(api: Api) -> None:
    await new_model(api, "a")
    node = await new_node(api, "gpu-01")
    await order(api, "a:1b")
    await node.beat(report("a:1b", 1, "ready"))
    await api.http.delete("/v0/models/a:1b")

    await new_model(api, "a")
    await order(api, "a:1b")

    manifest = await node.manifest()
    assert manifest["remove"] == []
    # No generation is used twice: the old one's reports must not close the new task.
    assert [(m["id"], m["generation"]) for m in manifest["models"]] == [("a:1b", 2)]


async def test_nodes_that_never_had_a_model_are_told_nothing_of_its_end(api: Api) -> None:
    await new_model(api, "a")
    node = await new_node(api, "gpu-01")
    before = await node.manifest()

    await api.http.delete("/v0/models/a:1b")

    assert await node.manifest() == before


async def test_after_a_restored_backup_the_node_sees_another_revision_and_nothing_is_deleted(api: Api) -> None:
    await new_model(api, "a")
    node = await new_node(api, "gpu-01")
    await order(api, "a:1b")
    await node.apply()
    await node.beat(report("a:1b", 1, "ready"))
    await api.http.delete("/v0/models/a:1b")

    # The node applied a revision that this store never gave out.
    node.applied = 1000
    answer = await node.beat(report("a:1b", 1, "loading"))

    assert answer["manifest_revision"] == 1001
    manifest = await node.apply()
    assert (manifest["revision"], manifest["remove"]) == (1001, [])


async def test_a_node_reads_its_own_manifest_and_no_other(api: Api) -> None:
    one, two = await new_node(api, "gpu-01"), await new_node(api, "gpu-02")

    assert (await api.http.get(f"/v0/nodes/{one.id}/manifest")).json() == await one.manifest()
    assert (await api.http.get(f"/v0/nodes/{one.id}/manifest", headers=two.headers)).status_code == 401
    assert (await api.http.get("/v0/nodes/nowhere/manifest", headers=two.headers)).status_code == 404
    assert (await api.http.get("/v0/nodes/nowhere/manifest")).status_code == 404


async def test_the_last_ready_node_of_a_model_is_not_drained_unless_forced(api: Api) -> None:
    await new_model(api, "a")
    one, two = await new_node(api, "gpu-01"), await new_node(api, "gpu-02")
    await order(api, "a:1b")
    for node in (one, two):
        await node.apply()
        await node.beat(report("a:1b", 1, "ready"))

    assert (await api.http.post(f"/v0/nodes/{one.id}/drain", json={})).status_code == 200
    refused = await api.http.post(f"/v0/nodes/{two.id}/drain", json={})

    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "last_ready_node")
    assert "a:1b" in refused.json()["error"]["message"]
    assert (await api.http.post(f"/v0/nodes/{two.id}/drain", json={"force": True})).status_code == 200
