"""Rules of jobs: who may start what on which hosts, and what can be done to a job afterwards."""

import asyncio
from collections.abc import Collection, Sequence
from datetime import timedelta

from sqlalchemy import event
from sqlalchemy.exc import IntegrityError
from sqlmodel.ext.asyncio.session import AsyncSession

from control_api.access.principal import Principal
from control_api.automation import history, repository
from control_api.automation.models import Job, JobHost, JobInventory
from control_api.automation.outcome import publish_job
from control_api.automation.playbooks import PlaybookCatalogue
from control_api.automation.schemas import EventsOut, JobCreate, JobDetail, JobHostOut, JobOut, SlowTask
from control_api.automation.states import JobPurpose, JobStatus
from control_api.errors import BadInput, Conflict, NotFound
from control_api.fleet import acceptance, holds
from control_api.fleet.schemas import InventoryOut
from control_api.fleet.service import FleetService
from control_api.fleet.states import HostState
from control_api.kit.clock import db_now, utcnow
from control_api.kit.ids import first_id_at
from control_api.settings import Settings

_COPIED = {"id", "playbook", "extra_vars", "tags", "check", "external", "status", "reason", "attempt", "rc", "priority",
           "timeout_s", "retry_of", "requested_by", "created_at", "started_at", "finished_at", "cancel_requested_at", "recap",
           "ansible_version", "playbook_revision", "task_timeout_s", "fence", "purpose"}  # fmt: skip

SLOWEST_TASKS = 10


