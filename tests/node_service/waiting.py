"""Waits for a condition instead of sleeping."""

import time
from collections.abc import Callable

__all__ = ["until"]


def until[Result](condition: Callable[[], Result], what: str, timeout_s: float = 60.0) -> Result:
    """Return the condition's first true value; fails naming `what` after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not (result := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s:g} s: {what}")
        time.sleep(0.02)
    return result
