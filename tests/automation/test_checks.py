"""Drift and plans, end to end: check runs of real Ansible, what is kept of them, and what a plan refuses."""

from pathlib import Path
from typing import Any

import pytest

from control_api.automation.drift import DriftSchedule, DriftService
from control_api.automation.findings import by_host
from control_api.automation.models import JobEvent
from control_api.kit.clock import utcnow
from tests.automation.site import Site

pytestmark = pytest.mark.anyio


async def get(site: Site, path: str) -> dict[str, Any]:
    answer = await site.http.get(path)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def drift_of(site: Site) -> dict[str, dict[str, Any]]:
    return {item["host"]["name"]: item for item in (await get(site, "/v0/drift"))["items"]}


async def add_host(site: Site, name: str, target: Path, **values: Any) -> str:
    return (await site.add_host(name, variables={"demo_file": str(target)}, **values)).id


async def test_one_changed_byte_on_a_host_is_exactly_that_task(site: Site, tmp_path: Path, unused_port: int) -> None:
    same, changed = tmp_path / "same", tmp_path / "changed"
    await add_host(site, "gpu-01", same)
    await add_host(site, "gpu-02", changed)
    await add_host(site, "gpu-03", same, connection="ssh", user="nobody", port=unused_port)
    assert {item["status"] for item in (await drift_of(site)).values()} == {"unknown"}
    same.write_text("hello\n")
    changed.write_text("hellO\n")
    same.chmod(0o600)
    changed.chmod(0o600)
    async with site.working():
        job = await site.ended((await site.post("/v0/drift", {}))["id"])
    assert (job["purpose"], job["check"], changed.read_text()) == ("drift", True, "hellO\n")
    found = await drift_of(site)
    assert {name: item["status"] for name, item in found.items()} == {
        "gpu-01": "in_sync",
        "gpu-02": "drifted",
        "gpu-03": "unknown",
    }
    (drifted,) = [task for task in found["gpu-02"]["tasks"] if task["status"] == "drifted"]
    assert (drifted["role"], drifted["task"]) == ("demo", "Write a file")
    assert "-hellO\n+hello" in drifted["diff"]
    assert {task["status"] for task in found["gpu-01"]["tasks"]} == {"in_sync"}
    assert found["gpu-03"]["reason"].startswith("unreachable in task 'Write a file': ")


async def test_only_what_drifted_is_put_right_and_of_it_only_what_has_the_tag(site: Site, tmp_path: Path) -> None:
    for name in ("same", "changed"):
        (tmp_path / name).write_text("hello\n" if name == "same" else "hellO\n")
        (tmp_path / name).chmod(0o600)
        await add_host(site, name, tmp_path / name)
    refused = await site.http.post("/v0/drift/apply", json={})
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "nothing_drifted")
    unknown = await site.http.post("/v0/jobs", json={"playbook": "site.yml", "hosts": ["same"], "tags": ["demo_wirte"]})
    assert unknown.json()["error"]["message"] == "tags: no role has demo_wirte."
    async with site.working():
        await site.ended((await site.post("/v0/drift", {}))["id"])
        job = await site.ended((await site.post("/v0/drift/apply", {"tags": ["demo_write"]}))["id"])
    assert (job["status"], job["tags"], list(job["recap"])) == ("successful", ["demo_write"], ["changed"])
    run = {event["task"] for event in await site.events(job["id"]) if event["host"]}
    assert ("Write a file" in run, "Say what was given" in run) == (True, False)
    assert (tmp_path / "changed").read_text() == "hello\n"


async def test_check_says_nothing_of_a_host_that_something_else_changes_meanwhile(site: Site) -> None:
    await site.add_host("gpu-01")
    await site.add_host("gpu-02")
    async with site.working():
        running = await site.start("sleep.yml", "gpu-01")
        await site.printed(running, "begun")
        job = await site.ended((await site.post("/v0/drift", {"hosts": ["gpu-01", "gpu-02"]}))["id"])
        await site.post(f"/v0/jobs/{running}/cancel")
        await site.ended(running)
    assert job["status"] == "successful", "it waits for nobody"
    found = await drift_of(site)
    assert (found["gpu-01"]["status"], found["gpu-01"]["reason"]) == ("unknown", "Another job changed the host meanwhile.")
    assert found["gpu-02"]["status"] == "in_sync"


