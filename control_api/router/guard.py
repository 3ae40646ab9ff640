"""Two limits on harm: only a small part of all requests is sent again, and none that takes engines down is sent on."""

import hashlib
import time
from collections.abc import Callable

from control_api.router.errors import CrashesEngines

# Further nodes may be asked for so much of the traffic; the reserve is for a node that dies with many requests on it.
RETRY_SHARE = 0.2
RETRY_RESERVE = 100.0
CRASHES_TO_REFUSE = 2
REFUSED_S = 600.0
REMEMBERED_BODIES = 1000


class RetryBudget:
    """What may be spent on asking a further node. Every request adds to it."""

    def __init__(self) -> None:
        self._left = RETRY_RESERVE

    def earn(self) -> None:
        """A request was sent for the first time."""
        self._left = min(self._left + RETRY_SHARE, RETRY_RESERVE)

    def spend(self) -> bool:
        """Tell whether one request may be sent again."""
        if self._left < 1:
            return False
        self._left -= 1
        return True


class CrashGuard:
    """Remembers bodies that took engines down, by their hash, for ten minutes since the last time."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._bodies: dict[bytes, tuple[int, float]] = {}

    def check(self, body: bytes) -> None:
        """Raise ``CrashesEngines`` for a body that must not be sent on."""
        if not self._bodies:
            return
        crashes, until = self._bodies.get(_digest(body), (0, 0.0))
        if crashes >= CRASHES_TO_REFUSE and self._clock() < until:
            raise CrashesEngines(f"This request took {crashes} engines down; it is refused for some minutes.")

    def crashed(self, body: bytes) -> None:
        """An engine went down over a body."""
        now = self._clock()
        self._bodies = {key: fact for key, fact in self._bodies.items() if now < fact[1]}
        if len(self._bodies) >= REMEMBERED_BODIES:
            self._bodies.pop(next(iter(self._bodies)))
        key = _digest(body)
        self._bodies[key] = (self._bodies.get(key, (0, 0.0))[0] + 1, now + REFUSED_S)


def _digest(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()
