"""Waiting for something instead of sleeping."""

import asyncio
import time
from collections.abc import Callable

LIMIT_S = 20.0


async def until(condition: Callable[[], object]) -> None:
    """Return as soon as ``condition`` holds; fail after a while."""
    end = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < end, "It did not happen."
        await asyncio.sleep(0.02)
