"""How an attempt of a job ends: one transaction for its result, its locks and its hosts, fenced by the attempt."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlmodel.ext.asyncio.session import AsyncSession

from control_api.automation import repository
from control_api.automation.models import Job
from control_api.automation.states import JobStatus
from control_api.fleet import holds
from control_api.fleet import repository as fleet
from control_api.fleet.states import HostState
from control_api.kit.bus import publish
from control_api.kit.clock import db_now

MAX_ATTEMPTS = 2
REASON_CHARS = 1024

Recap = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class Outcome:
    """What became of an attempt.

    Parameters
    ----------
    reason: why, in words; None when there is nothing to explain.
    recap: per host name how many tasks were ok, changed, failed, unreachable, skipped.
    events: how many events the attempt made.
    """

    status: JobStatus
    reason: str | None = None
    rc: int | None = None
    recap: Recap = field(default_factory=dict)
    events: int | None = None


CONTROLLER = "localhost"


def of_run(rc: int, recap: Recap, events: int, errors: Mapping[str, str] | None = None) -> Outcome:
    """Return the outcome of a run that ended by itself.

    Parameters
    ----------
    rc: exit status of ansible-playbook.
    errors: per host name what went wrong first.
    """
    if rc == 0:
        return Outcome(JobStatus.SUCCESSFUL, None, rc, recap, events)
    bad = [name for name, counts in recap.items() if not _went_well(counts)]
    said = [f"{name}: {(errors or {}).get(name, 'failed')}" for name in bad]
    # Plays that run on the controller itself are none of the hosts that somebody asked for.
    hosts = [name for name in recap if name in bad or name != CONTROLLER]
    reason = f"{len(bad)} of {len(hosts)} hosts failed. {'; '.join(said)}" if bad else f"ansible-playbook ended with {rc}."
    return Outcome(JobStatus.FAILED, reason, rc, recap, events)


def publish_job(session: AsyncSession, job_id: str, playbook: str, status: JobStatus, reason: str | None = None) -> None:
    """Tell whoever looks on that a job changed."""
    publish(session, "jobs", "job.updated", {"id": job_id, "playbook": playbook, "status": status, "reason": reason})


async def begin(session: AsyncSession, job: Job, leaves: HostState | None) -> None:
    """Record that a job started on its hosts. ``leaves``: the state that they will be in if it goes well."""
    if leaves and not job.check:
        hosts = (await repository.hosts_of(session, [job.id]))[job.id]
        await _set_host_state(session, [host.host_id for host in hosts], HostState.PROVISIONING)
    publish_job(session, job.id, job.playbook, JobStatus.RUNNING)


async def finish(session: AsyncSession, job_id: str, attempt: int, leaves: HostState | None, outcome: Outcome) -> bool:
    """End a job for good; False if this attempt was given up meanwhile, and then nothing is changed."""
    values = {
        "status": outcome.status,
        "reason": outcome.reason and outcome.reason[:REASON_CHARS],
        "rc": outcome.rc,
        "recap": dict(outcome.recap),
        "events_expected": outcome.events,
        "finished_at": db_now(),
        "lease_until": None,
        "supervisor_pid": None,
    }
    if not await repository.update_running(session, job_id, attempt, **values):
        return False
    await repository.unlock_hosts(session, job_id)
    await holds.end_of_job(session, job_id)
    job = await session.get_one(Job, job_id)
    if leaves and not job.check:
        await _settle_hosts(session, job, leaves, outcome)
    publish_job(session, job_id, job.playbook, outcome.status, outcome.reason)
    return True


async def give_up(session: AsyncSession, job: Job, leaves: HostState | None, reason: str) -> bool:
    """End an attempt that nobody finished: once more if it may, else ``lost``. False if it ended meanwhile."""
    if job.external or job.attempt >= MAX_ATTEMPTS or job.cancel_requested_at:
        return await finish(session, job.id, job.attempt, leaves, Outcome(JobStatus.LOST, reason))
    values = {"status": JobStatus.QUEUED, "reason": f"Runs again: {reason}"[:REASON_CHARS]}
    nobody = {"worker": None, "lease_until": None, "supervisor_pid": None}
    if not await repository.update_running(session, job.id, job.attempt, **values, **nobody):
        return False
    await repository.unlock_hosts(session, job.id)
    publish_job(session, job.id, job.playbook, JobStatus.QUEUED, reason)
    return True


async def _settle_hosts(session: AsyncSession, job: Job, leaves: HostState, outcome: Outcome) -> None:
    """A host is what the playbook leaves only if the recap says that nothing went wrong on it to the end."""
    complete = outcome.status in (JobStatus.SUCCESSFUL, JobStatus.FAILED)
    hosts = (await repository.hosts_of(session, [job.id]))[job.id]
    # The locks may have been given up before the end: a host that somebody else has changed since is theirs to speak for.
    mine = {host.host_id for host in hosts} - await repository.taken_later(session, [host.host_id for host in hosts], job.fence)
    good = {host.host_id for host in hosts if complete and _went_well(outcome.recap.get(host.name))}
    await _set_host_state(session, good & mine, leaves)
    await _set_host_state(session, mine - good, HostState.FAILED)
    if leaves is HostState.PROVISIONED:
        await holds.end_of_leftovers(session, good & mine)


def _went_well(counts: Mapping[str, Any] | None) -> bool:
    return counts is not None and not counts.get("failed") and not counts.get("unreachable")


async def _set_host_state(session: AsyncSession, host_ids: Collection[str], state: HostState) -> None:
    if not host_ids:
        return
    await fleet.set_host_state(session, host_ids, state)
    for host_id in host_ids:
        publish(session, "nodes", "host.state_changed", {"id": host_id, "state": state})
