"""What nodes say is typed and bounded: a part that makes no sense is left out and named, and nothing else is lost by it."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from control_api.fleet.reports import Heartbeat, RegisterRequest
from tests.fleet.reports import PlayedNode, add_host, bearer, ready, register, registration, ticket_for
from tests.running import Api

pytestmark = pytest.mark.anyio

JUNK = {f"field-{number}": "x" * 30 for number in range(25_000)}

# Each would be fatal for a column, for a database, or for whoever reads it.
BAD_REPORTS: list[dict[str, Any]] = [
    {"id": "openai:gpt-x"},
    {"id": "Anthropic:claude"},
    {"id": "{{ 1 }}"},
    {"state": "flying"},
    {"generation": 1 << 40},
    {"bytes_done": 1 << 62},
    {"size": -5},
    {"gpu_layers": 1 << 70},
    {"slots": 100_000},
    {"sha256": "../../../etc/passwd"},
    {"held": ["x"]},
    {"installed_at": "9999-12-31T23:59:59-23:59"},
    {"installed_at": "0001-01-01T00:00:00+23:59"},
    {"error": {"deep": []}},
]


@pytest.mark.parametrize("api", ["sqlite", "postgresql"], indirect=True)
async def test_one_bad_entry_costs_a_node_nothing_else_and_is_named(api: Api) -> None:
    node = await PlayedNode.enrolled(api)
    for number, bad in enumerate(BAD_REPORTS):
        beat = await node.beat(
            models=[ready("m:1"), {**ready("m:2"), **bad}], ready_models={"loaded": number + 1, "total": number + 1}
        )
        assert (beat.status_code, beat.json()["state"]) == (200, "online"), bad
        seen = await node.seen()
        (error,) = seen["errors"]
        (field,) = bad
        assert ([m["id"] for m in seen["models"]], error["code"]) == (["m:1"], "report_refused"), bad
        assert f"models.1.{field}" in error["message"]

    await node.beat(models=[ready("m:1"), ready("m:1")])
    assert "models.1: m:1 is there twice" in (await node.seen())["errors"][0]["message"]
    since = (await node.seen())["errors"][0]["at"]
    await node.beat(models=[ready("m:1")], gpus=[{"index": 0, "utilization": 1e300}])
    (error,) = (await node.seen())["errors"]
    assert ("gpus.0.utilization" in error["message"], error["at"]) == (True, since)
    await node.beat(models=[ready("m:1")])
    assert (await node.seen())["errors"] == []


@pytest.mark.parametrize("api", ["sqlite", "postgresql"], indirect=True)
async def test_what_a_database_does_not_take_is_replaced_or_refused_by_field(api: Api) -> None:
    node = await PlayedNode.enrolled(api)
    said = {"code": "odd", "message": "nul \x00 half \ud800", "at": "9998-01-01T00:00:00Z"}
    failed = {**ready("m:1"), "state": "failed", "error": "nul \x00", "source": "\ud800"}
    body = {"instance_id": node.instance_id, "seq": 1, "errors": [said], "models": [failed]}
    headers = bearer(node.token) | {"content-type": "application/json"}
    answer = await api.http.post(f"/v0/nodes/{node.id}/heartbeat", content=json.dumps(body), headers=headers)
    assert answer.status_code == 200, answer.text

    seen = await node.seen()
    assert [seen["errors"][0]["message"], seen["models"][0]["error"]] == ["nul \ufffd half ?", "nul \ufffd"]
    assert seen["errors"][0]["at"] < "9000", "what begins in the future began when it was heard"
    node.seq = 1
    for field, value in {"seq": 1 << 40, "applied_revision": 1 << 40, "version": "v" * 65, "disk": {"free": 1 << 70}}.items():
        refused = await node.beat(**{field: value})
        assert (refused.status_code, field in refused.json()["error"]["message"]) == (422, True)


async def test_free_json_is_neither_kept_nor_shown_and_bodies_are_small(api: Api) -> None:
    host = await add_host(api)
    hardware = registration()["hardware"] | {"cpu": {"cores": 4, "model": "EPYC", "notes": "n" * 1000}, "junk": "j" * 1000}
    answer = await register(api, await ticket_for(api, host), hardware=hardware)
    assert answer.status_code == 201
    node = PlayedNode(api, answer.json()["node_id"], answer.json()["node_token"])
    await node.beat(disk={"total": 2, "free": 1, "junk": "j" * 1000})

    seen = await node.seen()
    assert seen["hardware"]["cpu"] == {"model": "EPYC", "cores": 4}
    assert (seen["disk"], "junk" in seen["hardware"]) == ({"total": 2, "free": 1}, False)
    for answer in (await node.beat(disk=JUNK), await register(api, "ticket", hardware={"cpu": JUNK})):
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "request_too_large")


async def test_a_generation_or_revision_near_the_end_leaves_room_to_go_on_counting(api: Api) -> None:
    node = await PlayedNode.enrolled(api)
    most = (1 << 31) - 2
    before = (await node.seen())["manifest_revision"]

    beat = await node.beat(applied_revision=most, models=[{**ready("m:1"), "generation": most}])

    assert (beat.status_code, beat.json()["manifest_revision"]) == (200, before)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.sampled_from([*Heartbeat.model_fields, *RegisterRequest.model_fields])
ENTRY = st.dictionaries(st.sampled_from(["id", "state", "code", "message", "at", "index", "size", "error", "held"]), ANYTHING)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.dictionaries(FIELDS, ANYTHING | st.lists(ENTRY, max_size=4), max_size=5))
async def test_whatever_a_node_sends_is_taken_or_refused(api: Api, changes: dict[str, Any]) -> None:
    if not hasattr(api, "played"):
        api.played = await PlayedNode.enrolled(api)  # type: ignore[attr-defined]
    node: PlayedNode = api.played  # type: ignore[attr-defined]
    node.seq += 1
    beat = {"instance_id": node.instance_id, "seq": node.seq, **changes}
    headers = bearer(node.token) | {"content-type": "application/json"}
    for path, body in ((f"{node.id}/heartbeat", beat), ("register", registration(**changes))):
        answer = await api.http.post(f"/v0/nodes/{path}", content=json.dumps(body), headers=headers)
        assert answer.status_code in (200, 401, 422), answer.text
    assert (await api.http.get("/v0/nodes")).status_code == 200
