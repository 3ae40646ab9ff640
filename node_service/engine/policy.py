"""How patient the node is with an engine."""

from dataclasses import dataclass

__all__ = ["RestartPolicy"]


@dataclass(frozen=True)
class RestartPolicy:
    """How often an engine may fail within `window_s` before it counts as failed.

    `gives_up`: whether that is the end; otherwise it is tried again for ever, at the longest back-off.
    """

    window_s: float = 600.0
    crashes: int = 5
    failed_starts: int = 3  # a start that fails will mostly fail the same way again
    first_backoff_s: float = 0.5
    max_backoff_s: float = 30.0
    gives_up: bool = True
