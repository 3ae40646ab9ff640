"""What is derived from a credential has no more than it, and ends with it: at the API, and at a router on the same store."""

import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import httpx2
import pytest
from sqlmodel import col, delete, update

from control_api.access.models import ApiKey, User, UserSession
from control_api.access.service import AccessService
from control_api.automation import outcome, repository
from control_api.automation.models import Job, JobHost
from control_api.automation.states import JobStatus
from control_api.catalogue.models import Model
from control_api.firststart import prepare
from control_api.keys import load_keys, load_routing_key
from control_api.kit import revision
from control_api.kit.clock import utcnow
from control_api.router.repository import StoreSource
from control_api.router.settings import RouterSettings
from tests.access.test_access import make_admin
from tests.fleet.reports import add_host, bearer, register, ticket_for
from tests.router.running import running_router
from tests.running import Api, until

pytestmark = pytest.mark.anyio

MODEL = "test:1b"
POLL_S = 0.02


@asynccontextmanager
async def router_of(api: Api) -> AsyncIterator[httpx2.AsyncClient]:
    """Run a router on the store of an API, and wait until it answers."""
    source = StoreSource(api.database.control, load_routing_key(api.settings))
    async with running_router(RouterSettings(poll_interval_s=POLL_S), source, key=api.key) as http:

        async def ready() -> bool:
            return bool((await http.get("/healthz")).json()["ready"])

        await until(ready, what="the router to read its routes")
        yield http


async def new_key(api: Api, *scopes: str, **limits: Any) -> dict[str, Any]:
    """Make an API key."""
    answer = await api.http.post("/v0/api-keys", json={"name": "k", "scopes": scopes, **limits})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def inference_token(api: Api, credential: str, *node_ids: str) -> str:
    """Exchange a credential for an inference token."""
    answer = await api.http.post("/v0/auth/inference-token", json={"node_ids": list(node_ids)}, headers=bearer(credential))
    assert answer.status_code == 201, answer.text
    return str(answer.json()["token"])


async def changed(api: Api, *statements: Any) -> None:
    """Change the store as the control plane does: the revision of the routes goes with it."""
    async with api.database.control.write() as session:
        for statement in statements:
            await session.exec(statement)
        await revision.bump(session, revision.ROUTES)


async def refused_by_and_by(http: httpx2.AsyncClient, token: str, status: int = 401) -> None:
    """Wait until a router does not take a token any more."""

    async def look() -> bool:
        return (await http.get("/v1/models", headers=bearer(token))).status_code == status

    await until(look, what=f"the token to be answered {status}", timeout_s=5)


async def test_a_limited_key_and_its_tokens_have_its_models_and_its_limits_together(api: Api) -> None:
    async with api.database.control.write() as session:
        for id_ in (MODEL, "other:1b"):
            session.add(
                Model(id=id_, name="t", repo="o/r", revision="c", size_bytes=1, required_memory_bytes=1, capabilities=[])
            )
    limited = (await new_key(api, "inference", models=[MODEL], requests_per_minute=2))["key"]
    tokens = [await inference_token(api, limited) for _ in range(2)]
    async with router_of(api) as http:

        async def status(credential: str, model: str = MODEL) -> int:
            return (await http.post("/v1/chat/completions", json={"model": model}, headers=bearer(credential))).status_code

        others = [await status(caller, "other:1b") for caller in (limited, *tokens)]
        answers = [await status(caller) for caller in (limited, *tokens, limited)]

    assert others == [403, 403, 403]
    assert answers == [503, 503, 429, 429], "no node has the model, and the third request is one too many"


