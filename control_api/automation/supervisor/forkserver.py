"""The fork server: one process per worker that has loaded what supervisors need and forks a guard for each order.

Loading takes a supervisor seconds on a slow machine, more than all else that a job costs beside its playbook. The server itself
runs nothing: it has no threads, no loop, and no secret, since orders pass it as a pipe. It ends with its worker; what it has
forked goes on. While it lives, it ends what a guard leaves that was killed together with its supervisor.
"""

import json
import os
import select
import signal
import socket
import time
from functools import partial
from pathlib import Path
from typing import Any

from control_api.automation.supervisor import processes
from control_api.automation.supervisor.guard import ORPHAN_GRACE_S, guard

# Stands in the server's arguments where its forks have the id of their job.
PLACEHOLDER = "00000000-0000-0000-0000-000000000000"
MESSAGE_BYTES = 8192
_REAP_EVERY_S = 1.0


def serve(channel: socket.socket) -> None:
    """Fork a guard for each request until the worker closes the channel.

    A request is JSON (``job_id``, ``run_dir``, ``kill_s``) with two descriptors: the order to read and the file to write what
    guard and supervisor say. The answer is a descriptor that becomes readable when the guard has ended (pidfd).
    """
    # Loaded for the forks; the guard alone needs none of it.
    import control_api.automation.supervisor.main  # noqa: F401

    processes.become_subreaper()
    guards: set[int] = set()
    orphans = _Orphans()
    while True:
        readable, _, _ = select.select([channel], [], [], _REAP_EVERY_S)
        if _reap(guards):
            orphans.end(processes.children(os.getpid()) - guards)
        if not readable:
            continue
        message, descriptors, _, _ = socket.recv_fds(channel, MESSAGE_BYTES, 2)
        if not message:
            return
        child = os.fork()
        if child == 0:
            channel.close()
            processes.leave_with(partial(_guard, json.loads(message), *descriptors))
        guards.add(child)
        # Before it is reaped, or its number might be another's.
        ended = os.pidfd_open(child)
        socket.send_fds(channel, [b"."], [ended])
        for descriptor in (ended, *descriptors):
            os.close(descriptor)


def _reap(guards: set[int]) -> bool:
    """See off children that have ended; tell whether there are others."""
    try:
        while ended := os.waitpid(-1, os.WNOHANG)[0]:
            guards.discard(ended)
    except ChildProcessError:
        return False
    return True


class _Orphans:
    """Ends processes that nobody answers for any more: asked first, killed when they take too long."""

    def __init__(self) -> None:
        self._since: dict[int, float] = {}

    def end(self, alive: set[int]) -> None:
        """Go on with ending these; called again and again."""
        now = time.monotonic()
        self._since = {pid: self._since.get(pid, now) for pid in alive}
        for pid, since in self._since.items():
            processes.send({pid}, signal.SIGKILL if now - since > ORPHAN_GRACE_S else signal.SIGTERM)


def _guard(request: dict[str, Any], order: int, output: int) -> int:
    os.setsid()
    for source, target in ((order, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    os.close(order)
    os.close(output)
    processes.rename(PLACEHOLDER, request["job_id"])
    return guard(Path(request["run_dir"]), kill_s=request["kill_s"])
