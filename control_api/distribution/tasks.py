"""Download tasks as generations: what a node's report does to a task. Only reports of its own generation count."""

from datetime import datetime

from sqlmodel.ext.asyncio.session import AsyncSession

from control_api.distribution.models import DownloadTask
from control_api.distribution.schemas import TaskOut
from control_api.distribution.states import TaskStatus
from control_api.fleet.reports import ModelReport
from control_api.fleet.states import ModelState
from control_api.kit.bus import publish
from control_api.kit.clock import utcnow

_MOVING = frozenset({ModelState.DOWNLOADING, ModelState.VERIFYING})
_DONE = frozenset({ModelState.INSTALLED, ModelState.LOADING, ModelState.READY})


def apply_report(task: DownloadTask, report: ModelReport, now: datetime) -> bool:
    """Bring a task up to date with a report of its node; tell whether that changed anything.

    A closed task stays as it is, and so does one of another generation: a heartbeat sent before an order cannot close it.
    """
    if not task.status.is_open or report.generation != task.generation:
        return False
    before = task.model_dump()
    if report.state in _MOVING or report.state is ModelState.QUEUED:
        task.bytes_done, task.bytes_total = report.bytes_done, report.bytes_total or task.bytes_total
        # A node that tries again says why; the task goes on.
        task.speed_bps, task.error, task.source = report.speed_bps, report.error, report.source
    if report.state in _MOVING:
        task.status, task.started_at = TaskStatus.IN_PROGRESS, task.started_at or now
    elif report.state in _DONE:
        task.started_at, task.bytes_done = task.started_at or now, task.bytes_total
        close(task, TaskStatus.COMPLETED, now)
    elif report.state is ModelState.FAILED:
        close(task, TaskStatus.FAILED, now, error=report.error or "The node gave no reason.")
    return before != task.model_dump()


def close(task: DownloadTask, status: TaskStatus, now: datetime, *, error: str | None = None) -> None:
    """End a task."""
    task.status, task.completed_at, task.error, task.speed_bps, task.source = status, now, error, 0, None


def task_out(task: DownloadTask) -> TaskOut:
    """Return a task as callers see it."""
    total_bytes = task.bytes_total
    progress = min(1.0, task.bytes_done / total_bytes) if total_bytes else float(task.status is TaskStatus.COMPLETED)
    left_bytes = max(0, total_bytes - task.bytes_done)
    moving = task.status is TaskStatus.IN_PROGRESS and task.speed_bps > 0
    eta_s = round(left_bytes / task.speed_bps) if moving else None
    return TaskOut(**task.model_dump(), progress=progress, eta_s=eta_s)


def announce(session: AsyncSession, task: DownloadTask) -> None:
    """Store a task and tell those who look on."""
    session.add(task)
    publish(session, "tasks", "task.updated", task_out(task).model_dump(mode="json"))


def cancel(session: AsyncSession, task: DownloadTask, reason: str) -> None:
    """End a task because nobody wants it any more."""
    close(task, TaskStatus.CANCELLED, utcnow(), error=reason)
    announce(session, task)


def apply_reports(session: AsyncSession, tasks: list[DownloadTask], reports: list[ModelReport]) -> None:
    """Bring a node's open tasks up to date with its heartbeat. A node that is heard is not waited for any more."""
    by_model, now = {report.id: report for report in reports}, utcnow()
    for task in tasks:
        changed = task.status is TaskStatus.WAITING_FOR_NODE
        if changed:
            task.status = TaskStatus.PENDING
        if report := by_model.get(task.model_id):
            changed |= apply_report(task, report, now)
        if changed:
            announce(session, task)