async def test_a_token_of_a_key_ends_when_the_key_is_deleted_expires_or_loses_its_scope(api: Api) -> None:
    kept, *ended = [await new_key(api, "inference") for _ in range(4)]
    deleted, expired, narrowed = [key["id"] for key in ended]
    tokens = [await inference_token(api, key["key"]) for key in (kept, *ended)]
    async with router_of(api) as http:
        before = [(await http.get("/v1/models", headers=bearer(token))).status_code for token in tokens]
        assert (await api.http.delete(f"/v0/api-keys/{deleted}")).status_code == 204
        keys = update(ApiKey)
        past = keys.where(col(ApiKey.id) == expired).values(expires_at=utcnow() - timedelta(seconds=1))
        await changed(api, past, keys.where(col(ApiKey.id) == narrowed).values(scopes=["read"]))
        for token, status in zip(tokens[1:], (401, 401, 403), strict=True):
            await refused_by_and_by(http, token, status)
        after = await http.get("/v1/models", headers=bearer(tokens[0]))

    assert before == [200, 200, 200, 200]
    assert after.status_code == 200


async def test_tokens_of_a_session_end_with_it_and_with_its_user(api: Api) -> None:
    opened = await make_admin(api)
    login = {"username": "alice", "password": "correct horse battery"}
    other, third = [(await api.http.post("/v0/auth/login", json=login)).json() for _ in range(2)]
    access = [session["access_token"] for session in (opened, other, third)]
    tokens = [await inference_token(api, token) for token in access]
    async with router_of(api) as http:
        assert [(await http.get("/v1/models", headers=bearer(token))).status_code for token in tokens] == [200, 200, 200]
        await api.http.post("/v0/auth/logout", json={"session_id": opened["session_id"]})
        await refused_by_and_by(http, tokens[0])
        assert (await http.get("/v1/models", headers=bearer(tokens[1]))).status_code == 200
        await changed(api, update(User).values(scopes=["read"]))
        await refused_by_and_by(http, tokens[1], 403)
        assert (await api.http.get("/v0/api-keys", headers=bearer(access[1]))).status_code == 403
        await changed(api, delete(User))
        await refused_by_and_by(http, tokens[2])

    statuses = [(await api.http.get("/v0/auth/me", headers=bearer(token))).status_code for token in access]
    assert statuses == [401, 401, 401]


async def test_a_token_does_not_outlive_the_key_or_the_session_that_it_came_from(api: Api) -> None:
    soon = utcnow() + timedelta(seconds=90)
    key = (await new_key(api, "inference", expires_at=soon.isoformat()))["key"]
    session = await make_admin(api)
    async with api.database.control.write() as writing:
        await writing.exec(update(UserSession).values(expires_at=soon))
    for credential in (key, session["access_token"]):
        answer = await api.http.post("/v0/auth/inference-token", json={}, headers=bearer(credential))
        assert datetime.fromisoformat(answer.json()["expires_at"]) <= soon


async def test_a_key_makes_no_key_that_gets_further_than_itself(api: Api) -> None:
    ends_at = (utcnow() + timedelta(hours=1)).isoformat()
    later = (utcnow() + timedelta(hours=2)).isoformat()
    narrow = (await new_key(api, "admin", models=[MODEL], expires_at=ends_at))["key"]
    slow = (await new_key(api, "admin", requests_per_minute=1))["key"]
    within = {"models": [MODEL], "expires_at": ends_at}
    wanted: list[tuple[str, dict[str, Any], int]] = [
        (narrow, within, 201),
        (narrow, within | {"models": []}, 201),
        (narrow, within | {"models": None}, 403),
        (narrow, within | {"models": [MODEL, "other:1b"]}, 403),
        (narrow, within | {"expires_at": None}, 403),
        (narrow, within | {"expires_at": later}, 403),
        (slow, {"requests_per_minute": 1}, 403),
        (slow, {}, 403),
    ]
    for maker, limits, status in wanted:
        answer = await api.http.post("/v0/api-keys", json={"name": "c", **limits}, headers=bearer(maker))
        assert answer.status_code == status, (limits, answer.text)
        if status == 403:
            assert answer.json()["error"]["code"] == "wider_than_maker"


