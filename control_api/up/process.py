"""One kept process: started, restarted with back-off when it ends, stopped with its children."""

import asyncio
import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import structlog

from control_api.kit.files import open_private

log = structlog.get_logger()

FIRST_BACKOFF_S = 0.5
LONGEST_BACKOFF_S = 30.0
# A process that ran this long was well; its next failure starts the back-off anew.
SETTLED_S = 30.0
_PR_SET_PDEATHSIG = 1
# Looked up here: between a fork and what it runs, nothing may be loaded.
_LIBC = ctypes.CDLL(None)


@dataclass(frozen=True)
class Command:
    """What to run, and how long it may take to end after SIGTERM."""

    name: str
    argv: Sequence[str]
    environment: Mapping[str, str]
    working_dir: Path
    log_file: Path
    stop_timeout_s: float = 15.0


class KeptProcess:
    """Runs a command until told to stop. It dies with its parent, even if that is killed."""

    def __init__(self, command: Command) -> None:
        self.command = command
        self.restarts = 0
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        """The pid of the running process."""
        return self._process.pid if self._process and self._process.returncode is None else None

    async def run(self) -> None:
        """Keep the command running until cancelled; then stop it."""
        backoff_s = FIRST_BACKOFF_S
        try:
            while True:
                started = time.monotonic()
                code = await self._once()
                backoff_s = FIRST_BACKOFF_S if time.monotonic() - started > SETTLED_S else min(backoff_s * 2, LONGEST_BACKOFF_S)
                self.restarts += 1
                log.warning(
                    "process.ended", name=self.command.name, code=code, restart_in_s=backoff_s, log=str(self.command.log_file)
                )
                await asyncio.sleep(backoff_s)
        finally:
            await self.stop()

    async def _once(self) -> int:
        self.command.log_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(open_private(self.command.log_file, os.O_WRONLY | os.O_APPEND), "ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *self.command.argv,
                env=dict(self.command.environment),
                cwd=self.command.working_dir,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=partial(die_with_parent, os.getpid()),
            )
        log.info("process.started", name=self.command.name, pid=self._process.pid)
        return await self._process.wait()

    async def stop(self) -> None:
        """End the process: SIGTERM, then SIGKILL to its whole session after the time that it has."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), self.command.stop_timeout_s)
        except TimeoutError:
            log.warning("process.killed", name=self.command.name, after_s=self.command.stop_timeout_s)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def die_with_parent(parent: int) -> None:
    """Have the kernel send this process SIGTERM when its parent dies, and leave if it is dead already; for ``preexec_fn``."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
