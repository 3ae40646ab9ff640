"""The part file: what a killed process left is hashed beside the download, and the digest covers all of it."""

import hashlib
import random
from pathlib import Path

import pytest

from node_service.weights.part import PartFile

pytestmark = pytest.mark.anyio

OLD = random.Random(1).randbytes(9_000_001)  # more than two readings of the catching up
NEW = [random.Random(seed).randbytes(seed * 100_003) for seed in range(1, 8)]


async def test_what_is_appended_while_old_bytes_are_hashed_comes_after_them(tmp_path: Path) -> None:
    path = tmp_path / "part"
    path.write_bytes(OLD)
    part = PartFile(path)
    await part.open()
    assert part.size == len(OLD)

    for block in NEW:
        await part.append(block)

    assert await part.digest() == hashlib.sha256(OLD + b"".join(NEW)).hexdigest()
    await part.close()
    assert path.read_bytes() == OLD + b"".join(NEW)


async def test_a_restart_forgets_what_was_there_at_any_moment(tmp_path: Path) -> None:
    path = tmp_path / "part"
    path.write_bytes(OLD)
    part = PartFile(path)
    await part.open()

    await part.restart()
    await part.append(NEW[0])

    assert await part.digest() == hashlib.sha256(NEW[0]).hexdigest()
    assert path.read_bytes() == NEW[0]
    await part.close()


async def test_closing_does_not_wait_for_the_hash(tmp_path: Path) -> None:
    path = tmp_path / "part"
    path.write_bytes(OLD)
    part = PartFile(path)
    await part.open()
    await part.close()
    assert path.read_bytes() == OLD