async def test_schedule_queues_one_check_for_each_interval(site: Site) -> None:
    schedules = [DriftSchedule(site.database.control, DriftService(site.jobs), 3600) for _ in range(2)]

    async def turn(now_s: float) -> list[dict[str, Any]]:
        for schedule in schedules:
            await schedule.turn(now_s)
        return list((await get(site, "/v0/jobs"))["items"])

    assert await turn(7200) == [], "no host, nothing to check"
    await site.add_host("gpu-01")
    (job,) = await turn(7200)
    assert (job["playbook"], job["purpose"], job["requested_by"]) == ("converge.yml", "drift", "schedule:drift")
    assert len(await turn(10800)) == 1, "the one before has not ended"
    await site.post(f"/v0/jobs/{job['id']}/cancel")
    assert len(await turn(10799)) == 1
    assert len(await turn(10800)) == 2


async def plan(site: Site, *hosts: str) -> dict[str, Any]:
    job = await site.post("/v0/plan", {"hosts": hosts})
    await site.ended(job["id"])
    return await get(site, f"/v0/plan/{job['id']}")


async def refusal(site: Site, plan_hash: str, status: int = 409) -> dict[str, Any]:
    return dict((await site.post("/v0/apply", {"plan_hash": plan_hash}, status=status))["error"])


async def test_plan_is_what_is_applied(site: Site, tmp_path: Path) -> None:
    target = tmp_path / "written"
    await add_host(site, "gpu-01", target)
    await add_host(site, "gpu-02", tmp_path / "other")
    async with site.working():
        first, second = await plan(site, "gpu-01"), await plan(site, "gpu-01")
        assert first["plan_hash"] == second["plan_hash"]
        (host,) = first["hosts"]
        assert (host["name"], [change["task"] for change in host["changes"]]) == ("gpu-01", ["Write a file"])
        assert "+hello" in host["changes"][0]["diff"]
        assert not target.exists()
        applied = await site.post("/v0/apply", {"plan_hash": first["plan_hash"]})
        job = await site.ended(applied["id"])
    assert (job["status"], job["purpose"], [host["name"] for host in job["hosts"]]) == ("successful", "apply", ["gpu-01"])
    assert target.read_text() == "hello\n"
    done = await refusal(site, first["plan_hash"])
    assert (done["code"], done["details"]["moved"]) == ("plan_outdated", ["host gpu-01"])
    assert (await refusal(site, "0" * 64, 404))["code"] == "unknown_plan"


async def test_plan_is_refused_naming_what_moved(site: Site, project: Path, tmp_path: Path) -> None:
    host_id = await add_host(site, "gpu-01", tmp_path / "written")
    async with site.working():
        plan_hash = (await plan(site, "gpu-01"))["plan_hash"]
    waiting = await site.start("verify.yml", "gpu-01")
    busy = await site.start("site.yml", "gpu-01")
    assert busy in (await refusal(site, plan_hash))["message"]
    for job_id in (waiting, busy):
        await site.post(f"/v0/jobs/{job_id}/cancel")
    async with site.database.control.write() as session:
        host = await site.fleet.host(session, host_id)
        host.tags = ["site:osaka"]
        session.add(host)
    with (project / "roles" / "demo" / "defaults" / "main.yml").open("a") as file:
        file.write("# changed\n")
    moved = await refusal(site, plan_hash)
    assert moved["message"] == "Changed since the plan was made: host gpu-01, playbooks and roles."


async def test_plan_that_failed_cannot_be_applied(site: Site, tmp_path: Path, unused_port: int) -> None:
    await add_host(site, "gpu-01", tmp_path / "written", connection="ssh", user="nobody", port=unused_port)
    async with site.working():
        failed = await plan(site, "gpu-01")
    assert (failed["status"], failed["plan_hash"]) == ("failed", None)
    assert "unreachable" in failed["reason"]


def test_tasks_that_failed_or_were_rescued_are_unknown() -> None:
    def end(status: str) -> JobEvent:
        at = utcnow()
        return JobEvent(job_id="j", attempt=1, counter=1, event="e", at=at, host="a", task=status, status=status, diff="d")

    found = by_host([end("ok"), end("changed"), end("failed")])["a"]
    assert [(task["status"], task["diff"]) for task in found] == [("in_sync", None), ("drifted", "d"), ("unknown", None)]
