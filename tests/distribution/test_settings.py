"""``/v0/settings``: the policy and the reserves of placement, changed while everything runs, and by whom."""

from typing import Any

import pytest

from tests.distribution.fleet import GIB, assignments, new_model, new_node, report
from tests.running import Api

pytestmark = pytest.mark.anyio


async def change(api: Api, **values: Any) -> dict[str, Any]:
    """Change settings and return all of them by name."""
    response = await api.http.patch("/v0/settings", json=values)
    assert response.status_code == 200, response.text
    return {setting["name"]: setting for setting in response.json()["items"]}


async def test_a_policy_takes_effect_at_once_and_names_who_chose_it(api: Api) -> None:
    node = await new_node(api, "gpu-01")
    await new_model(api, "a")
    assert await assignments(api, node) == {}

    policy = (await change(api, auto_distribution="registered"))["auto_distribution"]

    assert (policy["value"], policy["default"], policy["changed_by"]) == ("registered", "off", "api_key:bootstrap")
    assert list(await assignments(api, node)) == ["a:1b"]


async def test_off_takes_nothing_away_and_places_nothing_more(api: Api) -> None:
    node = await new_node(api, "gpu-01")
    await change(api, auto_distribution="registered")
    await new_model(api, "a")
    await change(api, auto_distribution="off")
    await new_model(api, "b")

    assert list(await assignments(api, node)) == ["a:1b"]


async def test_a_smaller_reserve_lets_in_what_did_not_fit(api: Api) -> None:
    await change(api, auto_distribution="registered", memory_reserve_bytes=GIB)
    await new_model(api, "a")
    node = await new_node(api, "gpu-01", memory_bytes=5 * GIB // 4)
    assert "reserve of 1.0 GiB" in (await assignments(api, node))["a:1b"]["unschedulable"]

    await change(api, memory_reserve_bytes=0)

    assert (await assignments(api, node))["a:1b"]["unschedulable"] is None
    assert (await node.manifest())["memory_reserve_bytes"] == 0


async def test_null_goes_back_to_the_default_and_every_change_is_on_record(api: Api) -> None:
    await change(api, auto_distribution="all", disk_reserve_bytes=5)
    await change(api, auto_distribution="all")
    reset = await change(api, auto_distribution=None)

    assert (reset["auto_distribution"]["value"], reset["disk_reserve_bytes"]["value"]) == ("off", 5)
    changes = (await api.http.get("/v0/settings/changes")).json()["items"]
    assert [(c["name"], c["value"]) for c in changes] == [
        *[("auto_distribution", None), ("disk_reserve_bytes", 5), ("auto_distribution", "all")]
    ]
    assert {c["changed_by"] for c in changes} == {"api_key:bootstrap"}


async def test_under_all_a_node_is_online_only_with_every_model_loaded(api: Api) -> None:
    await change(api, auto_distribution="all")
    node = await new_node(api, "gpu-01")
    node.applied = (await node.manifest())["revision"]

    async def state() -> str:
        await node.beat(report("a:1b", 1, "ready"), report("b:1b", 1, "failed", error="does not load"))
        return (await api.http.get(f"/v0/nodes/{node.id}")).json()["state"]

    assert await state() == "registering"
    await change(api, auto_distribution="registered")
    assert await state() == "online"


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"auto_distribution": "sometimes"}, "auto_distribution"),
        ({"memory_reserve_bytes": -1}, "memory_reserve_bytes"),
        ({"disk_reserve_bytes": "much"}, "disk_reserve_bytes"),
        ({"state_dir": "/tmp"}, "state_dir"),
    ],
)
async def test_what_cannot_be_set_is_refused_by_name_and_nothing_changes(api: Api, body: dict[str, Any], named: str) -> None:
    before = (await api.http.get("/v0/settings")).json()

    response = await api.http.patch("/v0/settings", json={**body, "auto_distribution": body.get("auto_distribution", "all")})

    assert response.status_code == 422
    assert named in response.text
    assert (await api.http.get("/v0/settings")).json() == before


@pytest.mark.parametrize(
    ("method", "scope", "status"), [("GET", "inference", 403), ("GET", "read", 200), ("PATCH", "operate", 403)]
)
async def test_reading_needs_read_and_changing_needs_admin(api: Api, method: str, scope: str, status: int) -> None:
    key = (await api.http.post("/v0/api-keys", json={"name": "weak", "scopes": [scope]})).json()["key"]

    body = {"auto_distribution": "all"} if method == "PATCH" else None
    response = await api.http.request(method, "/v0/settings", json=body, headers={"authorization": f"Bearer {key}"})

    assert response.status_code == status
