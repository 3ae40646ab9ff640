"""A control API with its worker, around a project that has one playbook of the benchmark's own."""

import asyncio
import os
import shutil
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from benchmarks.processes import Process
from control_api.client import Client
from tests.ports import free_port

PROJECT = Path(__file__).parents[2]
KEY = "mk_" + "b" * 43
START_LIMIT_S = 60


@asynccontextmanager
async def control_plane(folder: Path) -> AsyncIterator[Client]:
    """Run a control API with its worker, that runs the project in ``folder``."""
    port = free_port()
    environment = {
        "MUSTER_STATE_DIR": str(folder / "state"),
        "MUSTER_CACHE_DIR": str(folder / "cache"),
        "MUSTER_PROJECT_DIR": str(folder / "project"),
        "MUSTER_BOOTSTRAP_API_KEY": KEY,
        "MUSTER_API_PORT": str(port),
    }
    argv = [sys.executable, "-m", "control_api.cli", "serve", "api", "--with-worker", "--local-node"]
    api = Process(argv, folder=folder / "api", cpus=f"0-{(os.cpu_count() or 1) - 1}", env=environment)
    try:
        async with Client(f"http://127.0.0.1:{port}", KEY) as client:
            give_up = time.monotonic() + START_LIMIT_S
            while not await client.healthy():
                if (why := api.ended()) or time.monotonic() > give_up:
                    sys.exit(f"The control API does not answer: {why}")
                await asyncio.sleep(0.1)
            yield client
    finally:
        api.stop()


def make_project(folder: Path, playbook: str) -> Path:
    """Return a project directory: this one's inventory plugin, configuration and roles, and a playbook ``site.yml``."""
    project = folder / "project"
    (project / "playbooks").mkdir(parents=True)
    for name in ("inventory", "plugins", "roles"):
        shutil.copytree(PROJECT / name, project / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("ansible.cfg", "supported_models.json"):
        shutil.copy(PROJECT / name, project)
    (project / "playbooks" / "site.yml").write_text(playbook)
    return project
