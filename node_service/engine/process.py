"""A child process of the node: spawned, listened to, and surely ended."""

import asyncio
import ctypes
import importlib.util
import json
import os
import re
import signal
import sys
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog

from node_service.engine.protocol import EngineModel
from node_service.errors import EngineStartFailed

__all__ = ["ChildProcess", "child_environment"]

_STOP_GRACE_S = 5.0
_TAIL_LINES = 40
_LINE_LIMIT = 1000  # characters
_OFFLOADED = re.compile(r"offloaded (\d+)/\d+ layers to GPU")
_REQUEST_LINE = re.compile(r"\S+ I (slot|srv) ", re.ASCII)  # llama.cpp has dozens of them for each request
_ERROR_LINE = re.compile(r"^\S+ E |error|Error|failed", re.ASCII)

# Secrets and settings of the node are none of an engine's business.
_ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "PYTHONPATH")
_ENVIRONMENT_PREFIXES = ("CUDA_", "NVIDIA_", "GGML_")

log = structlog.get_logger(__name__)


class ChildProcess:
    """Runs `python -m <module>` in a process group of its own and keeps what it says last."""

    def __init__(self, module: str, model_id: str) -> None:
        self._module = module
        self._model_id = model_id
        self._process: asyncio.subprocess.Process | None = None
        self._pump: asyncio.Task[None] | None = None
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self.gpu_layers = 0

    async def spawn(self, orders: Mapping[str, Any], environment: Mapping[str, str]) -> None:
        """Start the program and give it its orders.

        Parameters:
            orders: a JSON object, sent by stdin, because arguments can be read by other users.
        """
        self._process = process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", self._module),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=dict(environment),
            start_new_session=True,  # a process group of its own, to be ended as a whole
        )
        self._pump = asyncio.create_task(self._read_log())
        if process.stdin is None:
            raise EngineStartFailed("the child has no pipes")
        with suppress(BrokenPipeError, ConnectionResetError):
            process.stdin.write(json.dumps({**orders, "parent_pid": os.getpid()}).encode() + b"\n")
            await process.stdin.drain()

    async def announcement(self) -> dict[str, Any]:
        """Wait for the line by which the program says that it serves, and where; raises EngineStartFailed."""
        stdout = None if self._process is None else self._process.stdout
        line = b"" if stdout is None else await stdout.readline()
        if not line:
            raise EngineStartFailed(await self.exited())
        announced: dict[str, Any] = json.loads(line)
        return announced

    async def exited(self) -> str:
        """Wait until the program has ended and return how, with its last words."""
        if self._process is None:
            return "the engine was not started"
        code = await self._process.wait()
        if self._pump is not None:
            await self._pump
        how = f"signal {-code} ({_signal_name(-code)})" if code < 0 else f"exit code {code}"
        words = self._last_words()
        return f"{how}: {words}" if words else how

    async def stop(self) -> None:
        """End the process group: TERM, a grace, then KILL."""
        if self._process is None:
            return
        for sig in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, sig)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), _STOP_GRACE_S)
                break
        if self._pump is not None:
            await self._pump

    async def _read_log(self) -> None:
        stream = None if self._process is None else self._process.stderr
        if stream is None:
            return
        rest = b""
        while chunk := await stream.read(65536):
            *lines, rest = (rest + chunk)[-1_000_000:].split(b"\n")
            for line in lines:
                self._take_line(line)
        self._take_line(rest)

    def _take_line(self, raw: bytes) -> None:
        line = raw.decode("utf-8", "replace").strip()[:_LINE_LIMIT]
        if not line:
            return
        self._tail.append(line)
        if _REQUEST_LINE.match(line):
            return
        if found := _OFFLOADED.search(line):
            self.gpu_layers = int(found[1])
        log.debug("engine", model=self._model_id, line=line)

    def _last_words(self) -> str:
        errors = [line for line in self._tail if _ERROR_LINE.search(line)]
        return " | ".join((errors or list(self._tail))[-3:])


def child_environment(model: EngineModel, own: Mapping[str, str] = {}) -> dict[str, str]:
    """Return the environment of a model's engine; `own` is what its definition adds."""
    kept = {key: value for key, value in os.environ.items() if key in _ENVIRONMENT or key.startswith(_ENVIRONMENT_PREFIXES)}
    # Spinning threads starve each other when there are more of them than cores.
    kept |= {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0", "PYTHONUNBUFFERED": "1"}
    if library_dir := _library_dir():
        kept["LD_LIBRARY_PATH"] = ":".join(filter(None, [kept.get("LD_LIBRARY_PATH"), library_dir]))
    if model.gpu_uuids:
        kept["CUDA_VISIBLE_DEVICES"] = ",".join(model.gpu_uuids)
    return kept | dict(own)


def _library_dir() -> str | None:
    """Return where the wheelhouse put the OpenMP runtime, for a host that has none of its own."""
    with suppress(OSError):
        ctypes.CDLL("libgomp.so.1")
        return None
    found = importlib.util.find_spec("muster_node_native")
    return str(Path(found.origin).parent) if found and found.origin else None


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"
