"""Queries on check runs: plans, drift, and what may have disturbed them."""

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import func
from sqlalchemy.orm import aliased
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from control_api.automation.models import HostDrift, Job, JobHost, Plan
from control_api.automation.states import HostStatus, JobPurpose, JobStatus
from control_api.fleet.models import Host
from control_api.fleet.states import HostState


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


async def drift_counts(session: AsyncSession) -> dict[HostStatus, int]:
    """Return how many hosts in service were found how at their latest check; one that was never checked is unknown."""
    found = select(HostDrift.status, func.count()).select_from(Host).outerjoin(HostDrift, col(HostDrift.host_id) == Host.id)
    in_service = (Host.state != HostState.DECOMMISSIONED, col(Host.accepted_at).is_not(None))
    rows = await session.exec(found.where(*in_service).group_by(col(HostDrift.status)))
    counts = dict.fromkeys(HostStatus, 0)
    for status, count in rows.all():
        counts[HostStatus(status or HostStatus.UNKNOWN)] += count
    return counts


async def last_run(session: AsyncSession, purpose: JobPurpose) -> datetime | None:
    """Return when the latest run for this purpose came to its end by itself; None: there was none."""
    ended = [JobStatus.SUCCESSFUL, JobStatus.FAILED]
    statement = select(func.max(Job.finished_at)).where(Job.purpose == purpose, col(Job.status).in_(ended))
    return (await session.exec(statement)).one()


async def drifted_ids(session: AsyncSession, host_ids: Collection[str]) -> list[str]:
    """Return those of the hosts that had drifted at their latest check."""
    found = select(HostDrift.host_id).where(col(HostDrift.host_id).in_(host_ids), HostDrift.status == HostStatus.DRIFTED)
    return list((await session.exec(found)).all())
