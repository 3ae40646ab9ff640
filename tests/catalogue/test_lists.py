"""``GET /v0/models/hub`` and ``/available``: from memory and the store, never waiting for the hub."""

import socket
from pathlib import Path

import pytest

from tests.hub import Hub
from tests.running import Api, running_api, settings_for, until

pytestmark = pytest.mark.anyio


async def test_the_hub_list_has_the_catalogue_and_soon_the_counters_of_the_hub(api: Api) -> None:
    first = (await api.http.get("/v0/models/hub")).json()

    assert [m["id"] for m in first["models"]][:1] == ["gpt-oss:20b"]
    assert {(m["status"], m["lifecycle_status"]) for m in first["models"]} == {("available", "available")}

    async def counters() -> dict | None:
        models = (await api.http.get("/v0/models/hub")).json()["models"]
        return next(m["hub"] for m in models if m["id"] == "smollm2:135m")

    facts = await until(counters, what="the hub's counters")
    assert (facts["downloads"], facts["likes"]) == (7, 3)


async def test_counters_are_fetched_once_for_many_looks(api: Api, hub: Hub) -> None:
    async def known() -> bool:
        models = (await api.http.get("/v0/models/hub")).json()["models"]
        return any(m["hub"] for m in models)

    await until(known, what="the hub's counters")
    asked = len(hub.served)
    for _ in range(5):
        await api.http.get("/v0/models/hub")
        await api.http.get("/v0/models/available")

    assert len(hub.served) == asked


async def test_without_the_hub_the_lists_say_so_and_are_complete(api: Api, hub: Hub) -> None:
    hub.stop()

    async def unreachable() -> dict | None:
        answer = (await api.http.get("/v0/models/hub")).json()
        return None if answer["hub_reachable"] else answer

    answer = await until(unreachable, what="the hub to be missed", timeout_s=10)
    assert len(answer["models"]) >= 5
    assert {m["hub"] for m in answer["models"]} == {None}
    available = (await api.http.get("/v0/models/available")).json()
    assert available["hub_reachable"] is False
    assert {m["source"] for m in available["models"]} == {"catalogue"}


async def test_a_hub_that_never_answers_holds_no_list_up(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        async with running_api(settings_for(tmp_path, hub_endpoint=endpoint, hub_timeout_s=600)) as api:
            for path in ("/v0/models/available", "/v0/models/hub"):
                assert len((await api.http.get(path, timeout=30)).json()["models"]) >= 5


async def test_a_hub_that_never_answers_is_missed(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        async with running_api(settings_for(tmp_path, hub_endpoint=endpoint, hub_timeout_s=0.2)) as api:

            async def missed() -> bool:
                return not (await api.http.get("/v0/models/available")).json()["hub_reachable"]

            await until(missed, what="the hub to be missed")


async def test_available_names_who_has_a_model(api: Api) -> None:
    await api.http.post("/v0/models/register", json={"source": "lab/split-GGUF"})

    models = {m["id"]: m for m in (await api.http.get("/v0/models/available")).json()["models"]}

    assert models["split:q8_0"]["source"] == "registered"
    assert models["gpt-oss:20b"]["source"] == "catalogue"


@pytest.mark.parametrize(
    ("method", "path", "scope_needed"),
    [
        ("GET", "/v0/models", "read"),
        ("GET", "/v0/models/hub", "read"),
        ("GET", "/v0/models/available", "read"),
        ("GET", "/v0/models/a:b", "read"),
        ("POST", "/v0/models/register", "operate"),
        ("DELETE", "/v0/models/a:b", "operate"),
    ],
)
async def test_nobody_gets_in_without_the_right(api: Api, method: str, path: str, scope_needed: str) -> None:
    body = {"model": "smollm2:135m"} if method == "POST" else None
    weaker = {"read": "inference", "operate": "read"}[scope_needed]
    key = (await api.http.post("/v0/api-keys", json={"name": "weak", "scopes": [weaker]})).json()["key"]

    for header, status in (("", 401), ("Bearer mk_wrong", 401), (f"Bearer {key}", 403)):
        response = await api.http.request(method, path, json=body, headers={"authorization": header})
        assert response.status_code == status
