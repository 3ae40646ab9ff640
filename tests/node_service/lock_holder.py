"""Another process that holds an artifact's lock: ``python -m tests.node_service.lock_holder DIRECTORY DIGEST``."""

import asyncio
import subprocess
import sys
from pathlib import Path

from node_service.weights.lock import ArtifactLock

__all__ = ["hold_lock", "start_holder"]


def start_holder(directory: Path, digest: str) -> subprocess.Popen[str]:
    """Start a process that says ``asks``, takes the lock, says ``held``, and keeps it until its input ends."""
    command = [sys.executable, "-m", "tests.node_service.lock_holder", str(directory), digest]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[2], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "asks\n"
    return process


def hold_lock(directory: Path, digest: str) -> subprocess.Popen[str]:
    """Start one and wait until it holds the lock."""
    process = start_holder(directory, digest)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


async def _hold(directory: Path, digest: str) -> None:
    print("asks", flush=True)
    async with ArtifactLock(directory, digest) as lock:
        lock.note(0.5)
        print("held", flush=True)
        sys.stdin.readline()


if __name__ == "__main__":
    asyncio.run(_hold(Path(sys.argv[1]), sys.argv[2]))
