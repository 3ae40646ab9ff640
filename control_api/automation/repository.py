"""All queries on jobs, their hosts, locks and events."""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import exists, or_
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import aliased
from sqlmodel import col, delete, select, update
from sqlmodel.ext.asyncio.session import AsyncSession

from control_api.automation.models import HostLock, Job, JobEvent, JobHost
from control_api.automation.states import JobStatus
from control_api.kit.clock import db_now
from control_api.kit.paging import page
from control_api.kit.revision import ROUTES, bump, current

_FENCE = "job_fence"


async def get_job(session: AsyncSession, job_id: str) -> Job | None:
    """Return a job by id."""
    return await session.get(Job, job_id)


async def job_by_key(session: AsyncSession, idempotency_key: str) -> Job | None:
    """Return the job that was created with this idempotency key."""
    return (await session.exec(select(Job).where(Job.idempotency_key == idempotency_key))).first()


async def page_jobs(
    session: AsyncSession, status: JobStatus | None, cursor: str | None, limit: int
) -> tuple[list[Job], str | None]:
    """Return a page of jobs, newest first."""
    statement = select(Job)
    if status:
        statement = statement.where(Job.status == status)
    return await page(session, statement, Job.id, cursor=cursor, limit=limit, descending=True)


async def hosts_of(session: AsyncSession, job_ids: Collection[str]) -> dict[str, list[JobHost]]:
    """Return the hosts of each of these jobs, by name."""
    statement = select(JobHost).where(col(JobHost.job_id).in_(job_ids)).order_by(col(JobHost.name))
    hosts: dict[str, list[JobHost]] = {job_id: [] for job_id in job_ids}
    for host in (await session.exec(statement)).all():
        hosts[host.job_id].append(host)
    return hosts


async def running_job(session: AsyncSession, job_id: str, attempt: int) -> Job | None:
    """Return a job if this attempt of it is running; what a job token is checked against."""
    statement = select(Job).where(Job.id == job_id, Job.attempt == attempt, Job.status == JobStatus.RUNNING)
    return (await session.exec(statement)).first()


async def is_busy(session: AsyncSession, host_id: str) -> bool:
    """Tell whether a job runs on a host or waits for it."""
    open_jobs = select(Job.id).join(JobHost, col(JobHost.job_id) == Job.id)
    statement = open_jobs.where(JobHost.host_id == host_id, col(Job.status).in_([JobStatus.QUEUED, JobStatus.RUNNING]))
    return (await session.exec(statement.limit(1))).first() is not None


