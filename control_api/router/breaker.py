"""Takes a node out of rotation when it fails, and lets one request find out whether it is back."""

from enum import StrEnum
from typing import NamedTuple

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 5.0
FAILURES_TO_OPEN = 3
# A probe that has not failed for so long was at least connected, and a long answer must not keep others waiting.
PROBE_S = 2.0


class Cause(StrEnum):
    """What a node did. An answer that was lost may have been the request's own fault; the first and the last say enough."""

    UNREACHABLE = "unreachable"
    LOST = "lost"
    SILENT = "silent"
    ERROR = "error"
    BREAKS_STREAMS = "breaks_streams"

    @property
    def is_enough(self) -> bool:
        """Whether once is enough to take the node out."""
        return self in (Cause.UNREACHABLE, Cause.BREAKS_STREAMS)


class BreakerState(NamedTuple):
    """A node that is out of rotation. ``state``: ``open``, or ``half_open`` when the next request finds out."""

    node_id: str
    state: str
    cause: Cause


class Breaker:
    """One node's breaker: closed, open for a pause, then half-open with one probe at a time. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._failures = 0
        self._pause_s = FIRST_PAUSE_S
        self._open_until: float | None = None
        self._probe_since: float | None = None
        self._cause = Cause.UNREACHABLE

    def is_open(self, now: float) -> bool:
        """Tell whether the node is out of rotation."""
        return self._open_until is not None and now < self._open_until

    def allows(self, now: float) -> bool:
        """Tell whether a request may go to the node now."""
        probing = self._probe_since is not None and now < self._probe_since + PROBE_S
        return self._open_until is None or (now >= self._open_until and not probing)

    def wait_s(self, now: float) -> float:
        """Return how long the node stays out of rotation."""
        return max(0.0, self._open_until - now) if self._open_until is not None else 0.0

    def begin(self, now: float) -> None:
        """A request goes to the node; unless the breaker is closed it is the probe."""
        self._probe_since = now if self._open_until is not None else None

    def abandon(self) -> None:
        """The request ended without telling anything about the node."""
        self._probe_since = None

    def state(self, node_id: str, now: float) -> BreakerState | None:
        """Return what is to be told of the node, ``None`` while it is in rotation."""
        if self._open_until is None:
            return None
        return BreakerState(node_id, "open" if now < self._open_until else "half_open", self._cause)

    def fail(self, now: float, cause: Cause) -> None:
        """The request failed."""
        if self._open_until is not None and self._probe_since is None:
            return
        self._cause = cause
        self._failures += FAILURES_TO_OPEN if cause.is_enough else 1
        if self._failures >= FAILURES_TO_OPEN:
            self._open_until = now + self._pause_s
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        self._probe_since = None
