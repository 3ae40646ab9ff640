"""Whose a drain is: a job's holds end with the job, whatever became of it; what must not serve stays out."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from control_api import firststart
from control_api.access.service import AccessService
from control_api.automation import outcome, repository
from control_api.automation.models import Job, JobHost
from control_api.automation.orders import OrderDesk
from control_api.automation.outcome import Outcome
from control_api.automation.playbooks import PlaybookCatalogue
from control_api.automation.states import JobStatus
from control_api.client.schemas import AlertOut
from control_api.fleet.hooks import FleetHooks
from control_api.fleet.service import FleetService
from control_api.fleet.states import HostState
from control_api.keys import load_keys
from tests.fleet.reports import PlayedNode, bearer
from tests.running import Api, running_api, settings_for

pytestmark = pytest.mark.anyio

FAILED = Outcome(JobStatus.FAILED, "1 of 1 hosts failed.", 2, {"gpu-01": {"failed": 1}})
DONE = Outcome(JobStatus.SUCCESSFUL, None, 0, {"gpu-01": {"ok": 1}})


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with running_api(settings_for(tmp_path)) as running:
        yield running


async def running_job(api: Api, node: PlayedNode, playbook: str = "upgrade.yml") -> tuple[Job, dict[str, str]]:
    """Return a running job on the host of a node, and what its playbook shows to the API."""
    host_id = (await node.seen())["host_id"]
    keys = load_keys(api.settings)
    identity = await firststart.prepare(api.settings, api.database, keys)
    access = AccessService(identity.signer, running_job=repository.running_job)
    fleet = FleetService(api.settings, keys.credentials, FleetHooks())
    desk = OrderDesk(api.settings, access, fleet, PlaybookCatalogue(api.settings.project_dir))
    async with api.database.control.write() as session:
        job = Job(playbook=playbook, requested_by="user:alice", status=JobStatus.RUNNING, attempt=1)
        session.add(job)
        await session.flush()
        session.add(JobHost(job_id=job.id, host_id=host_id, name="gpu-01"))
        await session.flush()
        order = await desk.make(session, job)
    return job, bearer(order.secrets.token)


async def drain(api: Api, node: PlayedNode, headers: dict[str, str], **body: Any) -> None:
    answer = await api.http.post(f"/v0/nodes/{node.id}/drain", json=body, headers=headers)
    assert answer.status_code == 200, answer.text


async def alerts(api: Api) -> list[AlertOut]:
    return await api.client.alerts.list()


async def finish(api: Api, job: Job, result: Outcome, leaves: HostState | None = HostState.PROVISIONED) -> None:
    async with api.database.control.write() as session:
        assert await outcome.finish(session, job.id, 1, leaves, result)


@pytest.mark.parametrize("result", [DONE, FAILED, Outcome(JobStatus.CANCELLED), Outcome(JobStatus.LOST)])
async def test_a_jobs_hold_ends_with_the_job_and_that_of_an_operator_does_not(api: Api, result: Outcome) -> None:
    alone, shared = await PlayedNode.enrolled(api), await PlayedNode.enrolled(api, "gpu-02", "10.0.0.2")
    for node in (alone, shared):
        await node.beat()
    await api.http.post(f"/v0/nodes/{shared.id}/drain", json={"reason": "fan"})
    for node in (alone, shared):
        job, headers = await running_job(api, node)
        await drain(api, node, headers)
        await finish(api, job, result)

    assert ((await alone.seen())["state"], (await alone.seen())["holds"]) == ("online", [])
    assert (await alone.beat()).json()["admission"] == "open", "the node is told"
    assert (await shared.seen())["state"] == "drained"
    assert [hold["reason"] for hold in (await shared.seen())["holds"]] == ["fan"]


async def test_a_job_that_waits_for_its_second_attempt_and_is_cancelled_holds_nothing(api: Api) -> None:
    node = await PlayedNode.enrolled(api)
    await node.beat()
    job, headers = await running_job(api, node)
    await drain(api, node, headers)
    async with api.database.control.write() as session:
        assert await outcome.give_up(session, await session.get_one(Job, job.id), None, "killed")
    assert (await node.seen())["admission"] == "drained", "the second attempt goes on where the first one was"

    await api.http.post(f"/v0/jobs/{job.id}/cancel")

    assert (await node.seen())["admission"] == "open"


async def test_what_must_not_serve_stays_drained_with_an_alert_until_a_later_job_brings_it_in_order(api: Api) -> None:
    node = await PlayedNode.enrolled(api)
    await node.beat()
    broken, headers = await running_job(api, node)
    await drain(api, node, headers, reason="release 2 failed", outlives_job=True)
    assert await alerts(api) == [], "the job may still put it right"
    await finish(api, broken, FAILED)

    left, host = await alerts(api)
    assert (left.kind, left.subject.name, host.kind) == ("node.left_drained", "gpu-01", "host.failed")
    assert "release 2 failed" in left.message
    assert "muster jobs run upgrade.yml gpu-01" in left.hint
    assert [hold["holder"] for hold in (await node.seen())["holds"]] == [f"job:{broken.id}"]

    for result, admission in ((FAILED, "drained"), (DONE, "open")):
        later, _ = await running_job(api, node)
        await finish(api, later, result)
        assert (await node.seen())["admission"] == admission
    assert await alerts(api) == []


async def test_a_decommissioned_node_stays_out_until_its_host_is_provisioned_again(api: Api) -> None:
    node = await PlayedNode.enrolled(api)
    await node.beat()
    removing, headers = await running_job(api, node, "decommission.yml")
    await drain(api, node, headers, outlives_job=True)
    await finish(api, removing, DONE, HostState.DECOMMISSIONED)
    assert (await node.seen())["admission"] == "drained"
    assert await alerts(api) == [], "that was meant"

    again, _ = await running_job(api, node, "site.yml")
    await finish(api, again, DONE)

    assert (await node.seen())["admission"] == "open"


async def test_drain_and_resume_as_jobs_are_the_wish_of_who_asked_for_them(api: Api) -> None:
    node = await PlayedNode.enrolled(api)
    await node.beat()
    draining, headers = await running_job(api, node, "drain.yml")
    await drain(api, node, headers, reason="new fans")
    await finish(api, draining, DONE, None)
    assert [hold["holder"] for hold in (await node.seen())["holds"]] == ["user:alice"]

    _, headers = await running_job(api, node, "resume.yml")
    await api.http.post(f"/v0/nodes/{node.id}/resume", headers=headers)

    assert (await node.seen())["holds"] == []
