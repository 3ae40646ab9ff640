"""Ending what a job left running on its hosts.

When a connection ends, sshd does not end the command: there is no terminal, since pipelining needs the pipe. So the hosts are
asked once more, by Ansible itself and with everything it takes to log in and become root, to end the processes that carry the
job's mark.
"""

import asyncio
import os
from typing import Any

from control_api.automation.event import Redactor
from control_api.automation.order import RunOrder
from control_api.automation.supervisor import playbook_run, processes
from control_api.automation.supervisor.rundir import REAP_PLAYBOOK, RunDirectory

LIMIT_S = 30.0
_GRACE_S = 2.0


async def reap_hosts(order: RunOrder, directory: RunDirectory, name: str, keep: frozenset[int]) -> dict[str, str]:
    """End the processes of the job on all hosts that are reached by SSH; return what went wrong, by host name.

    Parameters
    ----------
    name: of the private data directory, new for each call.
    keep: processes of the supervisor's own that stay.
    """
    remote = [host.name for host in order.inventory.hosts if host.connection == "ssh"]
    if not remote:
        return {}
    trouble = _Trouble(Redactor(order.secrets.all()))
    call = playbook_run.PlaybookCall(
        playbook=REAP_PLAYBOOK,
        project_dir=order.project_dir,
        private_data=directory.private_data(name, {"reap_job_id": order.job_id}),
        inventories=directory.inventories,
        # Marked otherwise: it must not end itself.
        environment=directory.environment(f"reap-{order.job_id}"),
        handler=trouble.handle,
        limit=",".join(remote),
    )
    running = playbook_run.start(call)
    done, _ = await asyncio.wait({running}, timeout=LIMIT_S)
    if not done:
        trouble.hosts.update(dict.fromkeys(set(remote) - trouble.good, f"no answer within {LIMIT_S:.0f} s"))
    await asyncio.to_thread(processes.end_tree, os.getpid(), grace_s=_GRACE_S, keep=keep)
    return trouble.hosts


class _Trouble:
    """Collects what the events say of each host. Total, as every handler of ansible-runner must be."""

    def __init__(self, redact: Redactor) -> None:
        self._redact = redact
        self.hosts: dict[str, str] = {}
        self.good: set[str] = set()

    def handle(self, raw: dict[str, Any]) -> bool:
        data = raw.get("event_data")
        host = data.get("host") if isinstance(data, dict) else None
        if isinstance(data, dict) and isinstance(host, str):
            result = data.get("res")
            if raw.get("event") in ("runner_on_failed", "runner_on_unreachable") and isinstance(result, dict):
                self.hosts[host] = self._redact(str(result.get("stdout") or result.get("msg")).strip())
            elif raw.get("event") == "runner_on_ok":
                self.good.add(host)
        return False