async def claim(session: AsyncSession, worker: str, lease_s: int) -> Job | None:
    """Give the next job that may run to a worker, with the locks on all of its hosts; None if none may.

    One statement on both databases: PostgreSQL skips rows that another worker is claiming, SQLite ignores that clause
    and has one writer at a time. A job waits while one of its hosts is locked, and behind every job of higher priority
    or age that waits for one of its hosts, so that a job for many hosts is not starved by jobs for few.
    """
    candidate = aliased(Job)
    ready = (
        select(candidate.id)
        .where(candidate.status == JobStatus.QUEUED, or_(~col(candidate.locks_hosts), ~_is_blocked(candidate)))
        .order_by(col(candidate.priority).desc(), col(candidate.id))
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    values = {"status": JobStatus.RUNNING, "worker": worker, "lease_until": db_now(lease_s), "started_at": db_now()}
    statement = (
        update(Job)
        .where(col(Job.id) == ready.scalar_subquery())
        .values(**values, attempt=Job.attempt + 1, reason=None)
        .returning(Job)
        .execution_options(synchronize_session=False)
    )
    job = (await session.exec(statement)).scalars().first()
    if job:
        job.fence = await next_fence(session)
        session.add(job)
        await bump(session, ROUTES)
    if job and job.locks_hosts:
        await lock_hosts(session, job.id)
    return job


async def next_fence(session: AsyncSession) -> int:
    """Return a number higher than those of all runs that began before. Runs begin one after another because of it."""
    await bump(session, _FENCE)
    return await current(session, _FENCE)


def _is_blocked(candidate: Any) -> Any:
    mine, theirs, earlier = aliased(JobHost), aliased(JobHost), aliased(Job)
    is_locked = exists().where(mine.job_id == candidate.id, col(HostLock.host_id) == mine.host_id)
    comes_first = or_(
        col(earlier.priority) > candidate.priority,
        (col(earlier.priority) == candidate.priority) & (col(earlier.id) < candidate.id),
    )
    is_behind = exists().where(
        mine.job_id == candidate.id,
        col(theirs.host_id) == mine.host_id,
        col(earlier.id) == theirs.job_id,
        col(earlier.status) == JobStatus.QUEUED,
        col(earlier.locks_hosts),
        comes_first,
    )
    return is_locked | is_behind


async def lock_hosts(session: AsyncSession, job_id: str) -> None:
    """Lock all hosts of a job. Raises ``IntegrityError`` if one is locked: then none is, as the transaction is undone."""
    for host in (await hosts_of(session, [job_id]))[job_id]:
        session.add(HostLock(host_id=host.host_id, job_id=job_id))
    await session.flush()


async def unlock_hosts(session: AsyncSession, job_id: str) -> None:
    """Give up the locks of a job."""
    await session.exec(delete(HostLock).where(col(HostLock.job_id) == job_id))


async def release_hosts(session: AsyncSession, job_id: str, attempt: int) -> None:
    """Give up the locks of a job before it ends, if this attempt of it still runs."""
    ours = exists().where(col(Job.id) == job_id, col(Job.attempt) == attempt, col(Job.status) == JobStatus.RUNNING)
    await session.exec(delete(HostLock).where(col(HostLock.job_id) == job_id, ours))


async def taken_later(session: AsyncSession, host_ids: Collection[str], fence: int) -> set[str]:
    """Return those of the hosts that a later run has locked since, to change them."""
    statement = (
        select(JobHost.host_id)
        .join(Job, col(Job.id) == JobHost.job_id)
        .where(col(JobHost.host_id).in_(host_ids), col(Job.fence) > fence, col(Job.locks_hosts), ~col(Job.check))
    )
    return set((await session.exec(statement)).all())


async def blockers(session: AsyncSession, host_ids: Collection[str], job: Job | None = None) -> list[tuple[str, Job]]:
    """Return ``(host id, job)`` for each job that holds one of the hosts, or waits for it and comes before ``job``."""
    holding = select(HostLock.host_id, Job).join(Job, col(Job.id) == HostLock.job_id).where(col(HostLock.host_id).in_(host_ids))
    waiting = (
        select(JobHost.host_id, Job)
        .join(Job, col(Job.id) == JobHost.job_id)
        .where(col(JobHost.host_id).in_(host_ids), Job.status == JobStatus.QUEUED, col(Job.locks_hosts))
        .order_by(col(Job.priority).desc(), col(Job.id))
    )
    if job:
        same = (col(Job.priority) == job.priority) & (col(Job.id) < job.id)
        waiting = waiting.where((col(Job.priority) > job.priority) | same)
    return [*(await session.exec(holding)).all(), *(await session.exec(waiting)).all()]


async def update_running(session: AsyncSession, job_id: str, attempt: int, **values: Any) -> bool:
    """Change a job if this attempt of it still runs; tell whether it does. The fence against a supervisor that was given up.

    With another status the attempt is over, and routers learn that its tokens are.
    """
    statement = (
        update(Job)
        .where(col(Job.id) == job_id, col(Job.attempt) == attempt, col(Job.status) == JobStatus.RUNNING)
        .values(**values)
        .returning(col(Job.id))
        .execution_options(synchronize_session=False)
    )
    changed = (await session.exec(statement)).first() is not None
    if changed and "status" in values:
        await bump(session, ROUTES)
    return changed


async def update_queued(session: AsyncSession, job_id: str, **values: Any) -> bool:
    """Change a job if it still waits; tell whether it did."""
    statement = (
        update(Job)
        .where(col(Job.id) == job_id, col(Job.status) == JobStatus.QUEUED)
        .values(**values)
        .returning(col(Job.id))
        .execution_options(synchronize_session=False)
    )
    return (await session.exec(statement)).first() is not None


async def cancel_requested(session: AsyncSession, job_id: str) -> bool:
    """Tell whether somebody asked for a job to be cancelled."""
    return (await session.exec(select(Job.cancel_requested_at).where(Job.id == job_id))).first() is not None


async def any_queued(session: AsyncSession) -> bool:
    """Tell whether a job is queued, without a lock on anything."""
    return (await session.exec(select(Job.id).where(Job.status == JobStatus.QUEUED).limit(1))).first() is not None


async def running_on(session: AsyncSession, worker_prefix: str) -> list[str]:
    """Return the ids of running jobs that a worker with such a name has claimed."""
    statement = select(Job.id).where(
        Job.status == JobStatus.RUNNING, col(Job.worker).startswith(worker_prefix, autoescape=True)
    )
    return list((await session.exec(statement)).all())


async def expired_ids(session: AsyncSession) -> list[str]:
    """Return the ids of running jobs whose lease is over."""
    return list(
        (await session.exec(select(Job.id).where(Job.status == JobStatus.RUNNING, col(Job.lease_until) < db_now()))).all()
    )


async def expired(session: AsyncSession, job_ids: Collection[str]) -> list[Job]:
    """Return those of the jobs that still run without a lease, locked for this transaction."""
    statement = select(Job).where(col(Job.id).in_(job_ids), Job.status == JobStatus.RUNNING, col(Job.lease_until) < db_now())
    return list((await session.exec(statement.with_for_update(skip_locked=True))).all())


async def add_events(session: AsyncSession, events: Sequence[dict[str, Any]]) -> None:
    """Insert events; those that are stored already are skipped, so that a batch may be sent twice."""
    if not events:
        return
    insert = sqlite.insert if session.get_bind().dialect.name == "sqlite" else postgresql.insert
    await session.exec(insert(JobEvent).on_conflict_do_nothing(), params=list(events))


async def events_after(session: AsyncSession, job_id: str, after_id: int, limit: int) -> list[JobEvent]:
    """Return events of a job that follow a row id, in order."""
    statement = (
        select(JobEvent).where(JobEvent.job_id == job_id, col(JobEvent.id) > after_id).order_by(col(JobEvent.id)).limit(limit)
    )
    return list((await session.exec(statement)).all())


async def open_ids(session: AsyncSession, before: str) -> list[str]:
    """Return the ids of jobs that have not ended, of those that sort before an id."""
    statement = select(Job.id).where(col(Job.id) < before, col(Job.status).in_([JobStatus.QUEUED, JobStatus.RUNNING]))
    return list((await session.exec(statement)).all())


async def delete_jobs(session: AsyncSession, before: str, limit: int) -> int:
    """Delete up to ``limit`` ended jobs that sort before an id, with their hosts; return how many they were."""
    open_states = [JobStatus.QUEUED, JobStatus.RUNNING]
    old = select(Job.id).where(col(Job.id) < before, col(Job.status).not_in(open_states)).limit(limit)
    return (await session.exec(delete(Job).where(col(Job.id).in_(old)))).rowcount
