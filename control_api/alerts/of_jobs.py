"""What is wrong with hosts and jobs."""

from typing import Any

from sqlmodel.ext.asyncio.session import AsyncSession

from control_api.alerts import repository
from control_api.alerts.schemas import AlertKind, AlertOut, alert
from control_api.automation.models import HostDrift, Job
from control_api.automation.states import HostStatus, JobStatus

HOSTS_NAMED = 5


async def find(session: AsyncSession) -> list[AlertOut]:
    """Return what the store says of hosts, jobs and workers."""
    hosts = [*await _proposed(session), *await _failed_hosts(session), *await _drifted(session)]
    return [*hosts, *await _jobs(session), *await _workers(session)]


async def _proposed(session: AsyncSession) -> list[AlertOut]:
    found = []
    for host in await repository.proposed_hosts(session):
        message = f"Host {host.name} at {host.address} was added by an operator. Nothing reaches it before an admin accepts it."
        hint = f"muster hosts accept {host.name}, or muster hosts delete {host.name}."
        found.append(alert(AlertKind.HOST_PROPOSED, host.name, host.id, since=host.created_at, message=message, hint=hint))
    return found


async def _failed_hosts(session: AsyncSession) -> list[AlertOut]:
    found = []
    for host, job in await repository.failed_hosts(session):
        message = f"The last job left host {host.name} unfinished" + (f". {job.playbook}: {job.reason}" if job else ".")
        hint = f"When the cause is gone: muster jobs run {job.playbook if job else 'site.yml'} {host.name} --watch."
        since = (job and job.finished_at) or host.created_at
        found.append(alert(AlertKind.HOST_FAILED, host.name, host.id, since=since, message=message, hint=hint))
    return found


async def _drifted(session: AsyncSession) -> list[AlertOut]:
    found = []
    for host, drift in await repository.drifted_hosts(session):
        message = f"Host {host.name} is not what the playbooks made of it: {_tasks(drift)}."
        hint = f"muster drift show says what differs, muster drift apply {host.name} --watch puts it right."
        found.append(alert(AlertKind.HOST_DRIFTED, host.name, host.id, since=drift.checked_at, message=message, hint=hint))
    return found


def _tasks(drift: HostDrift) -> str:
    names = [str(task.get("task")) for task in drift.tasks if task.get("status") == HostStatus.DRIFTED]
    return _some(names, "tasks") or "its latest check found a difference"


async def _jobs(session: AsyncSession) -> list[AlertOut]:
    hosts: dict[str, tuple[Job, list[str]]] = {}
    for job, name in await repository.troubled_jobs(session):
        hosts.setdefault(job.id, (job, []))[1].append(name)
    return [_job(job, names) for job, names in hosts.values()]


def _job(job: Job, names: list[str]) -> AlertOut:
    lost = job.status is JobStatus.LOST
    ended = "was lost" if lost else "failed"
    message = f"{job.playbook} {ended} on {_some(names, 'hosts')}: {job.reason or 'no reason given'}"
    hint = f"muster jobs show {job.id}. When the cause is gone: muster jobs retry {job.id}."
    if lost:
        hint = f"Nobody knows how far it came. {hint}"
    kind = AlertKind.JOB_LOST if lost else AlertKind.JOB_FAILED
    return alert(kind, job.playbook, job.id, since=job.finished_at or job.created_at, message=message, hint=hint)


async def _workers(session: AsyncSession) -> list[AlertOut]:
    waiting = await repository.waiting_since(session)
    if waiting is None:
        return []
    here, seen = await repository.worker_seen(session)
    if here:
        return []
    last = f"The last one was seen at {seen:%Y-%m-%d %H:%M:%S} UTC." if seen else "There was none."
    facts: dict[str, Any] = {
        "since": seen or waiting,
        "message": f"Jobs wait, and no worker is there to run them. {last}",
        "hint": "Start one: muster serve worker, or systemctl start muster-worker on the control plane.",
    }
    return [alert(AlertKind.WORKER_MISSING, "worker", "", **facts)]


def _some(names: list[str], what: str) -> str:
    shown = ", ".join(names[:HOSTS_NAMED])
    return shown if len(names) <= HOSTS_NAMED else f"{shown} and {len(names) - HOSTS_NAMED} more {what}"
