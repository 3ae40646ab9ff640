"""What is removed by age, and what stays."""

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import select

from control_api.automation import repository
from control_api.automation.janitor import BATCH, FOREIGN_S, LEFT_S, LOG_S, Janitor
from control_api.automation.models import Job, JobEvent, JobHost
from control_api.automation.states import JobStatus
from control_api.kit.database import Database
from control_api.kit.ids import first_id_at, new_id
from control_api.settings import Settings

pytestmark = pytest.mark.anyio

NOW = datetime.now(UTC)


def janitor(settings: Settings, database: Database, run_dir: Path) -> Janitor:
    return Janitor(settings, database, run_dir)


async def add_job(database: Database, days_old: float, status: JobStatus = JobStatus.SUCCESSFUL, events: int = 3) -> str:
    job_id = first_id_at(NOW - timedelta(days=days_old))
    async with database.control.write() as session:
        session.add(Job(id=job_id, playbook="site.yml", requested_by="tests", status=status, attempt=1))
        await session.flush()
        session.add(JobHost(job_id=job_id, host_id="h", name="h"))
    event = {"job_id": job_id, "attempt": 1, "event": "runner_on_ok", "host": None, "play": None, "role": None, "task": None}
    # Its time is what a run from CI said of itself, and nothing goes by it.
    rows = [event | {"counter": n, "at": NOW + timedelta(days=900), "status": None, "duration_s": None} for n in range(events)]
    async with database.telemetry.write() as session:
        await repository.add_events(session, [row | {"stdout": "", "diff": None} for row in rows])
    return job_id


async def stored(database: Database, column: Any) -> set[str]:
    store = database.telemetry if column.class_ is JobEvent else database.control
    async with store.read() as session:
        return set((await session.exec(select(column))).all())


async def test_events_and_jobs_go_by_age_and_those_of_open_jobs_stay(
    settings: Settings, database: Database, run_dir: Path
) -> None:
    days = settings.keep_events_days
    young, old = await add_job(database, days - 1), await add_job(database, days + 1, events=BATCH + 1)
    running = await add_job(database, days + 2, JobStatus.RUNNING)
    ancient = await add_job(database, settings.keep_jobs_days + 1)
    waiting = await add_job(database, settings.keep_jobs_days + 2, JobStatus.QUEUED)
    await janitor(settings, database, run_dir).sweep()
    assert await stored(database, JobEvent.job_id) == {young, running, waiting}
    assert await stored(database, Job.id) == await stored(database, JobHost.job_id) == {young, old, running, waiting}
    assert ancient not in await stored(database, Job.id)


async def test_directories_of_runs_that_are_over_go(settings: Settings, database: Database, run_dir: Path) -> None:
    ended, running = await add_job(database, 0.5), await add_job(database, 1, JobStatus.RUNNING)
    ages_s = {
        f"{ended}-1": LEFT_S + 60,
        f"{running}-0": LEFT_S + 60,
        f"{new_id()}-1": FOREIGN_S + 60,
        f"{ended}-1.log": LOG_S + 60,
    }
    stay_s = {
        f"{ended}-2": LEFT_S - 60,
        f"{running}-1": LEFT_S + 60,
        f"{new_id()}-1": FOREIGN_S - 60,
        f"{running}-1.log": LOG_S - 60,
        "something": FOREIGN_S + 60,
    }
    for name, age_s in (ages_s | stay_s).items():
        path = run_dir / name
        if name.endswith(".log"):
            path.touch()
        else:
            path.mkdir()
            (path / "token").write_text("secret")
        os.utime(path, (time.time() - age_s,) * 2)
    await janitor(settings, database, run_dir).sweep()
    assert {path.name for path in run_dir.iterdir()} == set(stay_s)


async def test_ids_sort_by_the_time_they_were_made() -> None:
    before, made, after = first_id_at(NOW - timedelta(days=1)), new_id(), first_id_at(NOW + timedelta(days=1))
    assert before < made < after
