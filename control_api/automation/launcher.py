"""Starting supervisors: detached, with a clean environment, their order through a pipe."""

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog

import control_api
from control_api.automation.order import RunOrder
from control_api.automation.supervisor.forkserver import PLACEHOLDER
from control_api.automation.supervisor.guard import log_file
from control_api.kit.files import open_private

log = structlog.get_logger()

# All that a supervisor, and so Ansible and its local tasks, see of this process's environment.
PASSED_ON = ("HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TMPDIR", "SSH_AUTH_SOCK")
LOG_TAIL_BYTES = 8192
# How long the fork server may take to load its code and answer.
ANSWER_S = 120.0

_PROGRAM = "control_api.automation.supervisor"

Failed = Callable[[RunOrder, str], Awaitable[None]]


def clean_environment() -> dict[str, str]:
    """Return the environment of a supervisor. Ansible is found beside the interpreter, and needs a UTF-8 locale."""
    path = f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"
    passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    return {"LC_ALL": "C.UTF-8", **passed, "PATH": path}


class ForkServer:
    """This worker's fork server. One that was killed is replaced."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None

    def start(self) -> socket.socket:
        """Start the server unless it runs; return the channel to it. Raises ``OSError``."""
        if self._channel is None:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            ours.settimeout(ANSWER_S)
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", _PROGRAM, PLACEHOLDER],
                    stdin=theirs.fileno(),
                    env=clean_environment(),
                    cwd=Path(control_api.__file__).parents[1],
                    start_new_session=True,
                )
            self._channel = ours
        return self._channel

    def close(self) -> None:
        """End the server. What it has forked goes on."""
        if self._channel and self._process:
            self._channel.close()
            self._process.kill()
            self._process.wait()
        self._channel = self._process = None

    def fork(self, order: RunOrder, output: Path) -> int:
        """Start a supervisor and give it its order; return a descriptor that is readable when it has ended.

        Raises ``OSError`` if it cannot be started.
        """
        request = {"job_id": order.job_id, "run_dir": str(order.run_dir), "kill_s": order.lease.kill_s}
        said = open_private(output, os.O_WRONLY | os.O_TRUNC)
        reader, writer = os.pipe()
        with os.fdopen(writer, "wb") as pipe:
            try:
                ended = self._ask(json.dumps(request).encode(), [reader, said])
            finally:
                os.close(reader)
                os.close(said)
            pipe.write(order.model_dump_json().encode())
        return ended

    def _ask(self, request: bytes, descriptors: list[int]) -> int:
        for _ in range(2):
            channel = self.start()
            try:
                socket.send_fds(channel, [request], descriptors)
                answer, received, _, _ = socket.recv_fds(channel, 1, 1)
            except ConnectionError:
                answer = b""
            except TimeoutError:
                # Its late answer would be taken for that to another request.
                self.close()
                raise
            if answer:
                return received[0]
            self.close()
        raise OSError("the supervisor's code cannot be loaded; the log of the worker says why")


class Launcher:
    """Starts supervisors and waits for those that end while this process lives.

    Parameters
    ----------
    ended: set whenever one has ended: a job that waited for its hosts may run now.
    failed: told of each that failed, and what it said last.
    """

    def __init__(self, ended: asyncio.Event, failed: Failed | None = None) -> None:
        self._ended = ended
        self._failed = failed
        self._server = ForkServer()
        self._running: set[asyncio.Task[None]] = set()

    @property
    def running(self) -> int:
        """How many supervisors this process has started that still run."""
        return len(self._running)

    async def prepare(self) -> None:
        """Start to load what supervisors need. If that fails, so will the first job, and say why."""
        try:
            await asyncio.to_thread(self._server.start)
        except OSError as error:
            log.warning("supervisor.not_prepared", error=str(error))

    async def launch(self, order: RunOrder) -> None:
        """Start a supervisor and give it its order. Raises ``OSError`` if it cannot be started."""
        output = log_file(order.run_dir)
        ended = await asyncio.to_thread(self._server.fork, order, output)
        self.own(asyncio.create_task(self._see_off(ended, order, output), name=f"supervisor-{order.job_id}"))

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
        await asyncio.to_thread(self._server.close)

    async def _see_off(self, ended: int, order: RunOrder, output: Path) -> None:
        await _readable(ended)
        if not output.exists():
            log.info("supervisor.ended", job_id=order.job_id, attempt=order.attempt)
            return
        said = output.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace")
        log.error("supervisor.failed", job_id=order.job_id, attempt=order.attempt, output=said)
        output.unlink(missing_ok=True)
        if self._failed:
            await self._failed(order, said)


async def _readable(descriptor: int) -> None:
    """Wait until a descriptor is readable, and close it."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
