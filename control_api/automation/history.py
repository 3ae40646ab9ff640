"""Queries on what the events of jobs tell."""

from collections.abc import Collection
from typing import Any

from sqlalchemy import func
from sqlalchemy.orm import defer
from sqlmodel import col, delete, select
from sqlmodel.ext.asyncio.session import AsyncSession

from control_api.automation.models import Job, JobEvent
from control_api.kit.paging import decode_row_cursor, encode_cursor

# What ansible-runner calls the end of a task on a host.
_TASK_OK = ("runner_on_ok", "runner_on_async_ok")
_TASK_ENDED = (*_TASK_OK, "runner_on_failed", "runner_on_async_failed", "runner_on_unreachable")


async def slowest_tasks(session: AsyncSession, job: Job, limit: int) -> list[JobEvent]:
    """Return the tasks of the latest attempt that took longest, each from the host where it did."""
    same_task = (col(JobEvent.play), col(JobEvent.role), col(JobEvent.task))
    place = func.row_number().over(partition_by=same_task, order_by=col(JobEvent.duration_s).desc()).label("place")
    ended = (*_of_attempt(job), col(JobEvent.event).in_(_TASK_ENDED), col(JobEvent.duration_s).is_not(None))
    ranked = select(col(JobEvent.id), place).where(*ended).subquery()
    longest = select(JobEvent).join(ranked, col(JobEvent.id) == ranked.c.id).where(ranked.c.place == 1)
    return list((await session.exec(longest.order_by(col(JobEvent.duration_s).desc()).limit(limit))).all())


async def page_changes(session: AsyncSession, job: Job, cursor: str | None, limit: int) -> tuple[list[JobEvent], str | None]:
    """Return a page of what the latest attempt changed, in order."""
    after = decode_row_cursor(cursor) if cursor else 0
    changed = select(JobEvent).where(*_of_attempt(job), JobEvent.status == "changed", col(JobEvent.event).in_(_TASK_OK))
    statement = changed.where(col(JobEvent.id) > after).order_by(col(JobEvent.id)).limit(limit + 1)
    rows = list((await session.exec(statement)).all())
    return rows[:limit], encode_cursor(str(rows[limit - 1].id)) if len(rows) > limit else None


async def task_ends(session: AsyncSession, job_id: str, attempt: int) -> list[JobEvent]:
    """Return how each task of an attempt ended on each host, in order, without its output."""
    without_output = defer(JobEvent.stdout)  # type: ignore[arg-type]
    mine = (JobEvent.job_id == job_id, JobEvent.attempt == attempt)
    statement = select(JobEvent).where(*mine, col(JobEvent.event).in_(_TASK_ENDED), col(JobEvent.host).is_not(None))
    return list((await session.exec(statement.options(without_output).order_by(col(JobEvent.id)))).all())


def _of_attempt(job: Job) -> tuple[Any, ...]:
    return col(JobEvent.job_id) == job.id, col(JobEvent.attempt) == job.attempt


async def count_events(session: AsyncSession, jobs: Collection[Job]) -> dict[str, int]:
    """Return how many events are stored of the latest attempt of each job."""
    counted = select(JobEvent.job_id, JobEvent.attempt, func.count()).where(col(JobEvent.job_id).in_([job.id for job in jobs]))
    rows = (await session.exec(counted.group_by(col(JobEvent.job_id), col(JobEvent.attempt)))).all()
    stored = {(job_id, attempt): count for job_id, attempt, count in rows}
    return {job.id: stored.get((job.id, job.attempt), 0) for job in jobs}


async def delete_events(session: AsyncSession, before: str, keep: Collection[str], limit: int) -> int:
    """Delete up to ``limit`` events of jobs that sort before an id, but for those of ``keep``; return how many they were.

    The time of an event is what the run says; the job's id is ours.
    """
    old = select(JobEvent.id).where(col(JobEvent.job_id) < before, col(JobEvent.job_id).not_in(keep)).limit(limit)
    return (await session.exec(delete(JobEvent).where(col(JobEvent.id).in_(old)))).rowcount
