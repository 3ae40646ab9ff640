"""A real worker whose runs are brief: ``python -m tests.automation.brief_worker DIRECTORY < settings.json``.

A run says in DIRECTORY when it enters a host and when it leaves it, and writes down that it was.
"""

import asyncio
import random
import sys
from datetime import UTC, datetime
from pathlib import Path

from control_api.automation import outcome
from control_api.automation.launcher import Launcher
from control_api.automation.models import Job
from control_api.automation.order import RunOrder
from control_api.automation.outcome import Outcome
from control_api.automation.states import JobStatus
from control_api.kit.database import Database
from control_api.settings import Settings
from tests.automation.markers import Markers, append
from tests.automation.site import open_site


class BriefRuns(Launcher):
    """Runs orders in this process."""

    def __init__(self, ended: asyncio.Event, database: Database, directory: Path) -> None:
        super().__init__(ended)
        self._database = database
        self._directory = directory

    async def prepare(self) -> None:
        """There is nothing to load."""

    async def launch(self, order: RunOrder) -> None:
        """Begin a run."""
        self.own(asyncio.create_task(self._run(order)))

    async def _run(self, order: RunOrder) -> None:
        append(self._directory / "runs", f"{order.job_id} {order.attempt} {order.fence}")
        markers = Markers(self._directory, order.job_id, await self._lease_until(order))
        hosts = [host.name for host in order.inventory.hosts]
        for host in hosts:
            markers.enter(host)
        await asyncio.sleep(random.uniform(0.01, 0.08))
        for host in hosts:
            markers.leave(host)
        recap = {host: {"ok": 1} for host in hosts}
        result = Outcome(JobStatus.SUCCESSFUL, None, 0, recap, 0)
        async with self._database.control.write() as session:
            if not await outcome.finish(session, order.job_id, order.attempt, order.leaves, result):
                markers.violated(f"{order.job_id} was given up while it ran")

    async def _lease_until(self, order: RunOrder) -> datetime:
        async with self._database.control.read() as session:
            job = await session.get_one(Job, order.job_id)
        return job.lease_until if job.attempt == order.attempt and job.lease_until else datetime.min.replace(tzinfo=UTC)


async def main() -> None:
    """Work until killed."""
    async with open_site(Settings.model_validate_json(sys.stdin.read()), new=False) as site:
        await site.worker(launcher=BriefRuns(site.jobs.wake, site.database, Path(sys.argv[1]))).run()


if __name__ == "__main__":
    asyncio.run(main())
