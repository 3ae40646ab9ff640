"""Runs, end to end: HTTP, worker, supervisor, real ansible-runner."""

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from control_api.access.principal import Principal, with_implied
from control_api.access.schemas import Scope
from control_api.automation.schemas import JobCreate
from control_api.settings import Settings
from tests.automation.site import Site, open_site, until

pytestmark = pytest.mark.anyio


async def host_state(site: Site, name: str) -> str:
    async with site.database.control.read() as session:
        return (await site.fleet.host(session, name)).state


async def test_job_runs_and_says_what_happened(site: Site, tmp_path: Path) -> None:
    await site.add_host("gpu-01")
    target = tmp_path / "written"
    async with site.working():
        job_id = await site.start("site.yml", "gpu-01", extra_vars={"demo_file": str(target)})
        job = await site.ended(job_id)
    assert (job["status"], job["rc"], job["reason"]) == ("successful", 0, None)
    assert job["recap"] == {"gpu-01": {"ok": 3, "changed": 1, "failed": 0, "unreachable": 0, "skipped": 0}}
    assert job["events"]["stored"] == job["events"]["expected"] > 4
    assert job["requested_by"] == "api_key:tests"
    assert job["ansible_version"].startswith("2.")
    assert target.read_text() == "hello\n"
    assert await host_state(site, "gpu-01") == "provisioned"
    events = await site.events(job_id)
    assert [event["counter"] for event in events] == list(range(1, len(events) + 1))
    changed = next(event for event in events if event["status"] == "changed")
    assert (changed["host"], changed["role"], changed["task"]) == ("gpu-01", "demo", "Write a file")
    diff = next(event["diff"] for event in events if event["diff"])
    assert "+hello" in diff

    async def removed() -> bool:
        return not list(site.settings.run_dir.iterdir())

    await until(removed, "the run directory to be gone")


async def test_a_job_whose_asker_is_gone_does_not_run(site: Site) -> None:
    """Between asking and running there may be hours."""
    host = await site.add_host("gpu-01")
    gone = Principal("api_key", "deleted", "ci", with_implied([Scope.OPERATE]))
    async with site.database.control.write() as session:
        job = await site.jobs.create(session, JobCreate(playbook="site.yml", hosts=[host.name]), gone)
    async with site.working():
        ended = await site.ended(job.id)
    assert ended["status"] == "failed"
    assert "has no access any more" in ended["reason"]


async def test_no_event_of_many_hosts_is_lost_and_the_end_says_how_many_there_were(site: Site) -> None:
    hosts = [(await site.add_host(f"gpu-{number:02}")).name for number in range(50)]
    async with site.working():
        job = await site.ended(job_id := await site.start("many.yml", *hosts), timeout_s=120)
    events = await site.events(job_id)
    assert job["events"] == {"stored": len(events), "expected": len(events)}
    assert [event["counter"] for event in events] == list(range(1, len(events) + 1))
    for kind, each in (("runner_item_on_ok", 8), ("runner_on_ok", 2)):
        found = Counter(event["host"] for event in events if event["event"] == kind)
        assert found == dict.fromkeys(hosts, each)


async def test_templates_in_variables_stay_text(site: Site, tmp_path: Path) -> None:
    evil = "{{ lookup('pipe', 'touch " + str(tmp_path / "evaluated") + "') }}"
    await site.add_host("gpu-01", variables={"demo_host_text": "{{ 6 * 7 }} $(id) `id`"})
    given = {"demo_greeting": evil, "demo_list": ["{{ 1+1 }}", "{% raw %}", "'\"\\ ü"], "demo_map": {"{{ 2+2 }}": "{{ 3+3 }}"}}
    async with site.working():
        job = await site.ended(job_id := await site.start("site.yml", "gpu-01", extra_vars=given))
    assert job["status"] == "successful", job["reason"]
    # Long lines are folded in the output.
    output = " ".join((await site.output(job_id)).split())
    for text in ("touch", "{{ 6 * 7 }} $(id) `id`", "{{ 1+1 }}", "{% raw %}", "{{ 2+2 }}", "{{ 3+3 }}", "ü"):
        assert text in output
    assert not (tmp_path / "evaluated").exists()


