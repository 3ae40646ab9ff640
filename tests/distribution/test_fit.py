"""Orders for nodes that have no room: said with both figures, and never at the cost of what is there."""

from typing import Any

import pytest

from control_api.distribution.room import human_bytes
from tests.cli.test_cli import muster
from tests.distribution.fleet import GIB, WireNode, assignments, new_model, new_node, order, report, task
from tests.hub import Hub
from tests.running import Api
from tests.tiny_gguf import write_tiny_gguf

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("room", "named"),
    [
        ({"memory_bytes": GIB // 4}, ["512.0 MiB", "256.0 MiB", "RAM"]),
        ({"disk_free_bytes": GIB + 500}, ["1000 bytes", "500 bytes", "disk"]),
    ],
)
async def test_an_order_that_does_not_fit_fails_before_the_first_byte_with_both_figures(
    api: Api, room: dict[str, int], named: list[str]
) -> None:
    await new_model(api, "a")
    node = await new_node(api, "small", **room)

    answer = await order(api, "a:1b")

    failed = await task(api, answer["task_ids"][0])
    assert (failed["status"], failed["bytes_done"], failed["started_at"]) == ("failed", 0, None)
    assert [figure for figure in named if figure not in failed["error"]] == []
    assert "small" in answer["warnings"][0]
    assert [figure for figure in named if figure not in (await assignments(api, node))["a:1b"]["unschedulable"]] == []
    assert (await node.manifest())["models"] == []


async def test_auto_goes_where_it_fits_and_skips_the_rest(api: Api) -> None:
    await new_model(api, "a")
    small, large = await new_node(api, "small", memory_bytes=1000), await new_node(api, "large")

    answer = await order(api, "a:1b", target="auto")

    assert [(await task(api, i))["node_id"] for i in answer["task_ids"]] == [large.id]
    assert [s["node_id"] for s in answer["skipped"]] == [small.id]
    assert await assignments(api, small) == {}
    (listed,) = (await api.http.get("/v0/assignments", params={"model_id": "a:1b"})).json()["items"]
    assert (listed["node_id"], listed["residency"]) == (large.id, "resident")
    assert (await api.http.get("/v0/assignments", params={"node_id": small.id})).json()["items"] == []


async def test_an_order_beyond_the_memory_is_installed_and_loaded_on_demand_with_a_warning(api: Api) -> None:
    for name in ("a", "b"):
        await new_model(api, name)
    node = await new_node(api, "gpu-01", memory_bytes=5 * GIB // 4)

    await order(api, "a:1b")
    second = await order(api, "b:1b")

    assert (await task(api, second["task_ids"][0]))["status"] == "pending"
    assert "gpu-01 loads b:1b only when it is asked for: it needs 512.0 MiB of RAM, but 256.0 MiB" in second["warnings"][0]
    assert [(m["id"], m["residency"]) for m in (await node.manifest())["models"]] == [
        ("a:1b", "resident"),
        ("b:1b", "on_demand"),
    ]


async def test_auto_does_not_put_a_model_where_it_would_only_be_loaded_on_demand(api: Api) -> None:
    for name in ("a", "b"):
        await new_model(api, name)
    node = await new_node(api, "gpu-01", memory_bytes=5 * GIB // 4)
    await order(api, "a:1b")

    answer = await order(api, "b:1b", target="auto")

    assert (answer["task_ids"], [s["node_id"] for s in answer["skipped"]]) == ([], [node.id])


async def test_an_order_for_a_node_without_the_tags_that_the_model_needs_is_refused_by_name(api: Api) -> None:
    await new_model(api, "a", needs=["gpu-a"])
    node = await new_node(api, "gpu-01", tags=("site:tokyo",))

    failed = await task(api, (await order(api, "a:1b", target="specific", node_ids=[node.id]))["task_ids"][0])

    assert failed["status"] == "failed"
    assert "it is not tagged gpu-a, which a:1b needs; it is tagged site:tokyo" in failed["error"]


async def test_an_order_that_does_not_fit_does_not_cost_a_node_what_it_holds(api: Api) -> None:
    await new_model(api, "a")
    node = await new_node(api, "gpu-01")
    await order(api, "a:1b")
    await node.beat(report("a:1b", 1, "failed", error="disk full"), disk={"total": GIB, "free": 10})

    answer = await order(api, "a:1b")

    assert (answer["task_ids"], len(answer["skipped"])) == ([], 1)
    assert "disk" in answer["skipped"][0]["reason"]
    assert [(m["id"], m["generation"]) for m in (await node.manifest())["models"]] == [("a:1b", 1)]


async def test_a_model_that_needs_more_than_before_is_loaded_on_demand_where_that_is_too_much_and_says_where(
    api: Api, hub: Hub
) -> None:
    path = hub.root / "lab/tiny/tiny.gguf"
    path.parent.mkdir()
    write_tiny_gguf(path)
    models = [await new_model(api, "a"), tiny := await new_model(api, "tiny", kv_cache_type="q8_0")]
    reserve_bytes = GIB // 2
    exactly = reserve_bytes + sum(model["required_memory_bytes"] for model in models)
    full, wide = await new_node(api, "full", memory_bytes=exactly), await new_node(api, "wide")
    assert [(await order(api, model["id"]))["warnings"] for model in models] == [[], []]

    changed = (await api.http.patch("/v0/models/tiny:1b", json={"kv_cache_type": "f32"})).json()

    [warning] = changed["warnings"]
    needs, free = (human_bytes(model["required_memory_bytes"]) for model in (changed, tiny))
    assert f"full loads tiny:1b only when it is asked for: it needs {needs} of RAM, but {free} of " in warning
    assert await residencies(full) == {"a:1b": "resident", "tiny:1b": "on_demand"}
    assert await residencies(wide) == {"a:1b": "resident", "tiny:1b": "resident"}
    assert (await assignments(api, full))["tiny:1b"]["residency_reason"] in warning

    told = await muster(api, "models", "configure", "tiny:1b", "--kv-cache-type", "f16")
    assert "warning: full loads tiny:1b only when it is asked for" in told.stderr

    assert (await api.http.patch("/v0/models/tiny:1b", json={"kv_cache_type": "q8_0"})).json()["warnings"] == []
    assert await residencies(full) == {"a:1b": "resident", "tiny:1b": "resident"}


async def test_a_model_that_needs_more_moves_to_another_gpu_only_if_it_must(api: Api, hub: Hub) -> None:
    path = hub.root / "lab/tiny/tiny.gguf"
    path.parent.mkdir()
    write_tiny_gguf(path)
    tiny = await new_model(api, "tiny", kv_cache_type="q8_0")
    fitting_bytes = GIB // 2 + tiny["required_memory_bytes"]
    node = await new_node(api, "gpu-01", gpus=[fitting_bytes + 2 * GIB, fitting_bytes])
    await order(api, "tiny:1b")

    async def gpus(**wanted: Any) -> list[str]:
        assert (await api.http.patch("/v0/models/tiny:1b", json=wanted)).json()["warnings"] == []
        return (await node.manifest())["models"][0]["params"]["gpu_uuids"]

    assert await gpus(threads=2) == ["GPU-1"]
    assert await gpus(kv_cache_type="f32") == ["GPU-0"]
    assert await gpus(kv_cache_type="q8_0") == ["GPU-0"]


async def residencies(node: WireNode) -> dict[str, str]:
    return {model["id"]: model["residency"] for model in (await node.manifest())["models"]}
