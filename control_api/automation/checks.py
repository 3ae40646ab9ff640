"""Queries on check runs: plans, drift, and what may have disturbed them."""

from collections.abc import Collection

from sqlalchemy.orm import aliased
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from control_api.automation.models import HostDrift, Job, JobHost, JobPurpose, JobStatus, Plan


async def changed_meanwhile(session: AsyncSession, job: Job) -> set[str]:
    """Return those of a job's hosts that a run which changes hosts had locked at any time since the job started."""
    mine, other = aliased(JobHost), aliased(Job)
    theirs = aliased(JobHost)
    overlaps = (col(other.status) == JobStatus.RUNNING) | (col(other.finished_at) > job.started_at)
    statement = (
        select(mine.host_id)
        .join(theirs, col(theirs.host_id) == mine.host_id)
        .join(other, col(other.id) == theirs.job_id)
        .where(mine.job_id == job.id, col(other.locks_hosts), ~col(other.check), col(other.attempt) > 0, overlaps)
    )
    return set((await session.exec(statement)).all())


async def has_open(session: AsyncSession, purpose: JobPurpose) -> bool:
    """Tell whether a job for this purpose waits or runs."""
    open_states = [JobStatus.QUEUED, JobStatus.RUNNING]
    statement = select(Job.id).where(Job.purpose == purpose, col(Job.status).in_(open_states)).limit(1)
    return (await session.exec(statement)).first() is not None


async def plan_by_hash(session: AsyncSession, plan_hash: str) -> Plan | None:
    """Return the latest plan with this hash."""
    statement = select(Plan).where(Plan.plan_hash == plan_hash).order_by(col(Plan.job_id).desc())
    return (await session.exec(statement.limit(1))).first()


async def drift_of(session: AsyncSession, host_ids: Collection[str]) -> dict[str, HostDrift]:
    """Return what was found on hosts at their latest check."""
    rows = (await session.exec(select(HostDrift).where(col(HostDrift.host_id).in_(host_ids)))).all()
    return {row.host_id: row for row in rows}
