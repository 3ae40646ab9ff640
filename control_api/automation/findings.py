"""What check runs find: per host and task whether it is as the playbooks want, kept as drift or as a plan."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from sqlmodel.ext.asyncio.session import AsyncSession

from control_api.automation import checks, repository
from control_api.automation.event import clean
from control_api.automation.models import HostDrift, Job, JobEvent, JobHost, Plan
from control_api.automation.outcome import Outcome
from control_api.automation.states import HostStatus, JobPurpose, JobStatus
from control_api.fleet import repository as fleet

LOOKED_AT = frozenset({JobPurpose.DRIFT, JobPurpose.PLAN})
# Of one difference; the job's changes have all of it.
DIFF_BYTES = 16 << 10

Task = dict[str, Any]
Findings = Mapping[str, list[Task]]

# What the column holds.
REASON_CHARS = 256

# Where a difference names files in a temporary directory.
_VOLATILE = re.compile(r"^(?:---|\+\+\+) (?:before|after).*$\n?", re.MULTILINE)


def by_host(ends: Iterable[JobEvent]) -> Findings:
    """Return the tasks of a check run by host name, in order. Skipped ones are none."""
    found: dict[str, list[Task]] = {}
    for end in ends:
        status = _status(end.status)
        diff = clean(end.diff, DIFF_BYTES) if end.diff and status == HostStatus.DRIFTED else None
        task = {"play": end.play, "role": end.role, "task": end.task, "status": status, "diff": diff}
        found.setdefault(str(end.host), []).append(task)
    return found


def _status(status: str | None) -> HostStatus:
    if status == "changed":
        return HostStatus.DRIFTED
    return HostStatus.IN_SYNC if status == "ok" else HostStatus.UNKNOWN


async def record(session: AsyncSession, job_id: str, outcome: Outcome, tasks: Findings, errors: Mapping[str, str]) -> None:
    """Keep what a check run found, in the transaction that ends it; other runs find nothing.

    Parameters
    ----------
    errors: per host name what went wrong first.
    """
    job = await session.get_one(Job, job_id)
    if job.purpose == JobPurpose.PLAN and outcome.status == JobStatus.SUCCESSFUL:
        await _record_plan(session, job_id, tasks)
    elif job.purpose == JobPurpose.DRIFT and outcome.recap:
        await _record_drift(session, job, outcome, tasks, errors)


async def _record_plan(session: AsyncSession, job_id: str, tasks: Findings) -> None:
    plan = await session.get_one(Plan, job_id)
    names = [host.name for host in (await repository.hosts_of(session, [job_id]))[job_id]]
    plan.hosts = [{"name": name, "changes": _changes(tasks.get(name, []))} for name in names]
    steady = [[name, [_steady(task) for task in _changes(tasks.get(name, []))]] for name in names]
    plan.plan_hash = hashlib.sha256(json.dumps([plan.basis, steady], sort_keys=True).encode()).hexdigest()
    session.add(plan)


def _changes(tasks: list[Task]) -> list[Task]:
    return [task for task in tasks if task["status"] == HostStatus.DRIFTED]


def _steady(task: Task) -> Task:
    return {**task, "diff": _VOLATILE.sub("", task["diff"] or "")}


async def _record_drift(session: AsyncSession, job: Job, outcome: Outcome, tasks: Findings, errors: Mapping[str, str]) -> None:
    hosts = (await repository.hosts_of(session, [job.id]))[job.id]
    present = {host.id for host in await fleet.list_hosts(session, [host.host_id for host in hosts])}
    touched = await checks.changed_meanwhile(session, job)
    for host in hosts:
        counts = outcome.recap.get(host.name)
        reason = None
        if host.host_id in touched:
            reason = "Another job changed the host meanwhile."
        elif not counts or counts.get("failed") or counts.get("unreachable"):
            reason = errors.get(host.name, "The check did not come to its end on the host.")
        if host.host_id in present:
            await session.merge(_drift(job.id, host, tasks.get(host.name, []), reason))


def _drift(job_id: str, host: JobHost, tasks: list[Task], reason: str | None) -> HostDrift:
    status = HostStatus.DRIFTED if _changes(tasks) else HostStatus.IN_SYNC
    return HostDrift(
        host_id=host.host_id,
        status=HostStatus.UNKNOWN if reason else status,
        reason=reason and reason[:REASON_CHARS],
        job_id=job_id,
        tasks=tasks,
    )
