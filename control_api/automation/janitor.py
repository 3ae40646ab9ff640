"""Removes what runs leave behind: directories of killed runs, events and jobs that are older than the site keeps them."""

import asyncio
import shutil
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog
from sqlalchemy.exc import SQLAlchemyError

from control_api.automation import history, repository
from control_api.automation.states import JobStatus
from control_api.kit.database import Database
from control_api.kit.ids import first_id_at
from control_api.settings import Settings

log = structlog.get_logger()

EVERY_S = 3600.0
# Rows of one transaction, so that nobody waits long for SQLite's writer.
BATCH = 500
# A guard removes its run's directory itself; so long after a run has ended there is none that still will.
LEFT_S = 600
# Directories of jobs that this store does not know may be of another control plane of the same user: no job lasts so long.
FOREIGN_S = 8 * 86400
LOG_S = 7 * 86400


class Janitor:
    """Cleans up now and then.

    Parameters
    ----------
    run_root: the directory of run directories on this machine.
    """

    def __init__(self, settings: Settings, database: Database, run_root: Path) -> None:
        self._keep_events_days = settings.keep_events_days
        self._keep_jobs_days = settings.keep_jobs_days
        self._database = database
        self._run_root = run_root

    async def run(self) -> None:
        """Clean up every hour, until cancelled. A store that is away is tried again at the next turn."""
        while True:
            try:
                await self.sweep()
            except (SQLAlchemyError, OSError) as error:
                log.warning("janitor.store_unavailable", error=str(error))
            await asyncio.sleep(EVERY_S)

    async def sweep(self) -> None:
        """Clean up once."""
        await self._remove_files()
        await self._remove_events()
        await self._remove_jobs()

    async def _remove_files(self) -> None:
        for path in await asyncio.to_thread(lambda: list(self._run_root.iterdir())):
            if await self._is_waste(path):
                log.info("janitor.removed", path=str(path))
                await asyncio.to_thread(_remove, path)

    async def _is_waste(self, path: Path) -> bool:
        age_s = _age_s(path)
        if path.suffix == ".log":
            return age_s > LOG_S
        job_id, _, attempt = path.name.rpartition("-")
        if age_s <= LEFT_S or not path.is_dir() or not attempt.isdigit():
            return False
        async with self._database.control.read() as session:
            job = await repository.get_job(session, job_id)
        if not job:
            return age_s > FOREIGN_S
        return job.status != JobStatus.RUNNING or job.attempt != int(attempt)

    async def _remove_events(self) -> None:
        before = _first_id(self._keep_events_days)
        async with self._database.control.read() as session:
            still_open = await repository.open_ids(session, before)
        while True:
            async with self._database.telemetry.write() as session:
                if await history.delete_events(session, before, still_open, BATCH) < BATCH:
                    return

    async def _remove_jobs(self) -> None:
        while True:
            async with self._database.control.write() as session:
                if await repository.delete_jobs(session, _first_id(self._keep_jobs_days), BATCH) < BATCH:
                    return


def _first_id(days: int) -> str:
    return first_id_at(datetime.now(UTC) - timedelta(days=days))


def _age_s(path: Path) -> float:
    try:
        return time.time() - path.lstat().st_mtime
    except FileNotFoundError:
        return 0.0


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
