"""Starting supervisors: detached, with a clean environment, their order through a pipe."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import structlog

import control_api
from control_api.automation.order import RunOrder
from control_api.automation.supervisor.guard import log_file

log = structlog.get_logger()

# All that a supervisor, and so Ansible and its local tasks, see of this process's environment.
PASSED_ON = ("HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TMPDIR", "SSH_AUTH_SOCK")
LOG_TAIL_BYTES = 8192

_PROGRAM = "control_api.automation.supervisor"

# Not asyncio's subprocesses: those are killed when the loop that started them ends, and supervisors outlive their worker.
Process = subprocess.Popen[bytes]


def clean_environment() -> dict[str, str]:
    """Return the environment of a supervisor. Ansible is found beside the interpreter, and needs a UTF-8 locale."""
    path = f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"
    passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    return {"LC_ALL": "C.UTF-8", **passed, "PATH": path}


class Launcher:
    """Starts supervisors and waits for those that end while this process lives.

    Parameters
    ----------
    ended: set whenever one has ended: a job that waited for its hosts may run now.
    """

    def __init__(self, ended: asyncio.Event) -> None:
        self._ended = ended
        self._running: set[asyncio.Task[None]] = set()

    @property
    def running(self) -> int:
        """How many supervisors this process has started that still run."""
        return len(self._running)

    async def launch(self, order: RunOrder) -> None:
        """Start a supervisor and give it its order. Raises ``OSError`` if it cannot be started."""
        output = log_file(order.run_dir)
        process = await asyncio.to_thread(_spawn, order, output)
        self.own(asyncio.create_task(_see_off(process, order, output), name=f"supervisor-{order.job_id}"))

    def own(self, task: asyncio.Task[None]) -> None:
        """Count a task as a running supervisor until it ends."""
        self._running.add(task)
        task.add_done_callback(self._seen_off)

    def _seen_off(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._ended.set()

    async def let_go(self) -> None:
        """Stop waiting for supervisors; they go on by themselves."""
        tasks = list(self._running)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _spawn(order: RunOrder, output: Path) -> Process:
    arguments = [order.job_id, "--run-dir", str(order.run_dir), "--kill-s", str(order.lease.kill_s)]
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", _PROGRAM, *arguments],
            stdin=subprocess.PIPE,
            stdout=descriptor,
            stderr=descriptor,
            env=clean_environment(),
            cwd=Path(control_api.__file__).parents[1],
            start_new_session=True,
        )
    finally:
        os.close(descriptor)
    assert process.stdin
    with process.stdin as pipe:
        pipe.write(order.model_dump_json().encode())
    return process


async def _see_off(process: Process, order: RunOrder, output: Path) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    descriptor = os.pidfd_open(process.pid)
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
    status = process.wait()
    if status == 0:
        log.info("supervisor.ended", job_id=order.job_id, attempt=order.attempt)
        return
    said = output.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace")
    log.error("supervisor.failed", job_id=order.job_id, attempt=order.attempt, status=status, output=said)
    output.unlink(missing_ok=True)
