"""``/v0/jobs`` without a worker: what is accepted, refused, shown, cancelled and repeated; and runs that began elsewhere."""

from datetime import UTC, datetime
from typing import Any

import pytest
from sqlmodel import col, update

from control_api.access.api_keys import api_key_row
from control_api.access.schemas import ApiKeyCreate, Scope
from control_api.automation import repository
from control_api.automation.orders import OrderDesk
from control_api.errors import Conflict
from control_api.fleet.models import Host
from tests.automation.site import Site

pytestmark = pytest.mark.anyio

NOW = "2026-11-20T05:00:00+00:00"
NOW_PASSED = datetime(2020, 1, 1, tzinfo=UTC)


async def error(site: Site, path: str, body: Any, status: int) -> dict[str, Any]:
    return dict((await site.post(path, body, status=status))["error"])


async def test_unknown_playbook_and_host_name_those_that_exist(site: Site) -> None:
    await site.add_host("gpu-01")
    for playbook in ("none.yml", "not_there.yml", "../site.yml", "{{ 1+1 }}"):
        unknown = await error(site, "/v0/jobs", {"playbook": playbook, "hosts": ["gpu-01"]}, 404)
        assert unknown["code"] == "unknown_playbook"
        assert "site.yml" in unknown["hint"]
        assert "not_there.yml" not in unknown["hint"]
    unknown = await error(site, "/v0/jobs", {"playbook": "site.yml", "hosts": ["gpu-01", "gpu-99"]}, 404)
    assert (unknown["code"], unknown["hint"]) == ("unknown_host", "Known hosts: gpu-01.")
    assert (await error(site, "/v0/jobs", {"playbook": "site.yml", "hosts": []}, 422))["code"] == "no_hosts"


@pytest.mark.parametrize("name", ["ansible_connection", "ansible_ssh_common_args", "_demo_private", "unknown", "demo_token"])
async def test_variables_that_are_not_public_options_are_refused_by_name(site: Site, name: str) -> None:
    await site.add_host("gpu-01")
    refused = await error(site, "/v0/jobs", {"playbook": "site.yml", "hosts": ["gpu-01"], "extra_vars": {name: "local"}}, 422)
    assert refused["code"] == "bad_variable"
    assert refused["details"][0]["field"] == f"extra_vars.{name}"


async def test_needs_a_key_that_may_operate(site: Site) -> None:
    answer = await site.http.post("/v0/jobs", json={"playbook": "site.yml", "hosts": ["a"]}, headers={"authorization": ""})
    assert answer.status_code == 401
    assert (await site.http.get("/v0/jobs", headers={"authorization": "Bearer mk_wrong"})).status_code == 401
    assert (await site.http.get("/v0/jobs/none")).status_code == 404


async def test_same_idempotency_key_is_the_same_job(site: Site) -> None:
    await site.add_host("gpu-01")
    wanted = {"playbook": "site.yml", "hosts": ["gpu-01"], "idempotency_key": "deploy-7"}
    first = await site.post("/v0/jobs", wanted)
    assert (await site.post("/v0/jobs", wanted))["id"] == first["id"]
    other = await error(site, "/v0/jobs", {**wanted, "check": True}, 409)
    assert (other["code"], other["details"]["job_id"]) == ("idempotency_key_reused", first["id"])
    assert len((await site.http.get("/v0/jobs")).json()["items"]) == 1
    own = await error(site, "/v0/jobs", {**wanted, "idempotency_key": "muster:drift-3600-2"}, 422)
    assert "idempotency_key" in own["message"], "nobody takes the place of what Muster itself asks for"


async def test_queued_job_is_shown_and_cancelled_at_once(site: Site) -> None:
    host = await site.add_host("gpu-01")
    job_id = await site.start("site.yml", host.id, extra_vars={"demo_greeting": "hi"}, priority=3, timeout_s=60)
    job = await site.job(job_id)
    assert job["hosts"] == [{"id": host.id, "name": "gpu-01"}]
    assert (job["status"], job["waiting_for"], job["events"]) == ("queued", "a worker", {"stored": 0, "expected": None})
    assert (job["extra_vars"], job["priority"], job["timeout_s"]) == ({"demo_greeting": "hi"}, 3, 60)
    assert (await error(site, f"/v0/jobs/{job_id}/retry", None, 409))["code"] == "job_not_ended"
    cancelled = await site.post(f"/v0/jobs/{job_id}/cancel")
    assert (cancelled["status"], cancelled["reason"]) == ("cancelled", "Cancelled before it started.")
    async with site.database.control.write() as session:
        assert await repository.claim(session, "w", 60) is None
    again = await site.post(f"/v0/jobs/{job_id}/retry")
    assert (again["retry_of"], again["status"], again["extra_vars"]) == (job_id, "queued", job["extra_vars"])


