"""Who may order, look on and cancel."""

import pytest

from tests.running import Api

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("method", "path", "scope_needed", "body"),
    [
        ("POST", "/v0/models/distribute", "operate", {"model": "a:1b"}),
        ("POST", "/v0/nodes/x/models/pull", "operate", {"model": "a:1b"}),
        ("GET", "/v0/tasks", "read", None),
        ("GET", "/v0/tasks/x", "read", None),
        ("POST", "/v0/tasks/x/cancel", "operate", None),
        ("GET", "/v0/nodes/x/manifest", "read", None),
        ("GET", "/v0/nodes/x/assignments", "read", None),
    ],
)
async def test_nobody_gets_in_without_the_right(
    api: Api, method: str, path: str, scope_needed: str, body: dict[str, str] | None
) -> None:
    weaker = {"read": "inference", "operate": "read"}[scope_needed]
    key = (await api.http.post("/v0/api-keys", json={"name": "weak", "scopes": [weaker]})).json()["key"]

    for header, status in (("", 401), ("Bearer mk_wrong", 401), (f"Bearer {key}", 403)):
        response = await api.http.request(method, path, json=body, headers={"authorization": header})
        assert response.status_code == status


@pytest.mark.parametrize("path", ["/v0/tasks/nowhere", "/v0/nodes/nowhere/manifest", "/v0/nodes/nowhere/assignments"])
async def test_what_is_not_there_is_not_found(api: Api, path: str) -> None:
    assert (await api.http.get(path)).status_code == 404
