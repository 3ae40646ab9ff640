"""The lock of an artifact, between processes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from node_service.weights.lock import ArtifactLock

pytestmark = pytest.mark.anyio

HOLD = """
import asyncio, pathlib, sys
from node_service.weights.lock import ArtifactLock

async def hold():
    async with ArtifactLock(pathlib.Path(sys.argv[1]), "a" * 64) as lock:
        lock.note(0.5)
        print("held", flush=True)
        sys.stdin.readline()

asyncio.run(hold())
"""


def holder(directory: Path) -> subprocess.Popen[str]:
    """Start a process that holds the lock until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(directory)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


async def test_note_says_who_holds_it(tmp_path: Path) -> None:
    process = holder(tmp_path)
    note = ArtifactLock(tmp_path, "a" * 64).holder()
    process.communicate("\n", timeout=10)
    assert note is not None
    assert (note["pid"], note["progress"]) == (process.pid, 0.5)
    assert {"boot_id", "started_at"} <= set(note)


async def test_waits_for_the_holder(tmp_path: Path) -> None:
    process = holder(tmp_path)
    threaded = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert threaded.poll() is None
    process.communicate("\n", timeout=10)
    out, _ = threaded.communicate("\n", timeout=20)
    assert out == "held\n"


async def test_dead_holder_is_taken_over_at_once(tmp_path: Path) -> None:
    process = holder(tmp_path)
    process.kill()
    process.communicate(timeout=10)
    stale = json.loads((tmp_path / f"{'a' * 64}.holder.json").read_text())

    async with ArtifactLock(tmp_path, "a" * 64) as lock:
        now = lock.holder()

    assert stale["pid"] == process.pid
    assert now is not None and now["pid"] != process.pid and now["progress"] == 0.0
    assert lock.holder() is None