async def test_jobs_are_listed_newest_first_in_pages(site: Site) -> None:
    await site.add_host("gpu-01")
    ids = [await site.start("site.yml", "gpu-01") for _ in range(5)]
    await site.post(f"/v0/jobs/{ids[0]}/cancel")
    page = (await site.http.get("/v0/jobs", params={"limit": 3})).json()
    rest = (await site.http.get("/v0/jobs", params={"limit": 3, "cursor": page["next_cursor"]})).json()
    assert [job["id"] for job in page["items"] + rest["items"]] == ids[::-1]
    assert rest["next_cursor"] is None
    only = (await site.http.get("/v0/jobs", params={"status": "cancelled"})).json()["items"]
    assert [job["id"] for job in only] == [ids[0]]


def an_event(counter: int, **values: Any) -> dict[str, Any]:
    return {"counter": counter, "event": "runner_on_ok", "at": NOW, "host": "gpu-01", "status": "ok", **values}


async def test_run_from_ci_writes_the_same_history_and_holds_the_same_locks(site: Site) -> None:
    await site.add_host("gpu-01")
    wanted = {"playbook": "ci-own.yml", "hosts": ["gpu-01"], "external": True}
    run = await site.post("/v0/jobs", wanted, status=201)
    assert (run["status"], run["external"], run["attempt"]) == ("running", True, 1)
    busy = await error(site, "/v0/jobs", wanted, 409)
    assert (busy["code"], busy["details"]["job_id"]) == ("host_busy", run["id"])
    assert "api_key:tests" in busy["message"]
    waiting = await site.job(await site.start("site.yml", "gpu-01"))
    assert run["id"] in waiting["waiting_for"]

    path = f"/v0/jobs/{run['id']}/events"
    long = "x" * 70_000 + "\0"
    await site.post(path, {"events": [an_event(1), an_event(2, stdout=long)]}, status=200)
    await site.post(path, {"events": [an_event(2), an_event(3)]}, status=200)
    recap = {"gpu-01": {"ok": 3, "changed": 1, "failed": 0, "unreachable": 0, "skipped": 0}}
    ended = await site.post(path, {"end": {"rc": 0, "recap": recap, "events": 4}}, status=200)
    assert (ended["status"], ended["rc"], ended["recap"]) == ("successful", 0, recap)
    assert ended["events"] == {"stored": 3, "expected": 4}, "one is missing, and it says so"
    events = await site.events(run["id"])
    assert [event["counter"] for event in events] == [1, 2, 3]
    assert events[1]["stdout"].endswith("… 4464 bytes cut")
    assert (await error(site, path, {"events": []}, 409))["code"] == "job_ended"
    assert (await error(site, f"/v0/jobs/{run['id']}/retry", None, 409))["code"] == "job_external"
    async with site.database.control.write() as session:
        claimed = await repository.claim(session, "w", 60)
    assert claimed
    assert claimed.id == waiting["id"]


async def test_of_a_run_from_ci_only_the_jobs_hosts_and_the_controller_are_kept(site: Site) -> None:
    """An inventory of its own may have more hosts, which are none of this job's; its list must not carry them all."""
    await site.add_host("gpu-01")
    run = await site.post("/v0/jobs", {"playbook": "ci.yml", "hosts": ["gpu-01"], "external": True}, status=201)
    counts = {"ok": 3, "changed": 1, "failed": 0, "unreachable": 0, "skipped": 0}
    recap = dict.fromkeys(("gpu-01", "localhost", *(f"invented-{n}" for n in range(14000))), counts)

    ended = await site.post(f"/v0/jobs/{run['id']}/events", {"end": {"rc": 0, "recap": recap, "events": 0}}, status=200)

    assert (ended["status"], ended["recap"]) == ("successful", {"gpu-01": counts, "localhost": counts})
    assert len((await site.http.get("/v0/jobs")).content) < 4096


