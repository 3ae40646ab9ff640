"""The supervisor: from the order on standard input to the recorded outcome."""

import asyncio
import importlib.metadata
import os
import signal
import sys
from typing import Any

import structlog

from control_api.automation.event import Redactor, RunLog
from control_api.automation.order import RunOrder
from control_api.automation.outcome import Outcome
from control_api.automation.states import JobStatus
from control_api.automation.supervisor import playbook_run, processes
from control_api.automation.supervisor.agent import Agent, AgentError, agent
from control_api.automation.supervisor.lease import Lease, Stop
from control_api.automation.supervisor.reap import reap_hosts
from control_api.automation.supervisor.record import Recorder, outcome_of, outcome_of_stop
from control_api.automation.supervisor.release import HostRelease
from control_api.automation.supervisor.revision import project_revision
from control_api.automation.supervisor.rundir import RunDirectory
from control_api.automation.supervisor.sink import EventSink
from control_api.kit.database import Database
from control_api.kit.tasks import owned_task
from control_api.kit.text import fit_for_logs

# What may still run when Ansible itself has ended are kept SSH connections.
_LEFTOVER_GRACE_S = 2.0
_THREAD_GRACE_S = 10.0
# What a run may take beside its playbook: looking after its hosts, before and after.
_SPARE_S = 600


def run_supervisor(beat: int) -> int:
    """Carry out the order on standard input; ``beat`` is the pipe to the guard. Returns 0 if the outcome was recorded."""
    order = RunOrder.model_validate_json(sys.stdin.buffer.read())
    processes.become_subreaper()
    structlog.configure(
        processors=[*structlog.get_config()["processors"][:-1], fit_for_logs, structlog.dev.ConsoleRenderer(colors=False)],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    return asyncio.run(_supervise(order, beat))


async def _supervise(order: RunOrder, beat: int) -> int:
    database = Database.open(order.control_url, order.telemetry_url)
    try:
        return 0 if await Supervisor(order, database, beat).run() else 1
    finally:
        await database.close()


class Supervisor:
    """Carries out one attempt of one job."""

    def __init__(self, order: RunOrder, database: Database, beat: int) -> None:
        self._order = order
        self._lease = Lease(database.control, order, beat)
        self._log = RunLog(order.job_id, order.attempt, Redactor(order.secrets.all()))
        self._sink = EventSink(database.telemetry, self._log)
        self._recorder = Recorder(order, database, self._sink, self._log)
        self._directory = RunDirectory(order)
        self._release = HostRelease(database.control, order)

    async def run(self) -> bool:
        """Run the playbook and record what became of it; False if the attempt was given up by somebody else meanwhile."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._lease.end, Stop.TERMINATED)
        revision = await asyncio.to_thread(project_revision, self._order.project_dir)
        version = importlib.metadata.version("ansible-core")
        if not await self._lease.renew(supervisor_pid=os.getpid(), ansible_version=version, playbook_revision=revision):
            return False
        async with (
            owned_task(self._lease.run(), name="lease"),
            owned_task(self._sink.run(), name="events"),
            owned_task(self._release.run(), name="release"),
        ):
            result = await self._play()
            return self._stopped != Stop.GIVEN_UP and await self._recorder.record(result, self._directory)

    @property
    def _stopped(self) -> Stop | None:
        return self._lease.stop.result() if self._lease.stop.done() else None

    async def _play(self) -> Outcome:
        try:
            self._directory.create()
            lifetime_s = self._order.timeout_s + _SPARE_S
            async with agent(self._directory.agent_socket, self._order.secrets.ssh_keys, lifetime_s=lifetime_s) as ssh_agent:
                self._directory.write_connections(ssh_agent.public_keys)
                if self._order.attempt > 1:
                    await self._reap(ssh_agent, "reap-before")
                return await self._run_playbook(ssh_agent)
        except (AgentError, OSError) as error:
            return Outcome(JobStatus.FAILED, f"The run could not be set up: {error}")

    async def _run_playbook(self, ssh_agent: Agent) -> Outcome:
        """Run it to its end or to the first reason to stop. After that nothing of it is left."""
        running = playbook_run.start(self._call())
        timer = asyncio.get_running_loop().call_later(self._order.timeout_s, self._lease.end, Stop.TIMED_OUT)
        first: list[asyncio.Future[Any]] = [running, self._lease.stop]
        await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
        timer.cancel()
        if running.done():
            await self._end_tree(_LEFTOVER_GRACE_S, ssh_agent)
            return outcome_of(self._order, running.result(), self._log)
        stop = self._lease.stop.result()
        await self._end_tree(self._grace_s(stop), ssh_agent)
        await asyncio.wait({running}, timeout=_THREAD_GRACE_S)
        if stop != Stop.GIVEN_UP:
            await self._reap(ssh_agent, "reap-after")
        return outcome_of_stop(self._order, stop, self._log)

    def _grace_s(self, stop: Stop) -> float:
        if stop in (Stop.LEASE_LOST, Stop.GIVEN_UP):
            return min(self._order.cancel_grace_s, self._order.lease.kill_s - self._order.lease.term_s)
        return self._order.cancel_grace_s

    def _call(self) -> playbook_run.PlaybookCall:
        order = self._order
        return playbook_run.PlaybookCall(
            playbook=order.project_dir / "playbooks" / order.playbook,
            project_dir=order.project_dir,
            private_data=self._directory.private_data("run", order.extra_vars),
            inventories=self._directory.inventories,
            environment=self._directory.environment(order.job_id),
            handler=self._handle,
            options=" ".join(_options(order)),
        )

    def _handle(self, raw: dict[str, Any]) -> bool:
        self._release.look(raw)
        return self._sink.handle(raw)

    async def _end_tree(self, grace_s: float, ssh_agent: Agent) -> None:
        left = await asyncio.to_thread(processes.end_tree, os.getpid(), grace_s=grace_s, keep=ssh_agent.pids)
        if left:
            await self._sink.note(f"Processes that could not be killed on the controller: {sorted(left)}", status="failed")

    async def _reap(self, ssh_agent: Agent, name: str) -> None:
        for host, problem in (await reap_hosts(self._order, self._directory, name, ssh_agent.pids)).items():
            text = f"Whether processes of the job are left on {host} could not be seen to: {problem}"
            await self._sink.note(text, host=host, status="failed")


def _options(order: RunOrder) -> list[str]:
    """Return the options of ansible-playbook; the names of tags are known ones."""
    check = ["--check"] if order.check else []
    return ["--diff", *check, *(["--tags", ",".join(order.tags)] if order.tags else [])]