async def test_check_changes_nothing_and_says_what_would(site: Site, tmp_path: Path) -> None:
    await site.add_host("gpu-01")
    target = tmp_path / "written"
    async with site.working():
        values = {"extra_vars": {"demo_file": str(target)}, "check": True}
        job = await site.ended(job_id := await site.start("site.yml", "gpu-01", **values))
    assert (job["status"], job["check"], job["recap"]["gpu-01"]["changed"]) == ("successful", True, 1)
    assert "+hello" in await site.output(job_id)
    assert not target.exists()
    assert await host_state(site, "gpu-01") == "unprovisioned"


async def test_events_are_there_while_it_runs(site: Site) -> None:
    await site.add_host("gpu-01")
    async with site.working():
        job_id = await site.start("sleep.yml", "gpu-01", extra_vars={"demo_seconds": 300})
        await site.printed(job_id, "begun")
        job = await site.job(job_id)
        assert (job["status"], job["events"]["expected"]) == ("running", None)
        await site.post(f"/v0/jobs/{job_id}/cancel")
        await site.ended(job_id)


async def test_host_that_refuses_ssh_fails_and_others_go_on(site: Site, unused_port: int) -> None:
    await site.add_host("gpu-01")
    await site.add_host("gpu-02", connection="ssh", user="nobody", port=unused_port)
    async with site.working():
        job_id = await site.start("mixed.yml", "gpu-01", "gpu-02")
        job = await site.ended(job_id, timeout_s=30)
    assert (job["status"], job["rc"]) == ("failed", 4)
    assert "1 of 2 hosts failed. gpu-02: unreachable" in job["reason"]
    assert "Connection refused" in job["reason"]
    assert job["recap"]["gpu-01"]["ok"] == 1
    assert job["recap"]["gpu-02"]["unreachable"] == 1
    said = next(event for event in await site.events(job_id) if event["status"] == "unreachable")
    assert said["host"] == "gpu-02"
    assert [await host_state(site, name) for name in ("gpu-01", "gpu-02")] == ["provisioned", "failed"]


async def test_retry_takes_only_the_hosts_that_failed(site: Site) -> None:
    await site.add_host("gpu-01")
    await site.add_host("gpu-02", variables={"demo_flag": True})
    async with site.working():
        first = await site.ended(await site.start("mixed.yml", "gpu-01", "gpu-02"))
        assert (first["status"], first["rc"]) == ("failed", 2)
        assert "gpu-02: failed in task 'Fail where asked': asked to fail" in first["reason"]
        again = await site.post(f"/v0/jobs/{first['id']}/retry")
        second = await site.ended(again["id"])
    assert (again["retry_of"], [host["name"] for host in again["hosts"]]) == (first["id"], ["gpu-02"])
    assert second["recap"].keys() == {"gpu-02"}


@pytest.mark.parametrize(
    ("playbook", "reason"),
    [
        ("broken.yml", "couldn't resolve module/action 'ansible.builtin.no_such_module'"),
        ("nobody.yml", "touched none of the job's hosts"),
    ],
)
async def test_run_that_does_nothing_is_a_failure(site: Site, playbook: str, reason: str) -> None:
    await site.add_host("gpu-01")
    async with site.working():
        job = await site.ended(await site.start(playbook, "gpu-01"))
    assert job["status"] == "failed"
    assert reason in job["reason"]


async def test_site_data_reach_the_run(site: Site, tmp_path: Path) -> None:
    (tmp_path / "site" / "group_vars").mkdir(parents=True)
    (tmp_path / "site" / "group_vars" / "gpu_hosts.yml").write_text("demo_greeting: from the site\n")
    await site.add_host("gpu-01")
    site.settings = site.settings.model_copy(update={"site_dir": tmp_path / "site"})
    async with site.working():
        job_id = await site.start("site.yml", "gpu-01")
        assert (await site.ended(job_id))["status"] == "successful"
    assert "greeting=from the site" in await site.output(job_id)


def everything_visible(job_id: str) -> str:
    """Return arguments and environments of all processes of a job, as anybody with the same user sees them."""
    seen = []
    for process in Path("/proc").iterdir():
        try:
            parts = [(process / name).read_bytes() for name in ("cmdline", "environ")] if process.name.isdigit() else []
        except OSError:
            continue
        if any(job_id.encode() in part for part in parts):
            seen += parts
    return b"\n".join(seen).decode(errors="replace")