@pytest.mark.parametrize(
    "end",
    [
        {"recap": {"gpu-01": {f"k{n}": 1 for n in range(1000)}}},
        {"recap": {"gpu-01": {"ok": 1 << 31}}},
        {"rc": 1 << 31},
        {"rc": -(1 << 31) - 1},
        {"events": 1 << 31},
    ],
)
async def test_the_end_of_a_run_from_ci_has_figures_that_can_be(site: Site, end: dict[str, Any]) -> None:
    await site.add_host("gpu-01")
    run = await site.post("/v0/jobs", {"playbook": "ci.yml", "hosts": ["gpu-01"], "external": True}, status=201)

    await error(site, f"/v0/jobs/{run['id']}/events", {"end": {"rc": 0, "events": 0} | end}, 422)


async def test_what_a_run_from_ci_tells_is_cut_to_what_is_kept_and_has_no_passwords(site: Site) -> None:
    await site.add_host("gpu-01")
    run = await site.post("/v0/jobs", {"playbook": "ci.yml", "hosts": ["gpu-01"], "external": True}, status=201)
    path, long = f"/v0/jobs/{run['id']}/events", "x" * 4096
    texts = {"event": "e" * 200, "host": long, "play": long, "role": long, "task": long}

    await site.post(path, {"events": [an_event(1, **texts, stdout="clone https://token@git/x")]}, status=200)
    await error(site, path, {"events": [an_event(2, status="s" * 17)]}, 422)
    await error(site, path, {"events": [an_event(1 << 31)]}, 422)
    await error(site, "/v0/jobs", {"playbook": "p" * 129, "hosts": ["gpu-01"], "external": True}, 422)

    (event,) = await site.events(run["id"])
    assert {name: len(event[name]) for name in texts} == {"event": 64, "host": 256, "play": 512, "role": 256, "task": 512}
    assert event["stdout"] == "clone https://********@git/x"


async def test_run_from_ci_waits_for_those_who_were_first(site: Site) -> None:
    await site.add_host("gpu-01")
    queued = await site.start("site.yml", "gpu-01")
    busy = await error(site, "/v0/jobs", {"playbook": "site.yml", "hosts": ["gpu-01"], "external": True}, 409)
    assert (busy["code"], busy["details"]["job_id"]) == ("host_busy", queued)
    assert len((await site.http.get("/v0/jobs")).json()["items"]) == 1, "nothing is left of the refused run"


async def test_run_from_ci_that_stops_reporting_is_lost(site: Site) -> None:
    await site.add_host("gpu-01")
    run = await site.post("/v0/jobs", {"playbook": "site.yml", "hosts": ["gpu-01"], "external": True}, status=201)
    async with site.database.control.write() as session:
        await repository.update_running(session, run["id"], 1, lease_until=NOW_PASSED)
    async with site.working():
        job = await site.ended(run["id"])
    assert (job["status"], job["reason"]) == ("lost", "the run stopped reporting")


async def test_nobody_writes_into_a_job_that_is_not_their_own_run(site: Site) -> None:
    """Names of keys are not unique: another key of the same name is somebody else."""
    await site.add_host("gpu-01")
    job_id = await site.start("site.yml", "gpu-01")
    assert (await error(site, f"/v0/jobs/{job_id}/events", {"events": [an_event(1)]}, 403))["code"] == "not_your_job"
    wanted = {"playbook": "verify.yml", "hosts": ["gpu-01"], "external": True, "idempotency_key": "ci-7"}
    run = await site.post("/v0/jobs", wanted, status=201)
    namesake = "mk_" + "n" * 40
    async with site.database.control.write() as session:
        session.add(api_key_row(namesake, ApiKeyCreate(name="tests", scopes=[Scope.ADMIN])))
    headers = {"authorization": f"Bearer {namesake}"}
    written = await site.http.post(f"/v0/jobs/{run['id']}/events", json={"events": [an_event(1)]}, headers=headers)
    repeated = await site.http.post("/v0/jobs", json=wanted, headers=headers)
    codes = [answer.json()["error"]["code"] for answer in (written, repeated)]
    assert (run["requested_by"], codes) == ("api_key:tests", ["not_your_job", "idempotency_key_reused"])


async def test_what_a_job_logs_in_with_is_given_for_accepted_hosts_only(site: Site) -> None:
    host = await site.add_host("gpu-01")
    job_id = await site.start("site.yml", "gpu-01")
    async with site.database.control.write() as session:
        await session.exec(update(Host).where(col(Host.id) == host.id).values(accepted_at=None))
    desk = OrderDesk(site.settings, site.access, site.fleet, site.playbooks)
    async with site.database.control.write() as session:
        with pytest.raises(Conflict, match="gpu-01") as refused:
            await desk.make(session, await site.jobs.get(session, job_id))
        assert (await site.fleet.inventory(session, [host.id])).hosts == []
    assert refused.value.code == "host_proposed"
