"""An engine in a child process of its own: spawned, spoken to, and surely ended."""

import asyncio
import ctypes
import importlib.util
import json
import os
import re
import secrets
import signal
import sys
from collections import deque
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx2
import structlog

from node_service.engine.protocol import Endpoint, EngineModel
from node_service.errors import EngineStartFailed

__all__ = ["ChildEngine"]

_START_DEADLINE_S = 1800.0  # 60 GB from a slow disk
_STOP_GRACE_S = 5.0
_HEALTH_TIMEOUT_S = 10.0
_TAIL_LINES = 40
_LINE_LIMIT = 1000  # characters
_OFFLOADED = re.compile(r"offloaded (\d+)/\d+ layers to GPU")
_ERROR_LINE = re.compile(r"^\S+ E |error|Error|failed", re.ASCII)

# Secrets and settings of the node are none of an engine's business.
_ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "PYTHONPATH")
_ENVIRONMENT_PREFIXES = ("CUDA_", "NVIDIA_", "GGML_")

log = structlog.get_logger(__name__)


class ChildEngine:
    """Runs `python -m <module>`, which loads the model and serves it on a local port.

    Parameters:
        module: a child program of `node_service.engine.children`.
        max_slots: requests it can answer at the same time, or None for as many as asked.
    """

    def __init__(self, module: str, *, max_slots: int | None) -> None:
        self._module = module
        self._max_slots = max_slots
        self._process: asyncio.subprocess.Process | None = None
        self._endpoint: Endpoint | None = None
        self._pump: asyncio.Task[None] | None = None
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._gpu_layers = 0

    @property
    def pid(self) -> int | None:
        """The child's process id."""
        return None if self._process is None else self._process.pid

    def slots(self, model: EngineModel) -> int:
        """Return how many requests the engine answers at the same time."""
        return model.slots if self._max_slots is None else min(model.slots, self._max_slots)

    async def start(self, model: EngineModel) -> Endpoint:
        """Spawn the child and wait until it serves; raises EngineStartFailed."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", self._module),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=_environment(model),
            start_new_session=True,  # a process group of its own, to be ended as a whole
        )
        self._process = process
        self._pump = asyncio.create_task(self._read_log(model.id))
        api_key = secrets.token_urlsafe(24)
        try:
            async with asyncio.timeout(_START_DEADLINE_S):
                announced = await self._handshake(process, model, api_key)
        except TimeoutError:
            await self.stop()
            raise EngineStartFailed(f"not ready after {_START_DEADLINE_S:g} s") from None
        except BaseException:
            await self.stop()
            raise
        self._endpoint = Endpoint(
            url=announced["url"],
            api_key=api_key,
            device=announced["device"],
            gpu_layers=self._gpu_layers if announced["device"] == "cuda" else 0,
        )
        return self._endpoint

    async def health(self) -> bool:
        """Whether the child answers."""
        if self._endpoint is None:
            return False
        try:
            async with httpx2.AsyncClient(timeout=_HEALTH_TIMEOUT_S, trust_env=False) as http:
                return (await http.get(f"{self._endpoint.url}/health")).is_success
        except httpx2.HTTPError:
            return False

    async def exited(self) -> str:
        """Wait until the child has ended and return how, with its last words."""
        if self._process is None:
            return "the engine was not started"
        code = await self._process.wait()
        if self._pump is not None:
            await self._pump
        how = f"signal {-code} ({_signal_name(-code)})" if code < 0 else f"exit code {code}"
        words = self._last_words()
        return f"{how}: {words}" if words else how

    async def stop(self) -> None:
        """End the child's process group: TERM, a grace, then KILL."""
        if self._process is None:
            return
        process, self._endpoint = self._process, None
        for sig in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, sig)
            with suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), _STOP_GRACE_S)
                break
        if self._pump is not None:
            await self._pump

    async def _handshake(self, process: asyncio.subprocess.Process, model: EngineModel, api_key: str) -> dict[str, Any]:
        """Send the child its orders and read where it serves."""
        # By stdin, because arguments and environment can be read by other users.
        orders = asdict(model) | {"path": str(model.path), "slots": self.slots(model)}
        orders |= {"api_key": api_key, "parent_pid": os.getpid()}
        if process.stdin is None or process.stdout is None:
            raise EngineStartFailed("the child has no pipes")
        with suppress(BrokenPipeError, ConnectionResetError):
            process.stdin.write(json.dumps(orders).encode() + b"\n")
            await process.stdin.drain()
        line = await process.stdout.readline()
        if not line:
            raise EngineStartFailed(await self.exited())
        announced: dict[str, Any] = json.loads(line)
        return announced

    async def _read_log(self, model_id: str) -> None:
        """Keep the child's last lines, and pass all of them on to our log."""
        stream = None if self._process is None else self._process.stderr
        if stream is None:
            return
        rest = b""
        while chunk := await stream.read(65536):
            *lines, rest = (rest + chunk)[-1_000_000:].split(b"\n")
            for line in lines:
                self._take_line(line, model_id)
        self._take_line(rest, model_id)

    def _take_line(self, raw: bytes, model_id: str) -> None:
        line = raw.decode("utf-8", "replace").strip()[:_LINE_LIMIT]
        if not line:
            return
        self._tail.append(line)
        if found := _OFFLOADED.search(line):
            self._gpu_layers = int(found[1])
        log.debug("engine", model=model_id, line=line)

    def _last_words(self) -> str:
        errors = [line for line in self._tail if _ERROR_LINE.search(line)]
        return " | ".join((errors or list(self._tail))[-3:])


def _environment(model: EngineModel) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if key in _ENVIRONMENT or key.startswith(_ENVIRONMENT_PREFIXES)}
    # Spinning threads starve each other when there are more of them than cores.
    kept |= {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0", "PYTHONUNBUFFERED": "1"}
    if library_dir := _library_dir():
        kept["LD_LIBRARY_PATH"] = ":".join(filter(None, [kept.get("LD_LIBRARY_PATH"), library_dir]))
    if model.gpu_uuids:
        kept["CUDA_VISIBLE_DEVICES"] = ",".join(model.gpu_uuids)
    return kept


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
