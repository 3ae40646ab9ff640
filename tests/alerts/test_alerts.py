"""Alerts as an operator reads them: what is wrong appears with what to do, and goes when it is put right."""

import asyncio
from contextlib import aclosing
from datetime import timedelta
from typing import Any

import pytest
from sqlmodel import col, update

from control_api.automation.models import HostDrift, Job, JobHost, WorkerPresence
from control_api.automation.states import HostStatus, JobStatus
from control_api.fleet.models import Host, Listening, Node
from control_api.fleet.presence import Presence
from control_api.fleet.states import HostState
from control_api.kit.clock import utcnow
from control_api.telemetry.models import RouterBreaker
from tests.fleet.reports import PlayedNode, add_host, bearer, ready, register
from tests.running import Api

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("api", ["sqlite", "postgresql"], indirect=True)]

AN_HOUR = timedelta(hours=1)


async def alerts(api: Api, **query: Any) -> list[dict[str, Any]]:
    """Return the alerts as the API lists them."""
    answer = await api.http.get("/v0/alerts", params=query)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


async def kinds(api: Api) -> list[str]:
    """Return what is wrong, in a word each."""
    return [alert["kind"] for alert in await alerts(api)]


async def add(api: Api, *rows: Any) -> None:
    async with api.database.control.write() as session:
        session.add_all(rows)


async def add_job(api: Api, host: dict[str, Any], status: JobStatus, playbook: str = "site.yml", **values: Any) -> Job:
    """Store a job on a host as it would be now."""
    ended = utcnow() if status.is_final else None
    job = Job(playbook=playbook, requested_by="user:alice", status=status, finished_at=ended, **values)
    await add(api, job)
    await add(api, JobHost(job_id=job.id, host_id=host["id"], name=host["name"]))
    return job


async def silence(api: Api) -> None:
    """Let all nodes have been silent for a minute while somebody listened."""
    past = utcnow() - timedelta(seconds=60)
    async with api.database.control.write() as session:
        await session.exec(update(Node).values(last_heartbeat_at=past))
        await session.exec(update(Listening).where(col(Listening.id) == 1).values(since=past, fresh_at=utcnow()))
    await Presence(api.settings, api.database.control).sweep()


async def test_a_fleet_in_order_has_none(api: Api) -> None:
    node = await PlayedNode.enrolled(api)
    await node.beat(models=[ready("m:1")], ready_models={"loaded": 1, "total": 1})
    host = (await api.http.get("/v0/hosts/gpu-01")).json()
    await add_job(api, host, JobStatus.SUCCESSFUL)
    await add(api, HostDrift(host_id=host["id"], status=HostStatus.IN_SYNC, job_id="j", tasks=[]))
    await api.http.post(f"/v0/nodes/{node.id}/drain", json={"reason": "new fans"})

    assert await alerts(api) == []


async def test_a_silent_node_is_named_with_what_to_do_and_gone_when_it_is_back(api: Api) -> None:
    node = await PlayedNode.enrolled(api)
    await node.beat()
    await silence(api)

    (alert,) = await alerts(api)
    assert (alert["kind"], alert["severity"]) == ("node.offline", "critical")
    assert alert["subject"] == {"type": "node", "id": node.id, "name": "gpu-01"}
    assert alert["since"] == (await node.seen())["last_heartbeat_at"]
    assert "muster jobs run repair.yml gpu-01" in alert["hint"]

    await node.beat()
    assert await alerts(api) == []


async def test_what_a_node_says_of_itself_is_passed_on(api: Api) -> None:
    node = await PlayedNode.enrolled(api)
    codes = ["manifest_refused", "gpu_unavailable", "something_newer"]
    errors = [{"code": code, "message": f"because of {code}", "at": "2026-11-20T09:00:00Z"} for code in codes]
    failed = {**ready("m:2"), "state": "failed", "error": "sha256 differs"}
    await node.beat(models=[ready("m:1"), failed], ready_models={"loaded": 1, "total": 2}, errors=errors)

    found = {alert["kind"]: alert for alert in await alerts(api)}
    assert list(found) == ["node.gpu_unavailable", "node.manifest_refused", "node.error", "node.degraded"]
    assert "m:2: sha256 differs" in found["node.degraded"]["message"]
    assert "because of something_newer" in found["node.error"]["message"]
    assert "muster nodes delete gpu-01" in found["node.manifest_refused"]["hint"]
    assert found["node.manifest_refused"]["since"] == "2026-11-20T09:00:00Z"
    assert [error["code"] for error in (await node.seen())["errors"]] == codes

    await node.beat(models=[ready("m:1"), ready("m:2")], ready_models={"loaded": 2, "total": 2})
    assert await alerts(api) == []


