"""What a supervisor leaves in the store at the end. If the store is away, each write is tried until the lease is over."""

import stamina
from sqlalchemy.exc import SQLAlchemyError

from control_api.automation import findings, history, hostkeys, outcome, repository
from control_api.automation.event import RunLog
from control_api.automation.order import RunOrder
from control_api.automation.outcome import Outcome
from control_api.automation.states import JobStatus
from control_api.automation.supervisor.lease import Stop
from control_api.automation.supervisor.playbook_run import Ended
from control_api.automation.supervisor.rundir import RunDirectory
from control_api.automation.supervisor.sink import EventSink
from control_api.kit.database import Database

_STORE_AWAY = (SQLAlchemyError, OSError)


def outcome_of(order: RunOrder, ended: Ended, run_log: RunLog) -> Outcome:
    """Return the outcome of a run that ended by itself."""
    if ended.rc is None:
        return Outcome(JobStatus.FAILED, ended.error or "Ansible's exit status is unknown.", None, run_log.recap)
    hosts = {host.name for host in order.inventory.hosts}
    if ended.rc == 0 and not hosts & run_log.recap.keys():
        return Outcome(JobStatus.FAILED, "The playbook touched none of the job's hosts.", 0, run_log.recap)
    result = outcome.of_run(ended.rc, run_log.recap, 0, run_log.errors)
    if not run_log.errors and run_log.last_error and result.status == JobStatus.FAILED:
        return Outcome(JobStatus.FAILED, run_log.last_error, ended.rc, run_log.recap)
    return result


def outcome_of_stop(order: RunOrder, stop: Stop, run_log: RunLog) -> Outcome:
    """Return the outcome of a run that was ended."""
    status, reason = {
        Stop.CANCELLED: (JobStatus.CANCELLED, "Cancelled while it ran."),
        Stop.TIMED_OUT: (JobStatus.FAILED, f"Took longer than {order.timeout_s} s and was ended."),
        Stop.TERMINATED: (JobStatus.LOST, "its supervisor was told to end"),
        Stop.LEASE_LOST: (JobStatus.LOST, "its supervisor could not reach the store"),
        Stop.GIVEN_UP: (JobStatus.LOST, "its supervisor did not renew its lease"),
    }[stop]
    return Outcome(status, reason, None, run_log.recap)


class Recorder:
    """Writes the end of an attempt."""

    def __init__(self, order: RunOrder, database: Database, sink: EventSink, run_log: RunLog) -> None:
        self._order = order
        self._control = database.control
        self._telemetry = database.telemetry
        self._sink = sink
        self._log = run_log

    async def record(self, result: Outcome, directory: RunDirectory) -> bool:
        """Pin new host keys, store the last events, then the outcome; False if the attempt was given up meanwhile."""
        await self._pin_host_keys(directory)
        async for attempt in self._tries():
            with attempt:
                await self._sink.drain()
        async for attempt in self._tries():
            with attempt:
                tasks = await self._findings()
                return await self._write(result, tasks)
        raise AssertionError("the last try raises")

    async def _pin_host_keys(self, directory: RunDirectory) -> None:
        names = {host.id: host.name for host in self._order.inventory.hosts}
        fingerprints: dict[str, str] = {}
        async for attempt in self._tries():
            with attempt:
                async with self._control.write() as session:
                    fingerprints = await hostkeys.pin(session, directory.new_host_keys())
        for host_id, fingerprint in fingerprints.items():
            name = names[host_id]
            await self._sink.note(f"Host key of {name} pinned at first contact: {fingerprint}", host=name)

    async def _findings(self) -> findings.Findings:
        if self._order.purpose not in findings.LOOKED_AT:
            return {}
        async with self._telemetry.read() as session:
            return findings.by_host(await history.task_ends(session, self._order.job_id, self._order.attempt))

    async def _write(self, result: Outcome, tasks: findings.Findings) -> bool:
        order = self._order
        async with self._control.write() as session:
            if result.status == JobStatus.LOST:
                job = await repository.get_job(session, order.job_id)
                ours = job is not None and job.attempt == order.attempt
                return job is not None and ours and await outcome.give_up(session, job, order.leaves, result.reason or "")
            complete = Outcome(result.status, result.reason, result.rc, result.recap, self._log.expected)
            recorded = await outcome.finish(session, order.job_id, order.attempt, order.leaves, complete)
            if recorded:
                await findings.record(session, order.job_id, result, tasks, self._log.errors)
            return recorded

    def _tries(self) -> "stamina._core._RetryContextIterator":
        return stamina.retry_context(on=_STORE_AWAY, attempts=None, timeout=float(self._order.lease.reusable_s), wait_max=2.0)