class JobService:
    """Creates, shows, cancels and repeats jobs.

    Attributes
    ----------
    wake: set when a job was queued, so that a worker in the same process need not wait for its next look.
    """

    def __init__(self, settings: Settings, fleet: FleetService, playbooks: PlaybookCatalogue) -> None:
        self._settings = settings
        self._fleet = fleet
        self.playbooks = playbooks
        self.wake = asyncio.Event()

    async def create(
        self,
        session: AsyncSession,
        wanted: JobCreate,
        by: Principal,
        *,
        retry_of: str | None = None,
        purpose: JobPurpose = JobPurpose.RUN,
    ) -> Job:
        """Queue a job and return it; with an idempotency key that is known, return the job that it made.

        A check for drift takes no locks, since it covers whole fleets: where something else ran meanwhile it says nothing.
        It runs as what ``by`` asks for now, whoever asked for the like before.

        Raises ``NotFound`` for a playbook or host that does not exist, ``BadInput`` for variables that may not be set, and
        ``Forbidden`` for those that are not this caller's to set.
        """
        playbook = self.playbooks.get(wanted.playbook)
        await self.playbooks.gate.job_asked(wanted.extra_vars, await self._fleet.resolve_hosts(session, wanted.hosts), by)
        self.playbooks.check_tags(wanted.tags)
        job = Job(
            **wanted.model_dump(exclude={"hosts", "timeout_s", "external"}),
            timeout_s=wanted.timeout_s or self._settings.job_timeout_s,
            locks_hosts=playbook.locks_hosts and purpose != JobPurpose.DRIFT,
            purpose=purpose,
            requested_by=by.label,
            asker=by.asker,
            retry_of=retry_of,
        )
        stored = await self.store(session, job, wanted.hosts)
        if stored is job:
            publish_job(session, job.id, job.playbook, job.status)
            event.listen(session.sync_session, "after_commit", lambda _: self.wake.set(), once=True)
        return stored

    async def hosts_in_service(self, session: AsyncSession, references: Collection[str] | None) -> list[str]:
        """Return ids of hosts given by name or id; None: of all that are accepted and not decommissioned."""
        if references is not None:
            return [host.id for host in await self._fleet.resolve_hosts(session, references)]
        hosts = (await self._fleet.inventory(session, None)).hosts
        return [host.id for host in hosts if host.state != HostState.DECOMMISSIONED]

    async def store(self, session: AsyncSession, job: Job, references: Collection[str]) -> Job:
        """Insert a job for hosts given by name or id; or return the one that its idempotency key made before.

        Raises ``Conflict`` if one of them is only proposed.
        """
        hosts = await self._fleet.resolve_hosts(session, references)
        acceptance.check_accepted(hosts)
        if not hosts:
            raise BadInput(
                "hosts: name at least one host.",
                code="no_hosts",
                hint="Hosts that no admin has accepted yet do not count: `muster hosts list`.",
                details=[{"field": "hosts", "message": "is empty"}],
            )
        try:
            async with session.begin_nested():
                session.add(job)
                await session.flush()
        except IntegrityError:
            return await self._same(session, job, {host.id for host in hosts})
        session.add_all(JobHost(job_id=job.id, host_id=host.id, name=host.name) for host in hosts)
        await session.flush()
        return job

    async def _same(self, session: AsyncSession, job: Job, host_ids: set[str]) -> Job:
        known = await repository.job_by_key(session, job.idempotency_key or "")
        if not known:
            raise Conflict("The job could not be stored.", code="job_not_stored")
        known_ids = {host.host_id for host in (await repository.hosts_of(session, [known.id]))[known.id]}
        same = ("playbook", "extra_vars", "tags", "check", "external", "asker")
        if known_ids != host_ids or any(getattr(known, name) != getattr(job, name) for name in same):
            raise Conflict(
                f"The idempotency key {job.idempotency_key!r} was used for another job.",
                code="idempotency_key_reused",
                details={"job_id": known.id},
            )
        return known

    async def get(self, session: AsyncSession, job_id: str) -> Job:
        """Return a job. Raises ``NotFound``."""
        if not (job := await repository.get_job(session, job_id)):
            raise NotFound(f"No job {job_id!r}.", code="unknown_job", hint="`muster jobs` lists them.")
        return job

    async def cancel(self, session: AsyncSession, job_id: str) -> Job:
        """Cancel a job: at once if it waits; a running one is told to stop, which takes some seconds."""
        job = await self.get(session, job_id)
        if job.external:
            raise Conflict("This run was not started by Muster: stop it where it runs.", code="job_external")
        if job.status.is_final and job.status != JobStatus.CANCELLED:
            raise Conflict(f"The job has ended already: {job.status}.", code="job_ended")
        values = {"status": JobStatus.CANCELLED, "reason": "Cancelled before it started.", "finished_at": db_now()}
        if await repository.update_queued(session, job_id, cancel_requested_at=db_now(), **values):
            # Its first attempt may have left some.
            await holds.end_of_job(session, job_id)
            publish_job(session, job_id, job.playbook, JobStatus.CANCELLED)
        elif not job.cancel_requested_at:
            await repository.update_running(session, job_id, job.attempt, cancel_requested_at=db_now())
        await session.refresh(job)
        return job

    async def retry(self, session: AsyncSession, job_id: str, by: Principal) -> Job:
        """Queue a job that has ended once more, as this caller's; if some of its hosts failed, for those only.

        Raises ``Forbidden`` if it was given variables that this caller may not give.
        """
        job = await self.get(session, job_id)
        if job.external:
            raise Conflict("This run was not started by Muster: repeat it where it ran.", code="job_external")
        if not job.status.is_final:
            raise Conflict(f"The job has not ended: it is {job.status}.", code="job_not_ended")
        hosts = (await repository.hosts_of(session, [job_id]))[job_id]
        bad = {name for name, counts in job.recap.items() if counts.get("failed") or counts.get("unreachable")}
        again = [host.host_id for host in hosts if host.name in bad] or [host.host_id for host in hosts]
        wanted = JobCreate(
            playbook=job.playbook,
            hosts=again,
            extra_vars=job.extra_vars,
            tags=job.tags,
            check=job.check,
            priority=job.priority,
            timeout_s=job.timeout_s,
            task_timeout_s=job.task_timeout_s,
        )
        purpose = JobPurpose.DRIFT if job.purpose == JobPurpose.DRIFT else JobPurpose.RUN
        return await self.create(session, wanted, by, retry_of=job_id, purpose=purpose)

    async def out(self, session: AsyncSession, telemetry: AsyncSession, jobs: Sequence[Job]) -> list[JobOut]:
        """Return jobs as callers see them."""
        hosts = await repository.hosts_of(session, [job.id for job in jobs])
        stored = await history.count_events(telemetry, jobs)
        kept_since = first_id_at(utcnow() - timedelta(days=self._settings.keep_events_days))
        return [
            JobOut(
                **job.model_dump(include=_COPIED),
                hosts=[JobHostOut(id=host.host_id, name=host.name) for host in hosts[job.id]],
                waiting_for=await self._waiting_for(session, job, hosts[job.id]),
                events=EventsOut(stored=stored[job.id], expected=job.events_expected if job.id >= kept_since else None),
            )
            for job in jobs
        ]

    async def detail(self, session: AsyncSession, telemetry: AsyncSession, job: Job) -> JobDetail:
        """Return a job with what its events tell."""
        (out,) = await self.out(session, telemetry, [job])
        slowest = [SlowTask.model_validate(row) for row in await history.slowest_tasks(telemetry, job, SLOWEST_TASKS)]
        return JobDetail(**out.model_dump(), slowest_tasks=slowest)

    async def inventory(self, session: AsyncSession, job_id: str) -> InventoryOut:
        """Return the inventory that a job ran with. Raises ``NotFound`` if it has none."""
        job = await self.get(session, job_id)
        if not (stored := await session.get(JobInventory, job_id)):
            why = "A run from elsewhere has an inventory of its own." if job.external else "The job has not started."
            raise NotFound(why, code="no_inventory")
        return InventoryOut.model_validate(stored.snapshot)

    async def _waiting_for(self, session: AsyncSession, job: Job, hosts: Sequence[JobHost]) -> str | None:
        if job.status != JobStatus.QUEUED:
            return None
        found = await repository.blockers(session, [host.host_id for host in hosts], job) if job.locks_hosts else []
        if not found:
            return "a worker"
        names = {host.host_id: host.name for host in hosts}
        host_id, other = found[0]
        return f"host {names[host_id]}: {describe(other)}"


def describe(job: Job) -> str:
    """Name a job so that a person knows whom to ask."""
    return f"job {job.id} ({job.playbook}, {job.status}, asked for by {job.requested_by})"
