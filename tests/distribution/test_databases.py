"""Settings, placement and the hub list say the same on both databases."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.conftest import store
from tests.distribution.fleet import GIB, assignments, new_model, new_node, report
from tests.hub import Hub
from tests.running import Api, running_api, settings_for

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["sqlite", "postgresql"])
async def api(request: pytest.FixtureRequest, tmp_path: Path, hub: Hub, anyio_backend: str) -> AsyncIterator[Api]:
    """A control API with the local hub on each database."""
    database = store(request, tmp_path, request.param)
    settings = settings_for(tmp_path, hub_endpoint=hub.url, auto_distribution="off", **database)
    async with running_api(settings, migrated=True) as running:
        yield running


async def test_a_model_is_placed_when_the_policy_changes_and_seen_in_the_list(api: Api) -> None:
    node = await new_node(api, "gpu-01", gpus=(2 * GIB, 2 * GIB), tags=("gpu-a",))
    await new_model(api, "a", needs=["gpu-a"])
    registered = await api.http.post("/v0/models/register", json={"source": "lab/b", "id": "gpt-oss:20b"})
    assert registered.status_code == 201, registered.text

    changed = await api.http.patch("/v0/settings", json={"auto_distribution": "registered", "memory_reserve_bytes": 0})

    assert {s["name"]: s["changed_by"] for s in changed.json()["items"]}["auto_distribution"] == "api_key:bootstrap"
    assert {(m, a["residency"], *a["gpu_uuids"]) for m, a in (await assignments(api, node)).items()} == {
        ("a:1b", "resident", "GPU-0"),
        ("gpt-oss:20b", "resident", "GPU-0"),
    }
    await node.apply()
    await node.beat(report("gpt-oss:20b", 1, "ready"))
    for _ in range(2):
        listed = (await api.http.get("/v0/models/hub")).json()["models"]
        assert [(m["lifecycle_status"], [n["name"] for n in m["nodes"]]) for m in listed if m["id"] == "gpt-oss:20b"] == [
            ("ready", ["gpu-01"])
        ]
    assert [c["name"] for c in (await api.http.get("/v0/settings/changes")).json()["items"]] == [
        "memory_reserve_bytes",
        "auto_distribution",
    ]
    asked = {"nodes": [{"name": "n", "hardware": {"memory_total": GIB, "disk_free": 1 << 40}}]}
    planned = (await api.http.post("/v0/plan/placement", json=asked)).json()["nodes"][0]["models"]
    assert [(m["model_id"], m["residency"]) for m in planned] == [("a:1b", None), ("gpt-oss:20b", "resident")]
