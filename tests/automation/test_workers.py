"""Several workers on one PostgreSQL, one of them killed in the middle."""

import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlmodel import col, func, select

from control_api.access.principal import SCHEDULE
from control_api.automation.models import HostLock, Job
from control_api.automation.schemas import JobCreate
from control_api.automation.states import JobStatus
from control_api.kit.clock import utcnow
from control_api.settings import Settings
from tests.automation.markers import VIOLATIONS, Markers
from tests.automation.site import REPOSITORY, Site, open_site, until

pytestmark = pytest.mark.anyio

HOSTS, JOBS, WORKERS = 20, 200, 3


@contextmanager
def workers(settings: Settings, directory: Path) -> Iterator[list[subprocess.Popen[str]]]:
    """Run worker processes; those that live are killed at the end."""
    command = [sys.executable, "-m", "tests.automation.brief_worker", str(directory)]
    with (directory / "log").open("w") as log:
        started = [
            subprocess.Popen(command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=log, stderr=log, text=True)
            for _ in range(WORKERS)
        ]
    try:
        for process in started:
            assert process.stdin
            with process.stdin as pipe:
                pipe.write(settings.model_dump_json())
        yield started
    finally:
        for process in started:
            process.kill()
            process.wait(10)


async def queue(site: Site) -> None:
    """Queue jobs of one to three hosts, of two priorities."""
    names = [(await site.add_host(f"gpu-{number:02}")).name for number in range(HOSTS)]
    choose = random.Random(7)
    async with site.database.control.write() as session:
        for _ in range(JOBS):
            hosts = choose.sample(names, choose.randint(1, 3))
            wanted = JobCreate(playbook="sleep.yml", hosts=hosts, priority=choose.choice([0, 5]))
            await site.jobs.create(session, wanted, SCHEDULE)


async def ended(site: Site) -> int:
    async with site.database.control.read() as session:
        final = [status for status in JobStatus if status.is_final]
        return int((await session.exec(select(func.count()).where(col(Job.status).in_(final)))).one())


async def at_work(site: Site) -> int:
    """Return how many workers have claimed a job."""
    async with site.database.control.read() as session:
        return int((await session.exec(select(func.count(func.distinct(Job.worker))))).one())


@pytest.mark.slow
async def test_three_workers_run_every_job_and_touch_no_host_twice_at_once(
    settings: Settings, postgres_url: str, tmp_path: Path
) -> None:
    # Long enough for a run on a busy machine, short enough to wait for what the killed worker had.
    lease = {"lease_renew_s": 1, "lease_term_s": 4, "lease_kill_s": 6, "lease_reusable_s": 10}
    settings = settings.model_copy(update={"database_url": postgres_url, **lease})
    directory = tmp_path / "runs"
    directory.mkdir()
    async with open_site(settings) as site:
        await queue(site)
        with workers(settings, directory) as started:

            async def in_full_swing() -> bool:
                done = await ended(site)
                # On a busy machine one may come late: then half of the jobs is late enough to kill one.
                return done >= JOBS // 2 or (done >= JOBS // 4 and await at_work(site) == WORKERS)

            await until(in_full_swing, "a quarter of the jobs, and every worker at work", 240)
            started[0].kill()

            async def all_ended() -> bool:
                return await ended(site) == JOBS

            await until(all_ended, "all jobs", 240)
            assert [process.poll() for process in started[1:]] == [None, None]
        async with site.database.control.read() as session:
            jobs = (await session.exec(select(Job))).all()
            assert (await session.exec(select(HostLock))).all() == []
    log = (directory / "log").read_text()
    violations = directory / VIOLATIONS
    assert not violations.exists(), violations.read_text()
    assert {job.status for job in jobs} == {JobStatus.SUCCESSFUL}
    runs = [line.split() for line in (directory / "runs").read_text().splitlines()]
    assert max(Counter((job_id, attempt) for job_id, attempt, _ in runs).values()) == 1, "no attempt ran twice"
    assert {job_id for job_id, *_ in runs} == {job.id for job in jobs}
    assert len({fence for *_, fence in runs}) == len(runs), "each run has a number of its own"
    assert len({job.worker for job in jobs}) >= WORKERS - 1, log


LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


def test_a_run_killed_between_any_two_steps_is_no_violation(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "tests.automation.killed_runs", str(tmp_path)], cwd=REPOSITORY, check=True, timeout=60
    )
    left = sorted(tmp_path.iterdir(), key=lambda directory: int(directory.name))
    assert len(left) > 5
    for directory in left:
        later = Markers(directory, "later", utcnow() + timedelta(minutes=1))
        later.enter("gpu-01")
        later.leave("gpu-01")
        violations = directory / VIOLATIONS
        assert not violations.exists(), f"killed before step {directory.name}: {violations.read_text()}"


def test_a_host_that_is_anothers_is_a_violation_and_one_who_came_too_late_accuses_nobody(tmp_path: Path) -> None:
    lease = utcnow() + timedelta(minutes=1)
    first, second, late = (Markers(tmp_path, *run) for run in (("first", lease), ("second", lease), ("late", LONG_AGO)))
    first.enter("gpu-01")
    late.enter("gpu-01")
    late.leave("gpu-01")
    first.leave("gpu-01")
    assert not (tmp_path / VIOLATIONS).exists()
    first.enter("gpu-01")
    second.enter("gpu-01")
    first.leave("gpu-01")
    second.leave("gpu-01")
    met, gone = (tmp_path / VIOLATIONS).read_text().splitlines()
    assert met.startswith("second met first ")
    assert gone.startswith("second met None ")
