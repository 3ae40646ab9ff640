"""Services that plays describe for a machine without systemd: ``services/<name>.json`` in the state directory.

A process that a play started itself would die with the job's supervisor; so the play writes what shall run, and
``muster up`` runs it.
"""

import asyncio
import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

import structlog
from pydantic import BaseModel, ValidationError

from control_api.up.process import Command, KeptProcess

log = structlog.get_logger()

SCAN_S = 0.5
# The node drains itself on SIGTERM; on a machine of one's own nobody waits two minutes for it.
STOP_TIMEOUT_S = 20.0
_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "SSL_CERT_FILE", "SSL_CERT_DIR", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES")


class ServiceDescription(BaseModel):
    """What a play wants to run."""

    name: str
    command: list[str]
    environment: dict[str, str] = {}
    working_dir: Path = Path("/")
    state: str = "started"


class Services:
    """Runs what the service files describe; follows their changes."""

    def __init__(self, folder: Path, log_dir: Path) -> None:
        self._folder = folder
        self._log_dir = log_dir
        self._running: dict[str, tuple[str, asyncio.Task[None]]] = {}

    async def run(self) -> None:
        """Follow the folder until cancelled; then stop every service."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            while True:
                await self._compare(self._wanted())
                await asyncio.sleep(SCAN_S)
        finally:
            await self._compare({})

    def _wanted(self) -> dict[str, str]:
        return {path.stem: path.read_text() for path in sorted(self._folder.glob("*.json")) if not path.is_symlink()}

    async def _compare(self, wanted: Mapping[str, str]) -> None:
        for name in [name for name, (text, _) in self._running.items() if wanted.get(name) != text]:
            _, task = self._running.pop(name)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        for name in wanted.keys() - self._running.keys():
            task = asyncio.create_task(self._keep(name, wanted[name]), name=f"service-{name}")
            self._running[name] = (wanted[name], task)

    async def _keep(self, name: str, text: str) -> None:
        try:
            description = ServiceDescription.model_validate_json(text)
        except ValidationError as error:
            log.error("service.bad_description", name=name, error=str(error))
            return
        if description.state != "started":
            return
        inherited = {key: os.environ[key] for key in _INHERITED if key in os.environ}
        command = Command(
            name=name,
            argv=description.command,
            environment=inherited | description.environment,
            working_dir=description.working_dir,
            log_file=self._log_dir / f"{name}.log",
            stop_timeout_s=STOP_TIMEOUT_S,
        )
        await KeptProcess(command).run()