async def test_a_node_that_waits_for_approval(api: Api) -> None:
    api.settings.node_networks.append("10.9.0.0/16")
    ticket = (await api.http.post("/v0/enrolments")).json()["ticket"]
    node_id = (await register(api, ticket, name="laptop", base_url="http://10.9.0.1:8090")).json()["node_id"]

    assert [(a["kind"], a["hint"][:27]) for a in await alerts(api)] == [("node.pending", "muster nodes approve laptop")]
    await api.http.post(f"/v0/nodes/{node_id}/approve")
    assert await alerts(api) == []


async def test_a_host_that_waits_for_acceptance(api: Api) -> None:
    made = await api.http.post("/v0/api-keys", json={"name": "ci", "scopes": ["operate"]})
    host = {"name": "gpu-09", "address": "10.0.0.9"}
    await api.http.post("/v0/hosts", json=host, headers=bearer(made.json()["key"]))

    assert [(a["kind"], a["hint"][:26]) for a in await alerts(api)] == [("host.proposed", "muster hosts accept gpu-09")]
    await api.http.post("/v0/hosts/gpu-09/accept")
    assert await alerts(api) == []


async def test_a_node_that_only_routers_cannot_reach(api: Api) -> None:
    node = await PlayedNode.enrolled(api)
    await node.beat()
    now = utcnow()
    said = {"node_id": node.id, "state": "open", "cause": "unreachable", "reported_at": now}
    async with api.database.telemetry.write() as session:
        session.add(RouterBreaker(router_id="a", since=now - timedelta(seconds=5), **said))
    assert await alerts(api) == [], "routers look again by themselves"
    async with api.database.telemetry.write() as session:
        session.add(RouterBreaker(router_id="b", since=now - AN_HOUR, **said))

    (alert,) = await alerts(api)
    assert alert["kind"] == "node.out_of_rotation"
    assert "http://10.0.0.1:8090" in alert["hint"]

    await silence(api)
    assert await kinds(api) == ["node.offline"], "then there is no riddle"


async def test_a_host_that_its_job_left_failed_until_a_later_job_is_through(api: Api) -> None:
    host = await add_host(api)
    async with api.database.control.write() as session:
        await session.exec(update(Host).values(state=HostState.FAILED))
    await add_job(api, host, JobStatus.FAILED, reason="1 of 1 hosts failed. gpu-01: no sudo")

    (alert,) = await alerts(api)
    assert (alert["kind"], alert["subject"]["name"]) == ("host.failed", "gpu-01")
    assert "gpu-01: no sudo" in alert["message"]
    assert "muster jobs run site.yml gpu-01" in alert["hint"]

    async with api.database.control.write() as session:
        await session.exec(update(Host).values(state=HostState.PROVISIONED))
    await add_job(api, host, JobStatus.SUCCESSFUL)
    assert await alerts(api) == []


async def test_a_lost_or_failed_job_until_a_later_one_speaks_for_its_hosts(api: Api) -> None:
    host, other = await add_host(api), await add_host(api, "gpu-02", "10.0.0.2")
    lost = await add_job(api, host, JobStatus.LOST, "upgrade.yml", reason="its supervisor did not renew its lease")
    await add(api, JobHost(job_id=lost.id, host_id=other["id"], name="gpu-02"))
    await add_job(api, host, JobStatus.FAILED, "verify.yml", locks_hosts=False)
    await add_job(api, host, JobStatus.CANCELLED)

    found = await alerts(api)
    assert [(a["kind"], a["subject"]["id"] == lost.id) for a in found] == [("job.lost", True), ("job.failed", False)]
    assert "gpu-01, gpu-02" in found[0]["message"] and f"muster jobs retry {lost.id}" in found[0]["hint"]

    await add_job(api, host, JobStatus.SUCCESSFUL)
    (left,) = await alerts(api)
    assert left["kind"] == "job.lost" and "on gpu-02:" in left["message"], "nobody has looked after the other host"
    await add_job(api, other, JobStatus.FAILED, "upgrade.yml", reason="no route")
    assert await kinds(api) == ["job.failed"], "the later run of the same playbook speaks for the host"


