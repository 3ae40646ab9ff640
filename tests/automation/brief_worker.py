"""A real worker whose runs are brief: ``python -m tests.automation.brief_worker DIRECTORY < settings.json``.

A run says in DIRECTORY when it enters a host and when it leaves it, by a file that only one can make; and writes down that it
was. So what went wrong between any number of such processes is seen in the files.
"""

import asyncio
import os
import random
import sys
from pathlib import Path

from control_api.automation import outcome
from control_api.automation.launcher import Launcher
from control_api.automation.order import RunOrder
from control_api.automation.outcome import Outcome
from control_api.automation.states import JobStatus
from control_api.kit.database import Database
from control_api.settings import Settings
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
        self._write("runs", f"{order.job_id} {order.attempt} {order.fence}")
        for host in order.inventory.hosts:
            self._enter(host.name, order)
        await asyncio.sleep(random.uniform(0.01, 0.08))
        for host in order.inventory.hosts:
            (self._directory / f"host-{host.name}").unlink()
        recap = {host.name: {"ok": 1} for host in order.inventory.hosts}
        result = Outcome(JobStatus.SUCCESSFUL, None, 0, recap, 0)
        async with self._database.control.write() as session:
            if not await outcome.finish(session, order.job_id, order.attempt, order.leaves, result):
                self._write("violations", f"{order.job_id} was given up while it ran")

    def _enter(self, host: str, order: RunOrder) -> None:
        path = self._directory / f"host-{host}"
        if path.exists() and order.attempt > 1 and path.read_text() == order.job_id:
            path.unlink()
        try:
            with path.open("x") as file:
                file.write(order.job_id)
        except FileExistsError:
            self._write("violations", f"{order.job_id} met {path.read_text()} on {host}")

    def _write(self, name: str, line: str) -> None:
        descriptor = os.open(self._directory / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, f"{line}\n".encode())
        os.close(descriptor)


async def main() -> None:
    """Work until killed."""
    async with open_site(Settings.model_validate_json(sys.stdin.read()), new=False) as site:
        await site.worker(launcher=BriefRuns(site.jobs.wake, site.database, Path(sys.argv[1]))).run()


if __name__ == "__main__":
    asyncio.run(main())