async def test_secrets_are_nowhere_to_be_seen(site: Site, credential: tuple[str, str, str]) -> None:
    credential_id, key, password = credential
    await site.add_host("gpu-01", credential_id=credential_id)
    async with site.working():
        sleeping = await site.start("sleep.yml", "gpu-01")
        await site.printed(sleeping, "begun")
        visible = everything_visible(sleeping)
        run_dir = next(path for path in site.settings.run_dir.iterdir() if path.is_dir())
        token = (run_dir / "token").read_text()
        artifacts = "".join(path.read_text(errors="replace") for path in run_dir.glob("run/**/*") if path.is_file())
        on_disk = "".join(path.read_text(errors="replace") for path in run_dir.rglob("*") if path.is_file())
        modes = {path.stat().st_mode & 0o077 for path in [run_dir, *run_dir.iterdir()] if path == run_dir or path.is_file()}
        await site.post(f"/v0/jobs/{sleeping}/cancel")
        await site.ended(sleeping)
        failing = await site.start("secrets.yml", "gpu-01")
        job = await site.ended(failing)
    assert "ansible-playbook" in visible
    key_lines = [line for line in key.splitlines() if len(line) > 20 and "-----" not in line]
    for secret in (password, token, *key_lines):
        assert secret not in visible
        assert secret not in artifacts
    assert not any(line in on_disk for line in key_lines)
    assert modes == {0}
    told = json.dumps([job, await site.events(failing)])
    for secret in (password, json.dumps(password)[1:-1], *key_lines, "hunter22"):
        assert secret not in told
    assert "eyJ" not in told
    assert told.count("********") >= 5


async def test_job_token_is_good_only_while_the_job_runs(site: Site) -> None:
    await site.add_host("gpu-01")
    async with site.working():
        job_id = await site.start("sleep.yml", "gpu-01")
        await site.printed(job_id, "begun")
        token = next(site.settings.run_dir.glob("*/token")).read_text()
        async with site.database.control.read() as session:
            principal = await site.access.authenticate(session, token)
        assert (principal.kind, principal.id, len(principal.host_ids)) == ("job", job_id, 1)
        await site.post(f"/v0/jobs/{job_id}/cancel")
        await site.ended(job_id)
    async with site.database.control.read() as session:
        with pytest.raises(Exception, match="not running any more"):
            await site.access.authenticate(session, token)


async def test_second_job_for_a_busy_host_waits_and_says_for_whom(site: Site) -> None:
    await site.add_host("gpu-01")
    await site.add_host("gpu-02")
    async with site.working():
        first = await site.start("sleep.yml", "gpu-01")
        await site.printed(first, "begun")
        second = await site.start("site.yml", "gpu-01", "gpu-02")
        third = await site.start("site.yml", "gpu-02")
        looking = await site.start("verify.yml", "gpu-01")
        assert (await site.ended(looking))["status"] == "successful"
        waiting = await site.job(second)
        assert waiting["status"] == "queued"
        assert waiting["waiting_for"] == f"host gpu-01: job {first} (sleep.yml, running, asked for by api_key:tests)"
        assert (await site.job(third))["waiting_for"].startswith(f"host gpu-02: job {second}")
        await site.post(f"/v0/jobs/{first}/cancel")
        assert (await site.ended(second))["status"] == "successful"
        assert (await site.ended(third))["status"] == "successful"


async def test_two_jobs_for_different_hosts_run_side_by_side(site: Site) -> None:
    for name in ("gpu-01", "gpu-02"):
        await site.add_host(name)
    async with site.working():
        jobs = [await site.start("sleep.yml", name) for name in ("gpu-01", "gpu-02")]
        await asyncio.gather(*(site.printed(job_id, "begun") for job_id in jobs))

        async def states() -> list[Any]:
            return [(await site.job(job_id))["status"] for job_id in jobs]

        assert await states() == ["running", "running"]
        for job_id in jobs:
            await site.post(f"/v0/jobs/{job_id}/cancel")
        await until(lambda: _all_cancelled(states), "both to be cancelled")


async def _all_cancelled(states: Any) -> bool:
    return bool(await states() == ["cancelled", "cancelled"])


async def test_run_on_postgresql(settings: Settings, postgres_url: str) -> None:
    async with open_site(settings.model_copy(update={"database_url": postgres_url})) as site:
        await site.add_host("gpu-01")
        async with site.working():
            job = await site.ended(job_id := await site.start("site.yml", "gpu-01"))
        assert (job["status"], job["events"]["stored"]) == ("successful", job["events"]["expected"])
        assert "greeting=hello" in await site.output(job_id)
