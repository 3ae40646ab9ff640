"""Who gets in, and how far."""

import asyncio
import json
import re
from datetime import timedelta
from pathlib import Path

import jwt
import pytest
from sqlmodel import update
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from control_api.access.models import SigningKey, UserSession
from control_api.access.tokens import INFERENCE_AUDIENCE
from control_api.errors import StartupError
from control_api.kit import revision
from control_api.kit.clock import utcnow
from control_api.serve import serve_api
from control_api.settings import SETUP_LINK_FILE
from tests.fleet.reports import add_host, bearer
from tests.running import Api, running_api, settings_for
from tests.wire import HUGE_HEAD, MIB, talk

pytestmark = pytest.mark.anyio

PASSWORD = "correct horse battery"


async def make_admin(api: Api) -> dict[str, str]:
    """Set the first admin up by the link of the first start."""
    token = (api.settings.state_dir / SETUP_LINK_FILE).read_text().strip().split("token=")[1]
    body = {"token": token, "username": "alice", "password": PASSWORD}
    response = await api.http.post("/v0/auth/setup", json=body, headers={"authorization": ""})
    assert response.status_code == 201, response.text
    session: dict[str, str] = response.json()
    return session


async def test_no_path_but_health_and_login_is_open(api: Api) -> None:
    document = (await api.http.get("/openapi.json")).json()
    open_paths = {"/healthz", "/v0/auth/login", "/v0/auth/setup", "/v0/auth/refresh", "/v0/auth/logout"}
    tried = 0
    for path, methods in document["paths"].items():
        for method in methods.keys() - {"parameters"}:
            if path in open_paths:
                continue
            tried += 1
            named = re.sub(r"{[^}]*}", "0198c0de-0000-7000-8000-000000000000", path)
            response = await api.http.request(method.upper(), named, headers={"authorization": ""}, json={})
            assert response.status_code == 401, f"{method} {path}: {response.status_code} {response.text}"
    assert tried > 30
    for path in ("/docs", "/openapi.json"):
        refused = await api.http.get(path, headers={"authorization": ""})
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"].startswith("Basic")
    assert "/v0/hosts" in (await api.http.get("/docs", headers={}, auth=("", api.key))).text


async def test_docs_need_no_store_and_answers_carry_a_request_id(api: Api) -> None:
    response = await api.http.get("/v0/hosts", headers={"x-request-id": "abc-1"})
    assert response.headers["x-request-id"] == "abc-1"
    response = await api.http.get("/v0/nowhere", headers={"x-request-id": "bad id"})
    assert response.json()["error"]["request_id"] == response.headers["x-request-id"] != "bad id"


async def test_the_first_admin_is_made_once(api: Api) -> None:
    session = await make_admin(api)
    me = await api.http.get("/v0/auth/me", headers=bearer(session["access_token"]))
    assert (me.json()["kind"], me.json()["name"]) == ("user", "alice")
    again = await api.http.post("/v0/auth/setup", json={"token": "setup_x", "username": "eve", "password": PASSWORD})
    assert (again.status_code, again.json()["error"]["code"]) == (403, "setup_closed")


async def test_a_restart_keeps_the_link_that_somebody_may_be_using(tmp_path: Path, anyio_backend: str) -> None:
    settings = settings_for(tmp_path)
    link = settings.state_dir / SETUP_LINK_FILE
    async with running_api(settings):
        first = link.read_text()
    async with running_api(settings) as api:
        assert link.read_text() == first
        await make_admin(api)
    async with running_api(settings):
        assert not link.exists()


async def test_log_in_refresh_and_log_out(api: Api) -> None:
    await make_admin(api)
    wrong = await api.http.post("/v0/auth/login", json={"username": "alice", "password": "no"})
    nobody = await api.http.post("/v0/auth/login", json={"username": "nobody", "password": "no"})
    assert wrong.status_code == nobody.status_code == 401
    assert wrong.json()["error"]["message"] == nobody.json()["error"]["message"]

    session = (await api.http.post("/v0/auth/login", json={"username": "alice", "password": PASSWORD})).json()
    body = {"session_id": session["session_id"]}
    assert (await api.http.post("/v0/auth/refresh", json=body)).json()["user"]["name"] == "alice"
    assert (await api.http.post("/v0/auth/logout", json=body)).status_code == 204
    assert (await api.http.post("/v0/auth/refresh", json=body)).status_code == 401


async def test_logging_out_ends_every_token_of_the_session_and_of_no_other(api: Api) -> None:
    await make_admin(api)
    login = {"username": "alice", "password": PASSWORD}
    ended, other = [(await api.http.post("/v0/auth/login", json=login)).json() for _ in range(2)]
    refreshed = (await api.http.post("/v0/auth/refresh", json={"session_id": ended["session_id"]})).json()

    def token(session: dict[str, str]) -> dict[str, str]:
        return {"authorization": f"Bearer {session['access_token']}"}

    async with api.database.control.read() as reading:
        before = await revision.current(reading, revision.ROUTES)

    for _ in range(2):
        assert (await api.http.post("/v0/auth/logout", json={"session_id": ended["session_id"]})).status_code == 204

    for session, status in ((ended, 401), (refreshed, 401), (other, 200)):
        assert (await api.http.get("/v0/auth/me", headers=token(session))).status_code == status
    async with api.database.control.read() as reading:
        assert await revision.current(reading, revision.ROUTES) == before + 1


