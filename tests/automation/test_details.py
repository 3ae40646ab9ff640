"""What a job tells of itself: its slowest tasks, its changes, the inventory and the version of the playbooks it ran with."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from control_api.automation.playbooks import KNOWN
from tests.automation.site import REPOSITORY, Site

pytestmark = pytest.mark.anyio


async def get(site: Site, path: str, status: int = 200, **parameters: Any) -> dict[str, Any]:
    answer = await site.http.get(path, params=parameters)
    assert answer.status_code == status, answer.text
    return dict(answer.json())


def git(project: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=tests", "-c", "user.email=tests@example.org"]
    command = ["git", "-C", str(project), *identity, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout.strip()


async def test_job_tells_what_it_changed_and_what_it_ran_with(site: Site, project: Path, tmp_path: Path) -> None:
    git(project, "init", "-q")
    git(project, "add", ".")
    git(project, "commit", "-qm", "first")
    await site.add_host("gpu-01", tags=["site:tokyo"])
    await site.add_host("gpu-02", tags=["site:tokyo"], address="192.0.2.2")
    await site.add_host("gpu-03", tags=["site:osaka"], address="192.0.2.3")
    job_id = await site.start("site.yml", "gpu-01", extra_vars={"demo_file": str(tmp_path / "written")})
    assert (await get(site, f"/v0/jobs/{job_id}/inventory", 404))["error"]["code"] == "no_inventory"
    async with site.working():
        job = await site.ended(job_id)
    assert job["playbook_revision"] == git(project, "rev-parse", "HEAD")
    slowest = job["slowest_tasks"]
    assert {"Say what was given", "Write a file"} < {task["task"] for task in slowest}
    assert [task["duration_s"] for task in slowest] == sorted((task["duration_s"] for task in slowest), reverse=True)
    (change,) = (await get(site, f"/v0/jobs/{job_id}/changes"))["items"]
    assert (change["host"], change["role"], change["task"]) == ("gpu-01", "demo", "Write a file")
    assert "+hello" in change["diff"]
    inventory = await get(site, f"/v0/jobs/{job_id}/inventory")
    (host,) = inventory["hosts"]
    assert (host["name"], host["tags"], host["state"]) == ("gpu-01", ["site:tokyo"], "provisioning")
    assert inventory["sites"] == {"site:tokyo": ["127.0.0.1", "192.0.2.2"]}, "a host that the job does not touch is known"


async def test_changes_come_in_pages(site: Site) -> None:
    await site.add_host("gpu-01")
    run = await site.post("/v0/jobs", {"playbook": "ci.yml", "hosts": ["gpu-01"], "external": True}, status=201)
    event = {"event": "runner_on_ok", "at": "2026-11-20T05:00:00+00:00", "host": "gpu-01", "duration_s": 1.5}
    events = [event | {"counter": n, "task": f"t{n % 4}", "status": "changed" if n % 2 else "ok"} for n in range(1, 11)]
    await site.post(f"/v0/jobs/{run['id']}/events", {"events": events}, status=200)
    path = f"/v0/jobs/{run['id']}/changes"
    first = await get(site, path, limit=3)
    rest = await get(site, path, limit=3, cursor=first["next_cursor"])
    assert [change["task"] for change in first["items"] + rest["items"]] == ["t1", "t3", "t1", "t3", "t1"]
    assert rest["next_cursor"] is None
    assert (await get(site, path, 422, cursor="bm9uZQ=="))["error"]["code"] == "bad_cursor"
    assert len((await site.job(run["id"]))["slowest_tasks"]) == 4, "each task once"


async def test_locks_are_given_up_when_the_hosts_are_done_with(site: Site) -> None:
    host = await site.add_host("gpu-01")
    async with site.working():
        first = await site.start("release.yml", "gpu-01", extra_vars={"demo_flag": True, "demo_seconds": 300})
        await site.printed(first, "begun")
        second = await site.ended(await site.start("site.yml", "gpu-01"))
        assert (second["status"], (await site.job(first))["status"]) == ("successful", "running")
        await site.post(f"/v0/jobs/{first}/cancel")
        before = await site.ended(first)
    assert second["fence"] > before["fence"] > 0
    assert f"run {before['fence']}" in await site.output(first)
    async with site.database.control.read() as session:
        assert (await site.fleet.host(session, host.id)).state == "provisioned", "the later run speaks for the host"


async def test_task_that_takes_too_long_fails(site: Site) -> None:
    await site.add_host("gpu-01")
    async with site.working():
        job_id = await site.start("sleep.yml", "gpu-01", extra_vars={"demo_seconds": 300}, task_timeout_s=1)
        job = await site.ended(job_id)
    assert (job["status"], job["task_timeout_s"]) == ("failed", 1)
    assert "timed out" in (job["reason"] or "").lower() or "timeout" in (job["reason"] or "").lower()


def plays(path: Path) -> list[str]:
    """Return the names of all plays of a playbook in order."""
    found = []
    for play in yaml.safe_load(path.read_text()):
        imported = play.get("ansible.builtin.import_playbook")
        found += plays(path.parent / imported) if imported else [play["name"]]
    return found


def test_plays_from_which_on_hosts_are_free_exist() -> None:
    for playbook in KNOWN:
        if playbook.unlocks_at:
            assert playbook.unlocks_at in plays(REPOSITORY / "playbooks" / playbook.name)
