"""Workers: claim jobs, start a supervisor for each, and give up those that lost theirs. Any number of them, anywhere."""

import asyncio
import os
import socket

import structlog
from sqlalchemy.exc import SQLAlchemyError

from control_api.automation import outcome, repository
from control_api.automation.janitor import Janitor
from control_api.automation.launcher import Launcher
from control_api.automation.models import Job, JobInventory
from control_api.automation.order import RunOrder
from control_api.automation.orders import OrderDesk, TokenIssuer, lease_s, run_root
from control_api.automation.outcome import Outcome
from control_api.automation.playbooks import PlaybookCatalogue
from control_api.automation.presence import Presence
from control_api.automation.states import JobStatus
from control_api.automation.supervisor import processes
from control_api.fleet.service import FleetService
from control_api.kit.database import Database
from control_api.kit.tasks import owned_task
from control_api.settings import Settings

log = structlog.get_logger()

# A job that was queued in this process is seen at once; one that another process queued, so soon.
POLL_S = 0.4
# Runs at the same time per worker: each is an Ansible with its forks, some 150 MB.
CAPACITY = 8
_LEFTOVER_GRACE_S = 5.0
# What a run may take to end: its grace, and seeing to its hosts.
_END_S = 50.0


class Worker:
    """Claims jobs for this machine.

    Parameters
    ----------
    wake: set when a job was queued in this process.
    launcher: starts the supervisors; by default as processes on this machine.
    stop_jobs: end the runs started here when the worker ends, as ``muster up`` does; otherwise they outlive it.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        access: TokenIssuer,
        fleet: FleetService,
        playbooks: PlaybookCatalogue,
        *,
        wake: asyncio.Event | None = None,
        launcher: Launcher | None = None,
        stop_jobs: bool = False,
    ) -> None:
        self._settings = settings
        self._database = database
        self._desk = OrderDesk(settings, access, fleet, playbooks)
        self._playbooks = playbooks
        self._wake = wake or asyncio.Event()
        self._stop_jobs = stop_jobs
        self._launcher = launcher or Launcher(self._wake, self._stillborn)
        self._janitor = Janitor(settings, database, run_root(settings))
        self._name = f"{socket.gethostname()}:{os.getpid()}"
        self._presence = Presence(database.control, self._name)

    async def run(self) -> None:
        """Work until cancelled. A store that is away is tried again at the next turn."""
        await self._launcher.prepare()
        try:
            async with owned_task(self._janitor.run(), name="janitor"), owned_task(self._presence.run(), name="presence"):
                await self._work()
        finally:
            if self._stop_jobs:
                await self._end_runs()
            await self._launcher.let_go()

    async def _work(self) -> None:
        while True:
            try:
                await self._turn()
            except (SQLAlchemyError, OSError) as error:
                log.warning("worker.store_unavailable", error=str(error))
            await self._rest()

    async def _rest(self) -> None:
        try:
            await asyncio.wait_for(self._wake.wait(), POLL_S)
        except TimeoutError:
            return
        self._wake.clear()

    async def _end_runs(self) -> None:
        """End all runs on this machine, also those of a worker before us that was killed. Their jobs are queued again."""
        async with self._database.control.read() as session:
            job_ids = await repository.running_on(session, f"{socket.gethostname()}:")
        await asyncio.gather(*(asyncio.to_thread(processes.ask_to_end, job_id, limit_s=_END_S) for job_id in job_ids))

    async def _turn(self) -> None:
        await self._give_up_expired()
        async with self._database.control.read() as session:
            if not await repository.any_queued(session):
                return
        while self._launcher.running < CAPACITY:
            async with self._database.control.write() as session:
                job = await repository.claim(session, self._name, lease_s(self._settings))
                if not job:
                    return
                await outcome.begin(session, job, self._playbooks.leaves(job.playbook))
            await self._start(job)

    async def _start(self, job: Job) -> None:
        log.info("job.claimed", job_id=job.id, playbook=job.playbook, attempt=job.attempt)
        try:
            async with self._database.control.write() as session:
                order = await self._desk.make(session, job)
                snapshot = order.inventory.model_dump(mode="json")
                await session.merge(JobInventory(job_id=job.id, attempt=job.attempt, snapshot=snapshot))
            await self._launcher.launch(await self._desk.checked(order))
        except Exception as error:  # Any: one job that cannot be started must not keep the worker from the others.
            log.error("job.not_started", job_id=job.id, exc_info=error)
            failed = Outcome(JobStatus.FAILED, f"The run could not be started: {error}")
            async with self._database.control.write() as session:
                await outcome.finish(session, job.id, job.attempt, self._playbooks.leaves(job.playbook), failed)

    async def _stillborn(self, order: RunOrder, said: str) -> None:
        """End a job whose supervisor died before it had begun: it would again. One that had begun has a lease to wait for."""
        # Of a traceback, the line that names the error: neither code nor a reference to documentation.
        lines = [line for line in said.splitlines() if line and line[0] not in " ("]
        reason = f"The supervisor died at its start: {lines[-1] if lines else 'it said nothing'}"
        async with self._database.control.write() as session:
            job = await repository.get_job(session, order.job_id)
            if job and job.supervisor_pid is None:
                await outcome.finish(session, job.id, order.attempt, order.leaves, Outcome(JobStatus.FAILED, reason))

    async def _give_up_expired(self) -> None:
        async with self._database.control.read() as session:
            job_ids = await repository.expired_ids(session)
        if not job_ids:
            return
        for job_id in job_ids:
            await self._end_leftovers(job_id)
        async with self._database.control.write() as session:
            for job in await repository.expired(session, job_ids):
                log.warning("job.lost", job_id=job.id, attempt=job.attempt, worker=job.worker)
                who = "the run stopped reporting" if job.external else "its supervisor did not renew its lease"
                await outcome.give_up(session, job, self._playbooks.leaves(job.playbook), who)

    async def _end_leftovers(self, job_id: str) -> None:
        """End what is left of a run on this machine, in case its guard was killed too; elsewhere there is nothing to find."""
        left = await asyncio.to_thread(processes.end_marked, "MUSTER_JOB_ID", job_id, grace_s=_LEFTOVER_GRACE_S)
        if left:
            log.error("job.processes_left", job_id=job_id, pids=sorted(left))