async def test_a_session_that_was_not_used_for_a_month_has_ended(api: Api) -> None:
    session = await make_admin(api)
    async with api.database.control.write() as writing:
        await writing.exec(update(UserSession).values(expires_at=utcnow() - timedelta(seconds=1)))
    response = await api.http.post("/v0/auth/refresh", json={"session_id": session["session_id"]})
    assert (response.status_code, response.json()["error"]["code"]) == (401, "session_ended")


async def test_a_key_is_shown_once_works_and_is_refused_after_its_end(api: Api) -> None:
    made = (await api.http.post("/v0/api-keys", json={"name": "app", "scopes": ["read"]})).json()
    listed = await api.http.get("/v0/api-keys")
    assert made["key"] not in listed.text
    assert (await api.http.get("/v0/hosts", headers=bearer(made["key"]))).status_code == 200
    await api.http.delete(f"/v0/api-keys/{made['id']}")
    assert (await api.http.get("/v0/hosts", headers=bearer(made["key"]))).status_code == 401

    past = (utcnow() - timedelta(seconds=1)).isoformat()
    expired = (await api.http.post("/v0/api-keys", json={"name": "old", "scopes": ["read"], "expires_at": past})).json()
    assert (await api.http.get("/v0/hosts", headers=bearer(expired["key"]))).status_code == 401


@pytest.mark.parametrize("credential", ["", "Bearer", "Bearer nonsense", "Basic YTpi", "Bearer mk_" + "x" * 43, "Bearer a.b.c"])
async def test_what_is_no_credential_is_401_with_the_reason(api: Api, credential: str) -> None:
    response = await api.http.get("/v0/hosts", headers={"authorization": credential})
    assert response.status_code == 401
    assert response.json()["error"]["message"]


async def test_a_token_for_another_audience_or_with_another_algorithm_is_refused(api: Api) -> None:
    inference = (await api.http.post("/v0/auth/inference-token", json={})).json()["token"]
    assert jwt.decode(inference, options={"verify_signature": False})["aud"] == INFERENCE_AUDIENCE
    assert (await api.http.get("/v0/hosts", headers=bearer(inference))).status_code == 401

    async with api.database.control.read() as session:
        public = (await session.exec(SigningKey.__table__.select())).first().public_pem  # type: ignore[attr-defined]
    claims = {"aud": "muster-api", "sub": "x", "jti": "x", "exp": 9999999999, "name": "x", "scopes": ["admin"]}
    unsigned = jwt.encode(claims, None, algorithm="none")
    assert (await api.http.get("/v0/hosts", headers=bearer(unsigned))).status_code == 401
    assert "PUBLIC KEY" in public


async def test_pinning_needs_operate(api: Api) -> None:
    key = (await api.http.post("/v0/api-keys", json={"name": "i", "scopes": ["inference"]})).json()["key"]
    allowed = await api.http.post("/v0/auth/inference-token", json={}, headers=bearer(key))
    refused = await api.http.post("/v0/auth/inference-token", json={"node_ids": ["n"]}, headers=bearer(key))
    assert (allowed.status_code, refused.status_code) == (201, 403)


async def test_the_live_connection_needs_a_credential_and_sends_what_happens(api: Api) -> None:
    url = api.url.replace("http", "ws") + "/v0/events"
    with pytest.raises(InvalidStatus) as refused:
        await connect(url)
    assert refused.value.response.status_code == 401
    async with connect(url, additional_headers=bearer(api.key)) as socket:
        await socket.send(json.dumps({"subscribe": ["nodes", "weather"]}))
        first, second = [json.loads(await asyncio.wait_for(socket.recv(), 10)) for _ in range(2)]
        assert first == {"type": "reset", "topic": "nodes"}
        assert "weather" in second["message"]
        await add_host(api)
        event = json.loads(await asyncio.wait_for(socket.recv(), 10))
        assert (event["type"], event["data"]["name"]) == ("host.changed", "gpu-01")
        await socket.send("garbage")
        assert json.loads(await asyncio.wait_for(socket.recv(), 10))["type"] == "error"


async def test_a_bootstrap_key_works_from_the_first_start(tmp_path: Path, anyio_backend: str) -> None:
    secret = "mk_" + "b" * 40
    async with running_api(settings_for(tmp_path, bootstrap_api_key=secret)) as api:
        assert (await api.http.get("/v0/hosts", headers=bearer(secret))).status_code == 200


async def test_a_weak_bootstrap_key_is_refused(tmp_path: Path, anyio_backend: str) -> None:
    with pytest.raises(StartupError) as refused:
        await serve_api(settings_for(tmp_path, bootstrap_api_key="mk_short"), with_worker=False, local_node=False)
    assert refused.value.code == "weak_bootstrap_key"


async def test_a_body_that_is_too_large_is_refused(api: Api) -> None:
    response = await api.http.post("/v0/hosts", content=b"x" * (5 << 20), headers={"content-type": "application/json"})
    assert (response.status_code, response.json()["error"]["code"]) == (413, "request_too_large")


async def test_a_head_without_end_is_cut_off_early(api: Api) -> None:
    heard = await talk(api.url, HUGE_HEAD)
    assert (heard.statuses, heard.closed) == ([431], True)
    assert json.loads(heard.back.partition(b"\r\n\r\n")[2])["error"]["code"] == "request_header_fields_too_large"
    assert heard.sent_bytes < 32 * MIB


async def test_callers_in_parallel_hold_no_connection_while_they_wait_for_another(api: Api) -> None:
    """Four of them held all connections of the readers, and waited half a minute for a fifth."""
    answers = await asyncio.wait_for(asyncio.gather(*(api.http.get("/readyz") for _ in range(24))), 20)
    assert {answer.status_code for answer in answers} == {200}