async def test_a_job_that_is_long_over_is_history(api: Api) -> None:
    host = await add_host(api)
    await add_job(api, host, JobStatus.LOST)
    async with api.database.control.write() as session:
        await session.exec(update(Job).values(finished_at=utcnow() - timedelta(days=2)))
    assert await alerts(api) == []


async def test_jobs_that_no_worker_takes(api: Api) -> None:
    host = await add_host(api)
    seen = utcnow() - AN_HOUR
    await add(api, WorkerPresence(name="cp-01:7", seen_at=seen))
    assert await alerts(api) == [], "nothing waits"
    await add_job(api, host, JobStatus.QUEUED)

    (alert,) = await alerts(api)
    assert (alert["kind"], alert["severity"]) == ("worker.missing", "critical")
    assert f"{seen:%H:%M:%S}" in alert["message"]

    await add(api, WorkerPresence(name="cp-01:8", seen_at=utcnow()))
    assert await alerts(api) == []


async def test_a_host_that_drifted(api: Api) -> None:
    host = await add_host(api)
    tasks = [{"task": "Write the unit", "status": "drifted"}, {"task": "Install", "status": "in_sync"}]
    await add(api, HostDrift(host_id=host["id"], status=HostStatus.DRIFTED, job_id="j", tasks=tasks))

    (alert,) = await alerts(api)
    assert (alert["kind"], alert["severity"]) == ("host.drifted", "warning")
    assert alert["message"].endswith("made of it: Write the unit.")


async def test_nothing_of_a_host_that_was_taken_out_of_service(api: Api) -> None:
    node = await PlayedNode.enrolled(api)
    await node.beat()
    await silence(api)
    host_id = (await node.seen())["host_id"]
    await add(api, HostDrift(host_id=host_id, status=HostStatus.DRIFTED, job_id="j", tasks=[]))
    async with api.database.control.write() as session:
        await session.exec(update(Host).values(state=HostState.DECOMMISSIONED))

    assert await alerts(api) == []


async def test_pages_follow_each_other_the_worst_first(api: Api) -> None:
    for number in range(1, 4):
        node = await PlayedNode.enrolled(api, f"gpu-{number}", f"10.0.0.{number}")
        await node.beat()
    await silence(api)
    host = (await api.http.get("/v0/hosts/gpu-2")).json()
    await add(api, HostDrift(host_id=host["id"], status=HostStatus.DRIFTED, job_id="j", tasks=[]))

    first = (await api.http.get("/v0/alerts", params={"limit": 3})).json()
    rest = (await api.http.get("/v0/alerts", params={"limit": 3, "cursor": first["next_cursor"]})).json()
    assert {alert["kind"] for alert in first["items"]} == {"node.offline"}
    assert ([alert["kind"] for alert in rest["items"]], rest["next_cursor"]) == (["host.drifted"], None)
    assert [alert["kind"] for alert in await alerts(api, severity="warning")] == ["host.drifted"]
    assert (await api.http.get("/v0/alerts", params={"severity": "loud"})).status_code == 422


async def test_who_may_not_read_sees_none(api: Api) -> None:
    key = (await api.http.post("/v0/api-keys", json={"name": "app", "scopes": ["inference"]})).json()["key"]
    assert (await api.http.get("/v0/alerts", headers=bearer(key))).status_code == 403


async def test_followers_are_told_when_one_comes_and_when_it_goes(api: Api) -> None:
    node = await PlayedNode.enrolled(api)
    await node.beat()
    async with aclosing(api.client.events(["alerts"])) as events:
        assert (await anext(events)).type == "reset", "now the subscription counts"
        await silence(api)
        raised = await asyncio.wait_for(anext(events), 20)
        (listed,) = await alerts(api)
        await node.beat()
        cleared = await asyncio.wait_for(anext(events), 20)

    assert (raised.type, raised.data) == ("alert.raised", listed)
    assert (cleared.type, cleared.data["id"]) == ("alert.cleared", listed["id"])
