"""Processes and ports of the demo."""

import os
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from control_api.kit.tasks import owned_task
from control_api.up.process import Command, KeptProcess

STOP_TIMEOUT_S = 90.0


def free_port(wanted: int, taken: Sequence[int] = ()) -> int:
    """Return a port that nobody listens on: the wanted one, or one of those behind it."""
    for port in range(wanted, wanted + 100):
        if port not in taken and is_free(port):
            return port
    raise OSError("no free port")


def is_free(port: int) -> bool:
    """Tell whether nobody listens on a port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))
        except OSError:
            return False
    return True


@asynccontextmanager
async def running(
    name: str, argv: Sequence[str], log_file: Path, environment: Mapping[str, str] | None = None
) -> AsyncIterator[KeptProcess]:
    """Keep a process running for the length of the block."""
    command = Command(
        name=name,
        argv=argv,
        environment={**os.environ, **(environment or {})},
        working_dir=Path.cwd(),
        log_file=log_file,
        stop_timeout_s=STOP_TIMEOUT_S,
    )
    process = KeptProcess(command)
    async with owned_task(process.run(), name=name):
        yield process
