"""How runs end before their time: cancelled, timed out, their supervisor, guard or worker killed. Nothing stays behind."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlmodel import select

from control_api.automation.models import HostLock, Job
from control_api.automation.supervisor import processes
from control_api.automation.supervisor.forkserver import PLACEHOLDER
from control_api.automation.worker import Worker
from control_api.kit.tasks import owned_task
from tests.automation.site import REPOSITORY, Site, until

pytestmark = pytest.mark.anyio


def left_of(job_id: str) -> set[int]:
    """Return what runs of a job on this machine: by its mark, and its guard and supervisor by their arguments."""
    found = processes.marked("MUSTER_JOB_ID", job_id)
    listed = subprocess.run(["pgrep", "-f", job_id], capture_output=True, text=True, check=False).stdout.split()
    return found | {int(pid) for pid in listed}


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().split()[3])


async def nothing_left(site: Site, job_id: str) -> None:
    async def gone() -> bool:
        return not left_of(job_id) and not list(site.settings.run_dir.iterdir())

    await until(gone, f"processes and files of job {job_id} to be gone")
    async with site.database.control.read() as session:
        assert (await session.exec(select(HostLock).where(HostLock.job_id == job_id))).all() == []


async def row(site: Site, job_id: str) -> Job:
    async with site.database.control.read() as session:
        return await session.get_one(Job, job_id)


@pytest.fixture
async def sleeping(site: Site) -> AsyncIterator[str]:
    """A job that sleeps on one host, with a worker beside it; whatever a test leaves of it is cancelled."""
    await site.add_host("gpu-01")
    async with site.working():
        job_id = await site.start("sleep.yml", "gpu-01")
        await site.printed(job_id, "begun")
        yield job_id


@pytest.mark.parametrize("playbook", ["sleep.yml", "stubborn.yml"])
async def test_cancel_in_the_middle_of_a_task_leaves_nothing(site: Site, playbook: str) -> None:
    await site.add_host("gpu-01")
    async with site.working():
        job_id = await site.start(playbook, "gpu-01")
        await site.printed(job_id, "begun")
        assert len(left_of(job_id)) > 3
        answer = await site.post(f"/v0/jobs/{job_id}/cancel")
        assert (answer["status"], answer["cancel_requested_at"] is not None) == ("running", True)
        job = await site.ended(job_id)
    assert (job["status"], job["reason"]) == ("cancelled", "Cancelled while it ran.")
    await nothing_left(site, job_id)
    assert (await site.post(f"/v0/jobs/{job_id}/cancel"))["status"] == "cancelled"


async def test_run_that_takes_too_long_is_ended(site: Site) -> None:
    await site.add_host("gpu-01")
    job_id = await site.start("sleep.yml", "gpu-01")
    async with site.database.control.write() as session:
        (await session.get_one(Job, job_id)).timeout_s = 3
    async with site.working():
        job = await site.ended(job_id)
    assert (job["status"], job["reason"]) == ("failed", "Took longer than 3 s and was ended.")
    await nothing_left(site, job_id)


async def runs_again(site: Site, job_id: str) -> None:
    async def second() -> bool:
        job = await site.job(job_id)
        begun = [event for event in await site.events(job_id) if "begun" in event["stdout"] and event["attempt"] == 2]
        return bool(job["attempt"] == 2 and begun)

    await until(second, f"the second attempt of {job_id}", 60)


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGSTOP])
async def test_supervisor_killed_or_frozen_takes_its_run_with_it_and_the_job_runs_again(
    site: Site, sleeping: str, signum: signal.Signals
) -> None:
    before = left_of(sleeping)
    supervisor = (await row(site, sleeping)).supervisor_pid
    assert supervisor in before
    os.kill(supervisor, signum)

    async def gone() -> bool:
        job = await site.job(sleeping)
        left = before & left_of(sleeping)  # asked afterwards: what is left now was there then
        given_on = (job["status"], job["attempt"]) != ("running", 1)
        assert not (left and given_on), "the locks are not given on before the run is over"
        return not left

    await until(gone, "the processes of the first attempt to be gone")
    await runs_again(site, sleeping)
    await site.post(f"/v0/jobs/{sleeping}/cancel")
    assert (await site.ended(sleeping))["status"] == "cancelled"
    await nothing_left(site, sleeping)


async def test_guard_and_supervisor_killed_together_leave_nothing_to_the_second_attempt(site: Site, sleeping: str) -> None:
    before = left_of(sleeping)
    supervisor = (await row(site, sleeping)).supervisor_pid
    assert supervisor
    guard = parent_of(supervisor)
    os.kill(guard, signal.SIGKILL)
    os.kill(supervisor, signal.SIGKILL)
    await runs_again(site, sleeping)
    assert not before & left_of(sleeping)


def secretive(site: Site, job_id: str) -> dict[int, str]:
    """Return the programs of a run that hold secrets: Ansible, with passwords and sessions, and the agent with the key."""
    marked = processes.marked("MUSTER_JOB_ID", job_id)
    found = {}
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            agent = "ssh-agent" in line and str(site.settings.run_dir) in line
            if agent or ("ansible-playbook" in line and int(entry.name) in marked):
                found[int(entry.name)] = line
    return found


@pytest.mark.parametrize(("worker_is_there", "first"), [(True, "guard"), (False, "supervisor")])
async def test_what_holds_a_secret_dies_with_guard_and_supervisor(
    site: Site, credential: tuple[str, str, str], worker_is_there: bool, first: str
) -> None:
    await site.add_host("gpu-01", credential_id=credential[0])
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(site.working(stop_jobs=worker_is_there))
        job_id = await site.start("sleep.yml", "gpu-01")
        await site.printed(job_id, "begun")
        if not worker_is_there:
            await stack.aclose()
        supervisor = (await row(site, job_id)).supervisor_pid
        assert supervisor
        pids = [parent_of(supervisor), supervisor]
        before = secretive(site, job_id)
        assert sorted({word for line in before.values() for word in ("ssh-agent", "ansible-playbook") if word in line}) == [
            "ansible-playbook",
            "ssh-agent",
        ]
        for pid in pids if first == "guard" else reversed(pids):
            os.kill(pid, signal.SIGKILL)

        async def gone() -> bool:
            return not secretive(site, job_id)

        try:
            await until(gone, "what holds secrets to be gone", 10)
            job = await site.job(job_id)
            assert (job["status"], job["attempt"]) == ("running", 1), "before any worker looks after lost runs"
        finally:
            processes.end_marked("MUSTER_JOB_ID", job_id, grace_s=1)


async def test_supervisor_told_to_end_gives_the_job_back_at_once_and_the_second_time_it_is_lost(
    site: Site, sleeping: str
) -> None:
    for attempt in (1, 2):
        if attempt == 2:
            await runs_again(site, sleeping)
        supervisor = (await row(site, sleeping)).supervisor_pid
        assert supervisor
        os.kill(supervisor, signal.SIGTERM)
    job = await site.ended(sleeping)
    assert (job["status"], job["attempt"], job["reason"]) == ("lost", 2, "its supervisor was told to end")
    await nothing_left(site, sleeping)


async def test_worker_killed_its_run_goes_on_to_the_end(site: Site) -> None:
    await site.add_host("gpu-01")
    worker = subprocess.Popen([sys.executable, "-m", "tests.automation.worker_process"], stdin=subprocess.PIPE, cwd=REPOSITORY)
    assert worker.stdin
    with worker.stdin as pipe:
        pipe.write(site.settings.model_dump_json().encode())
    job_id = await site.start("sleep.yml", "gpu-01", extra_vars={"demo_seconds": 4})
    await site.printed(job_id, "begun")
    worker.kill()
    worker.wait()
    job = await site.ended(job_id)
    assert (job["status"], job["attempt"]) == ("successful", 1)
    await nothing_left(site, job_id)


async def test_worker_that_ends_takes_runs_with_it_if_told_to_also_those_of_one_before(site: Site) -> None:
    await site.add_host("gpu-01")
    async with site.working(stop_jobs=False):
        job_id = await site.start("sleep.yml", "gpu-01")
        await site.printed(job_id, "begun")
    assert (await site.job(job_id))["status"] == "running"
    async with site.working(stop_jobs=True):
        assert (await site.ended(await site.start("verify.yml", "gpu-01")))["status"] == "successful"
        assert left_of(job_id)
    job = await site.job(job_id)
    assert (job["status"], job["waiting_for"]) == ("queued", "a worker")
    await nothing_left(site, job_id)


async def test_supervisor_that_dies_at_its_start_fails_the_job_at_once_with_the_reason(site: Site) -> None:
    await site.add_host("gpu-01")
    nowhere = site.settings.model_copy(update={"database_url": "sqlite+aiosqlite:////nowhere/control.db"})
    misled = Worker(nowhere, site.database, site.access, site.fleet, site.playbooks, wake=site.jobs.wake)
    async with owned_task(misled.run(), name="worker"):
        # At once, and not when the lease ends, which would give the job a second attempt and say nothing of this.
        job = await site.ended(await site.start("site.yml", "gpu-01"))
    assert (job["status"], job["attempt"]) == ("failed", 1)
    assert job["reason"].startswith("The supervisor died at its start: ")
    assert "unable to open database file" in job["reason"]
    await nothing_left(site, job["id"])


async def test_fork_server_that_is_killed_is_replaced(site: Site) -> None:
    await site.add_host("gpu-01")
    async with site.working():
        for _ in range(2):
            assert (await site.ended(await site.start("site.yml", "gpu-01")))["status"] == "successful"
            (server,) = processes.children(os.getpid()) & processes.holding("cmdline", PLACEHOLDER)
            os.kill(server, signal.SIGKILL)
    assert not processes.holding("cmdline", PLACEHOLDER) & processes.children(os.getpid())
