"""One credential of each kind, as a control API gives them out."""

from datetime import timedelta

from sqlmodel import update

from control_api import firststart
from control_api.access.models import ApiKey
from control_api.access.service import AccessService
from control_api.automation.models import Job
from control_api.automation.repository import running_job
from control_api.automation.states import JobStatus
from control_api.keys import load_keys
from control_api.kit.clock import utcnow
from tests.access.test_access import make_admin
from tests.fleet.reports import PlayedNode, add_host, bearer, ticket_for
from tests.running import Api

# Nobody, as far as any route is concerned.
NOBODY = ("none", "wrong", "no token", "expired", "revoked", "logged out")


async def of_each_kind(api: Api) -> dict[str, str]:
    """Return credentials by their kind."""
    node = await PlayedNode.enrolled(api)
    session = await make_admin(api)
    gone = (await api.http.post("/v0/auth/login", json={"username": "alice", "password": "correct horse battery"})).json()
    await api.http.post("/v0/auth/logout", json={"session_id": gone["session_id"]})
    inference = await _key(api, "inference")
    token = await api.http.post("/v0/auth/inference-token", json={}, headers=bearer(inference))
    return {
        "none": "",
        "wrong": "mk_" + "w" * 40,
        "no token": "a.b.c",
        "expired": await _expired(api),
        "revoked": await _revoked(api),
        "logged out": gone["access_token"],
        "inference": inference,
        "read": await _key(api, "read"),
        "operate": await _key(api, "operate"),
        "admin": await _key(api, "admin"),
        "user": session["access_token"],
        "session id": session["session_id"],
        "job": await _job(api),
        "node": node.token,
        "ticket": await ticket_for(api, await add_host(api, "gpu-09", "10.0.0.9")),
        "inference token": token.json()["token"],
    }


async def _key(api: Api, scope: str) -> str:
    return await _named_key(api, scope, scope)


async def _named_key(api: Api, name: str, scope: str) -> str:
    key: str = (await api.http.post("/v0/api-keys", json={"name": name, "scopes": [scope]})).json()["key"]
    return key


async def _expired(api: Api) -> str:
    key = await _named_key(api, "expired", "admin")
    async with api.database.control.write() as session:
        past = utcnow() - timedelta(seconds=1)
        await session.exec(update(ApiKey).where(ApiKey.name == "expired").values(expires_at=past))  # type: ignore[arg-type]
    return key


async def _revoked(api: Api) -> str:
    made = (await api.http.post("/v0/api-keys", json={"name": "revoked", "scopes": ["admin"]})).json()
    await api.http.delete(f"/v0/api-keys/{made['id']}")
    return str(made["key"])


async def _job(api: Api) -> str:
    async with api.database.control.write() as session:
        job = Job(playbook="site.yml", requested_by="test", status=JobStatus.RUNNING, attempt=1)
        session.add(job)
    identity = await firststart.prepare(api.settings, api.database, load_keys(api.settings))
    return AccessService(identity.signer, running_job=running_job).issue_job_token(job.id, 1, [], 600)
