"""``/v0/requests`` over HTTP, and what becomes of old requests."""

import zlib
from datetime import timedelta
from typing import Any

import httpx2
import pytest

from control_api.kit.clock import utcnow
from control_api.telemetry import repository
from control_api.telemetry.service import KEEP, HistoryPruner
from tests.running import Api

pytestmark = pytest.mark.anyio


def row(**changes: Any) -> dict[str, Any]:
    facts = {"request_id": "r-1", "caller_id": "key:k", "path": "/v1/chat/completions", "model": "m:1b", "stream": False}
    ends = {"node_id": "n-1", "status": 200, "error_code": None, "attempts": 1, "queue_s": 0.0, "first_byte_s": 0.1}
    sizes = {"duration_s": 0.2, "prompt_tokens": 1, "completion_tokens": 2, "request_content": None, "response_content": None}
    return {"at": utcnow(), **facts, **ends, **sizes, **changes}


@pytest.fixture
def http(api: Api) -> httpx2.AsyncClient:
    """A client of an API that has the history."""
    return api.http


async def add(api: Api, *rows: dict[str, Any]) -> None:
    async with api.database.telemetry.write() as session:
        await repository.add_requests(session, list(rows[0]), [tuple(given.values()) for given in rows])


@pytest.mark.parametrize("api", ["sqlite", "postgresql"], indirect=True)
async def test_requests_are_listed_newest_first_in_pages(api: Api, http: httpx2.AsyncClient) -> None:
    await add(api, *(row(request_id=f"r-{number}") for number in range(5)))

    first = (await http.get("/v0/requests", params={"limit": 3})).json()
    second = (await http.get("/v0/requests", params={"limit": 3, "cursor": first["next_cursor"]})).json()

    assert [item["request_id"] for item in first["items"] + second["items"]] == ["r-4", "r-3", "r-2", "r-1", "r-0"]
    assert second["next_cursor"] is None
    assert "request_content" not in first["items"][0]


@pytest.mark.parametrize(("wanted", "found"), [
    ({"model": "m:1b"}, {"ok", "left"}),
    ({"model": "x"}, {"failed"}),
    ({"node_id": "n-2"}, {"left"}),
    ({"caller_id": "token:ada"}, {"failed"}),
    ({"request_id": "ok"}, {"ok"}),
    ({"failed": "true"}, {"failed", "left"}),
    ({"failed": "false"}, {"ok"}),
    ({"since": "2100-01-01T00:00:00Z"}, set()),
])  # fmt: skip
async def test_requests_can_be_filtered(api: Api, http: httpx2.AsyncClient, wanted: dict[str, str], found: set[str]) -> None:
    left = row(request_id="left", node_id="n-2", status=499)
    failed = row(request_id="failed", model="x", caller_id="token:ada", error_code="upstream_error")
    await add(api, row(request_id="ok"), left, failed)

    answer = await http.get("/v0/requests", params=wanted)

    assert {item["request_id"] for item in answer.json()["items"]} == found


async def test_a_request_is_shown_with_its_content(api: Api, http: httpx2.AsyncClient) -> None:
    kept = row(request_content=zlib.compress(b'{"model":"m"}'), response_content=zlib.compress("é".encode()))
    bare = row()
    await add(api, kept, bare)

    ids = [item["id"] for item in (await http.get("/v0/requests")).json()["items"]]
    without, shown = [(await http.get(f"/v0/requests/{id_}")).json() for id_ in ids]
    missing = await http.get("/v0/requests/999999")
    bad = await http.get("/v0/requests", params={"cursor": "eA=="})

    assert (shown["request_content"], shown["response_content"]) == ('{"model":"m"}', "é")
    assert without["request_content"] is None
    assert (bad.status_code, bad.json()["error"]["code"]) == (422, "bad_cursor")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "unknown_request")


async def test_nobody_reads_it_without_a_key(api: Api, http: httpx2.AsyncClient) -> None:
    del http.headers["authorization"]

    assert (await http.get("/v0/requests")).status_code == 401


async def test_old_requests_are_deleted(api: Api, http: httpx2.AsyncClient) -> None:
    await add(api, row(request_id="old", at=utcnow() - KEEP - timedelta(minutes=1)), row(request_id="new"))

    await HistoryPruner(api.database.telemetry).prune()

    assert [item["request_id"] for item in (await http.get("/v0/requests")).json()["items"]] == ["new"]