@dataclasses.dataclass
class RunningJob:
    """A job that a key asked for, and its token."""

    id: str
    token: str


async def running_job(api: Api, asker: str | None) -> RunningJob:
    """Return a running job on host ``h``."""
    identity = await prepare(api.settings, api.database, load_keys(api.settings))
    access = AccessService(identity.signer, running_job=repository.running_job)
    async with api.database.control.write() as session:
        job = Job(playbook="verify.yml", requested_by="x", asker=asker, status=JobStatus.QUEUED, locks_hosts=False)
        session.add(job)
        await session.flush()
        session.add(JobHost(job_id=job.id, host_id="h", name="gpu-01"))
        await session.flush()
        assert await repository.claim(session, "w", 600)
    return RunningJob(job.id, access.issue_job_token(job.id, 1, ["h"], 600))


async def test_a_job_has_the_rights_that_whoever_asked_for_it_has_now(api: Api) -> None:
    key = await new_key(api, "operate")
    job = await running_job(api, f"api_key:{key['id']}")
    headers = bearer(job.token)

    async def statuses() -> tuple[int, int]:
        listed = await api.http.get("/v0/inventory", headers=headers)
        asked = await api.http.post("/v0/auth/inference-token", json={}, headers=headers)
        return listed.status_code, asked.status_code

    assert await statuses() == (200, 201)
    await changed(api, update(ApiKey).where(col(ApiKey.id) == key["id"]).values(scopes=["read"]))
    assert await statuses() == (200, 403)
    assert (await api.http.delete(f"/v0/api-keys/{key['id']}")).status_code == 204
    refused = await api.http.get("/v0/inventory", headers=headers)
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "asker_gone")


async def test_tokens_of_a_job_end_with_it_and_with_the_key_that_asked_for_it(api: Api) -> None:
    key = await new_key(api, "operate")
    ending, orphan = await running_job(api, None), await running_job(api, f"api_key:{key['id']}")
    tokens = [await inference_token(api, job.token) for job in (ending, orphan)]
    async with router_of(api) as http:
        assert [(await http.get("/v1/models", headers=bearer(token))).status_code for token in tokens] == [200, 200]
        async with api.database.control.write() as session:
            assert await outcome.finish(session, ending.id, 1, None, outcome.Outcome(JobStatus.SUCCESSFUL))
        await refused_by_and_by(http, tokens[0])
        await api.http.delete(f"/v0/api-keys/{key['id']}")
        await refused_by_and_by(http, tokens[1])


async def test_a_ticket_is_good_while_whoever_asked_for_it_may_enrol_nodes(api: Api) -> None:
    key = await new_key(api, "operate")
    host = await add_host(api)
    asked = await api.http.post(f"/v0/hosts/{host['id']}/enrolment", headers=bearer(key["key"]))
    ticket = asked.json()["ticket"]
    keys = update(ApiKey).where(col(ApiKey.id) == key["id"])
    await changed(api, keys.values(scopes=["read"]))
    narrowed = await register(api, ticket)
    await changed(api, keys.values(scopes=["operate"]), delete(ApiKey).where(col(ApiKey.id) == key["id"]))
    gone = await register(api, ticket)
    good = await register(api, await ticket_for(api, host))

    assert [answer.status_code for answer in (narrowed, gone, good)] == [401, 401, 201]
    assert narrowed.json()["error"]["code"] == gone.json()["error"]["code"] == "bad_ticket"


async def test_the_message_about_a_scope_is_a_sentence(api: Api) -> None:
    reader = (await new_key(api, "read"))["key"]
    for method, path, scope in (("GET", "/v0/api-keys", "admin"), ("POST", "/v0/auth/inference-token", "inference")):
        answer = await api.http.request(method, path, headers=bearer(reader), json={})
        assert answer.json()["error"]["message"] == f"This needs the scope '{scope}'."
