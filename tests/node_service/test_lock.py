"""The lock of an artifact, between processes."""

import json
from pathlib import Path

import pytest

from node_service.weights.lock import ArtifactLock
from tests.node_service.lock_holder import hold_lock, start_holder

pytestmark = pytest.mark.anyio

DIGEST = "a" * 64


async def test_note_says_who_holds_it(tmp_path: Path) -> None:
    process = hold_lock(tmp_path, DIGEST)
    note = ArtifactLock(tmp_path, DIGEST).holder()
    process.communicate("\n", timeout=10)
    assert note is not None
    assert (note["pid"], note["progress"]) == (process.pid, 0.5)
    assert {"boot_id", "started_at"} <= set(note)


async def test_waits_for_the_holder(tmp_path: Path) -> None:
    process = hold_lock(tmp_path, DIGEST)
    waiting = [start_holder(tmp_path, DIGEST) for _ in range(2)]  # the first has asked by the time that the second does
    note = ArtifactLock(tmp_path, DIGEST).holder()
    process.communicate("\n", timeout=10)
    assert note is not None and note["pid"] == process.pid
    for one in waiting:  # whichever gets it first
        assert one.stdin is not None
        one.stdin.write("\n")
        one.stdin.flush()
    assert [one.communicate(timeout=20)[0] for one in waiting] == ["held\n"] * 2


async def test_dead_holder_is_taken_over_at_once(tmp_path: Path) -> None:
    process = hold_lock(tmp_path, DIGEST)
    process.kill()
    process.communicate(timeout=10)
    stale = json.loads((tmp_path / f"{DIGEST}.holder.json").read_text())

    async with ArtifactLock(tmp_path, DIGEST) as lock:
        now = lock.holder()

    assert stale["pid"] == process.pid
    assert now is not None and now["pid"] != process.pid and now["progress"] == 0.0
    assert lock.holder() is None
