"""Drift: whether hosts still are what the playbooks made of them. Checked when asked for, and now and then."""

import asyncio
import time
from collections.abc import Sequence

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel.ext.asyncio.session import AsyncSession

from control_api.access.principal import SCHEDULE, Principal
from control_api.automation import checks, repository
from control_api.automation.models import HostDrift, Job
from control_api.automation.schemas import OWN_KEYS, DriftApply, HostDriftOut, HostsIn, JobCreate, JobHostOut, TaskFinding
from control_api.automation.service import JobService
from control_api.automation.states import HostStatus, JobPurpose
from control_api.errors import Conflict, MusterError
from control_api.fleet import repository as fleet
from control_api.fleet.models import Host
from control_api.kit.database import Store

log = structlog.get_logger()

# Machine and node service, without models.
PLAYBOOK = "converge.yml"
_LOOK_EVERY_S = 60.0


class DriftService:
    """Starts checks and shows what they found."""

    def __init__(self, jobs: JobService) -> None:
        self._jobs = jobs

    async def check(self, session: AsyncSession, wanted: HostsIn, by: Principal, *, idempotency_key: str | None = None) -> Job:
        """Queue a check run; ``idempotency_key`` is Muster's own. Raises ``BadInput`` if there is no host."""
        hosts = await self._jobs.hosts_in_service(session, wanted.hosts)
        job = JobCreate(playbook=PLAYBOOK, hosts=hosts, check=True).model_copy(update={"idempotency_key": idempotency_key})
        return await self._jobs.create(session, job, by, purpose=JobPurpose.DRIFT)

    async def checkable(self, session: AsyncSession) -> list[str]:
        """Return ids of the hosts in service, without those whose variables no run may have: they keep no other from it."""
        hosts = await fleet.hosts_by_reference(session, await self._jobs.hosts_in_service(session, None))
        refused = await self._jobs.playbooks.gate.refused({}, hosts)
        for name, why in refused.items():
            log.warning("drift.host_left_out", host=name, why=why.message)
        return [host.id for host in hosts if host.name not in refused]

    async def apply(self, session: AsyncSession, wanted: DriftApply, by: Principal) -> Job:
        """Queue a run on those of the hosts that had drifted at their latest check. Raises ``Conflict`` if none had."""
        drifted = await checks.drifted_ids(session, await self._jobs.hosts_in_service(session, wanted.hosts))
        if not drifted:
            raise Conflict("None of the hosts has drifted.", code="nothing_drifted", hint="Check again: `muster drift check`.")
        return await self._jobs.create(session, JobCreate(playbook=PLAYBOOK, hosts=drifted, tags=wanted.tags), by)

    async def show(self, session: AsyncSession, hosts: Sequence[Host]) -> list[HostDriftOut]:
        """Return what is known of hosts."""
        found = await checks.drift_of(session, [host.id for host in hosts])
        return [self._out(host, found) for host in hosts]

    def _out(self, host: Host, found: dict[str, HostDrift]) -> HostDriftOut:
        who = JobHostOut(id=host.id, name=host.name)
        if not (drift := found.get(host.id)):
            nothing = "It was never checked." if host.accepted_at else "No admin has accepted it yet."
            return HostDriftOut(host=who, status=HostStatus.UNKNOWN, reason=nothing, checked_at=None, job_id=None, tasks=[])
        tasks = [TaskFinding.model_validate(task) for task in drift.tasks]
        values = drift.model_dump(include={"status", "reason", "checked_at", "job_id"})
        return HostDriftOut(host=who, tasks=tasks, **values)


class DriftSchedule:
    """Checks all hosts at intervals. Any number of processes may run one: each interval has one job.

    Parameters
    ----------
    interval_s: 0: never.
    """

    def __init__(self, store: Store, drift: DriftService, interval_s: int) -> None:
        self._store = store
        self._drift = drift
        self._interval_s = interval_s

    async def run(self) -> None:
        """Queue a check whenever one is due, until cancelled."""
        while self._interval_s:
            try:
                await self.turn(time.time())
            except (SQLAlchemyError, OSError, MusterError) as error:
                log.warning("drift.not_scheduled", error=str(error))
            await asyncio.sleep(min(_LOOK_EVERY_S, self._interval_s))

    async def turn(self, now_s: float) -> None:
        """Queue the check of the interval that ``now_s`` is in, unless that was done or one is open.

        Parameters
        ----------
        now_s: seconds since the epoch.
        """
        key = f"{OWN_KEYS}drift-{self._interval_s}-{int(now_s // self._interval_s)}"
        async with self._store.write() as session:
            if await repository.job_by_key(session, key) or await checks.has_open(session, JobPurpose.DRIFT):
                return
            if hosts := await self._drift.checkable(session):
                await self._drift.check(session, HostsIn(hosts=hosts), SCHEDULE, idempotency_key=key)
