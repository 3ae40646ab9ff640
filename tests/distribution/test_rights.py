"""Who may order, look on and cancel."""

import pytest

from control_api import firststart
from control_api.access.service import AccessService
from control_api.automation.models import Job
from control_api.automation.repository import running_job
from control_api.automation.states import JobStatus
from control_api.keys import load_keys
from tests.distribution.fleet import WireNode, new_model, new_node
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
        ("GET", "/v0/assignments", "read", None),
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


async def job_headers(api: Api, node: WireNode) -> tuple[str, dict[str, str]]:
    """Return the id of a running job on a node's host, and what it sends to show that it is this job."""
    async with api.database.control.write() as session:
        job = Job(playbook="site.yml", requested_by="test", status=JobStatus.RUNNING, attempt=1)
        session.add(job)
    identity = await firststart.prepare(api.settings, api.database, load_keys(api.settings))
    access = AccessService(identity.signer, running_job=running_job)
    token = access.issue_job_token(job.id, 1, [node.host_id], 600)
    return job.id, {"authorization": f"Bearer {token}"}


async def test_a_job_orders_for_its_own_hosts_only(api: Api) -> None:
    await new_model(api, "a")
    own, other = await new_node(api, "gpu-01"), await new_node(api, "gpu-02")
    job_id, headers = await job_headers(api, own)

    taken = await api.http.post("/v0/models/distribute", json={"model": "a:1b", "target": "all"}, headers=headers)
    body = {"model": "a:1b", "target": "specific", "node_ids": [other.id]}
    refused = await api.http.post("/v0/models/distribute", json=body, headers=headers)

    assert (taken.status_code, taken.json()["job_id"]) == (202, job_id)
    items = (await api.http.get("/v0/tasks", headers=headers)).json()["items"]
    assert [(t["node_id"], t["job_id"]) for t in items] == [(own.id, job_id)]
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "other_host")
    assert (await api.http.get(f"/v0/nodes/{own.id}/manifest", headers=headers)).status_code == 200
    assert (await api.http.get(f"/v0/nodes/{other.id}/manifest", headers=headers)).status_code == 403
    assert (await api.http.delete("/v0/models/a:1b", headers=headers)).status_code == 403
