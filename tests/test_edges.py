"""Values at the edges of what can be said: an answer names what is wrong, and never is it the server's fault."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from control_api.app import create_app
from tests.fleet.reports import PlayedNode
from tests.running import Api, settings_for

pytestmark = pytest.mark.anyio

DATES = ("0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59")
JSON = {"content-type": "application/json"}


def cursor(key: str) -> str:
    """Return a cursor as the API writes them."""
    return base64.urlsafe_b64encode(key.encode()).decode()


async def test_dates_at_the_edges_of_the_calendar_are_refused_where_they_are_given(api: Api) -> None:
    node = await PlayedNode.enrolled(api)
    run = (await api.http.post("/v0/jobs", json={"playbook": "mine.yml", "hosts": ["gpu-01"], "external": True})).json()
    for date in DATES:
        answers = {
            "since": await api.http.get("/v0/requests", params={"since": date}),
            "expires_at": await api.http.post("/v0/api-keys", json={"name": "k", "scopes": ["read"], "expires_at": date}),
            "at": await api.http.post(
                f"/v0/jobs/{run['id']}/events", json={"events": [{"counter": 1, "event": "x", "at": date}]}
            ),
        }
        for field, answer in answers.items():
            assert answer.status_code == 422, field
            assert field in answer.json()["error"]["message"]
        model = {"id": "m:1", "state": "ready", "installed_at": date}
        assert (await node.beat(models=[model], errors=[{"code": "x", "message": "m", "at": date}])).status_code == 200
        told = " ".join(error["message"] for error in (await node.seen())["errors"])
        assert "installed_at" in told and "at: " in told


async def test_a_cursor_that_is_none_of_ours_is_refused_wherever_rows_are_listed(api: Api) -> None:
    await api.http.post("/v0/hosts", json={"name": "gpu-01", "address": "10.0.0.1"})
    job = (await api.http.post("/v0/jobs", json={"playbook": "mine.yml", "hosts": ["gpu-01"], "external": True})).json()
    for path in ("/v0/requests", f"/v0/jobs/{job['id']}/changes"):
        for key in ("²", "1_0", "-1", "9" * 19, "9" * 5000, "１", ""):
            answer = await api.http.get(path, params={"cursor": cursor(key)[:512]})
            assert answer.status_code == 422 or key == "", (path, key)
    for path in ("/v0/hosts", "/v0/nodes", "/v0/jobs", "/v0/models", "/v0/tasks", "/v0/alerts", "/v0/requests"):
        assert (await api.http.get(path, params={"cursor": cursor("a\0b")})).status_code == 422


@pytest.mark.parametrize("value", ["9" * 5000, "[" * 100_000, '"\\ud800"', "NaN", "1e999"])
async def test_a_number_or_text_that_nothing_can_hold_is_refused(api: Api, value: str) -> None:
    bodies = [
        f'{{"name": "gpu-01", "address": "10.0.0.1", "variables": {{"node_service_slots": {value}}}}}',
        f'{{"name": "gpu-01", "address": "10.0.0.1", "variables": {{{value if value[0] == chr(34) else 1}: 1}}}}',
        f'{{"name": "gpu-01", "address": "10.0.0.1", "port": {value}}}',
        f'{{"name": "gpu-01", "address": "10.0.0.1", {value if value[0] == chr(34) else 1}: 1}}',
    ]
    for body in bodies:
        answer = await api.http.post("/v0/hosts", content=body, headers=JSON)
        assert 400 <= answer.status_code < 500, body[:80]
        assert answer.json()["error"]["message"]


def lists(schema: Any, named: dict[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    """Yield every list in a schema with where it is."""
    if reference := schema.get("$ref"):
        schema = named[reference.rpartition("/")[2]]
    for part in (*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ())):
        yield from lists(part, named, path)
    if schema.get("type") == "array":
        yield path, schema
        yield from lists(schema.get("items", {}), named, f"{path}[]")
    for name, part in schema.get("properties", {}).items():
        yield from lists(part, named, f"{path}.{name}")


def test_every_list_in_a_request_has_a_bound(tmp_path: Path) -> None:
    document = create_app(settings_for(tmp_path)).openapi()
    found = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            for content in operation.get("requestBody", {}).get("content", {}).values():
                found |= dict(lists(content["schema"], document["components"]["schemas"], f"{method} {path}"))
    assert len(found) > 20
    assert [where for where, schema in found.items() if "maxItems" not in schema] == []


async def test_an_answer_does_not_grow_with_what_is_wrong_in_a_request(api: Api) -> None:
    await api.http.post("/v0/hosts", json={"name": "a", "address": "10.0.0.1"})
    fields = {f"f{number}": 1 for number in range(5000)}
    bad = {"name": "gpu-01", "address": "10.0.0.1"}
    bodies: list[tuple[str, Any]] = [
        ("/v0/auth/login", {"username": "a", "password": "b", **fields}),
        ("/v0/auth/inference-token", {"node_ids": ["!"] * 50_000}),
        ("/v0/auth/inference-token", {"node_ids": ["!"] * 1000}),
        ("/v0/jobs", {"playbook": "site.yml", "hosts": [""] * 10_000}),
        ("/v0/hosts", bad | {"variables": fields}),
        ("/v0/hosts", bad | {"variables": {"node_service_tags": [1] * 300_000}}),
        ("/v0/hosts", bad | {"variables": {"node_service_tags": [[1] * 1000] * 300}}),
        ("/v0/jobs", {"playbook": "site.yml", "hosts": ["a"], "extra_vars": {f"v{n}": n for n in range(100_000)}}),
    ]
    for path, body in bodies:
        answer = await api.http.post(path, json=body)
        assert answer.status_code == 422, path
        assert len(answer.content) < 10_000, path
