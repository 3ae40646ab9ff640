"""Runs that Muster did not start: a CI pipeline or a shell. They hold the same locks and write the same history."""

from sqlalchemy.exc import IntegrityError
from sqlmodel.ext.asyncio.session import AsyncSession

from control_api.access.principal import Principal
from control_api.automation import outcome, repository
from control_api.automation.event import Redactor, fitted
from control_api.automation.models import Job
from control_api.automation.schemas import JobCreate, JobEventsIn
from control_api.automation.service import JobService, describe
from control_api.automation.states import JobStatus
from control_api.errors import BadInput, Conflict, Forbidden
from control_api.kit.clock import db_now

LEASE_S = 120
# Passwords in addresses only: the secrets of a run from elsewhere are not known here.
_REDACT = Redactor(())
ATTEMPT = 1


async def open_run(jobs: JobService, session: AsyncSession, wanted: JobCreate, by: Principal) -> Job:
    """Record a run that begins now. Raises ``Conflict`` ``host_busy`` naming the job that has one of its hosts."""
    if wanted.extra_vars:
        raise BadInput("extra_vars: an external run keeps its variables to itself.", code="bad_variable")
    playbook = jobs.playbooks.find(wanted.playbook)
    job = Job(
        **wanted.model_dump(include={"playbook", "check", "priority", "idempotency_key"}),
        external=True,
        locks_hosts=playbook.locks_hosts if playbook else True,
        status=JobStatus.RUNNING,
        attempt=ATTEMPT,
        requested_by=by.label,
        asker=by.asker,
    )
    stored = await jobs.store(session, job, wanted.hosts)
    if stored is not job:
        return stored
    fence = await repository.next_fence(session)
    await repository.update_running(session, job.id, ATTEMPT, lease_until=db_now(LEASE_S), started_at=db_now(), fence=fence)
    if job.locks_hosts:
        await _lock(session, job)
    await outcome.begin(session, job, jobs.playbooks.leaves(job.playbook))
    await session.refresh(job)
    return job


async def _lock(session: AsyncSession, job: Job) -> None:
    hosts = (await repository.hosts_of(session, [job.id]))[job.id]
    names = {host.host_id: host.name for host in hosts}
    if found := await repository.blockers(session, list(names)):
        raise _busy(names[found[0][0]], found[0][1])
    try:
        await repository.lock_hosts(session, job.id)
    except IntegrityError as error:
        raise Conflict("One of the hosts was locked a moment ago.", code="host_busy", hint="Try again.") from error


async def report(
    jobs: JobService, session: AsyncSession, telemetry: AsyncSession, job_id: str, sent: JobEventsIn, by: Principal
) -> Job:
    """Store events of a run, renew its lease, and end it if it says so. Raises ``Forbidden`` for somebody else's run."""
    job = await jobs.get(session, job_id)
    if not job.external or job.asker != by.asker:
        raise Forbidden("This job is not a run of yours.", code="not_your_job")
    if not await repository.update_running(session, job_id, ATTEMPT, lease_until=db_now(LEASE_S)):
        raise Conflict(f"The job has ended already: {job.status}.", code="job_ended")
    await repository.add_events(telemetry, [_row(job_id, event.model_dump()) for event in sent.events])
    if sent.end:
        recap = await _known(session, job_id, sent.end.recap)
        result = outcome.of_run(sent.end.rc, recap, sent.end.events)
        await outcome.finish(session, job_id, ATTEMPT, jobs.playbooks.leaves(job.playbook), result)
    await session.refresh(job)
    return job


def _busy(host: str, holder: Job) -> Conflict:
    return Conflict(
        f"Host {host} is busy: {describe(holder)}.",
        code="host_busy",
        hint="Wait for that job, or cancel it.",
        details={"host": host, "job_id": holder.id, "holder": holder.requested_by},
    )


async def _known(session: AsyncSession, job_id: str, recap: outcome.Recap) -> outcome.Recap:
    """Return what a recap says of the job's hosts and of the controller; the run's own inventory may have others."""
    names = {host.name for host in (await repository.hosts_of(session, [job_id]))[job_id]} | {outcome.CONTROLLER}
    return {name: counts for name, counts in recap.items() if name in names}


def _row(job_id: str, event: dict[str, object]) -> dict[str, object]:
    return {"job_id": job_id, "attempt": ATTEMPT, **fitted(event, _REDACT)}
