"""How far a model has travelled, and how fast."""

import time
from dataclasses import dataclass, field

__all__ = ["Progress"]

_SMOOTHING_S = 5.0  # a speed change shows after about this long


@dataclass
class Progress:
    """Bytes of one model on this node; the speed is smoothed."""

    bytes_total: int = 0
    bytes_done: int = 0
    speed_bps: float | None = None
    source: str | None = None  # where the bytes come from now
    _marked_at: float = field(default=0.0, repr=False)
    _marked_bytes: int = field(default=0, repr=False)

    def begin(self, bytes_done: int) -> None:
        """Start measuring with `bytes_done` already here."""
        self.bytes_done = bytes_done
        self.speed_bps = None
        self._mark(bytes_done)

    def move(self, bytes_done: int) -> None:
        """Note that `bytes_done` are here now."""
        self.bytes_done = bytes_done
        elapsed_s = time.monotonic() - self._marked_at
        if elapsed_s < 0.2:
            return
        speed = (bytes_done - self._marked_bytes) / elapsed_s
        weight = min(1.0, elapsed_s / _SMOOTHING_S)
        before = self.speed_bps
        self.speed_bps = speed if before is None else before + weight * (speed - before)
        self._mark(bytes_done)

    def complete(self, bytes_total: int) -> None:
        """Note that nothing is left to travel."""
        self.bytes_total = self.bytes_done = bytes_total
        self.rest()

    def rest(self) -> None:
        """Note that nothing moves any more."""
        self.speed_bps = None

    @property
    def fraction(self) -> float:
        """How much of the model is here, 0 to 1."""
        return self.bytes_done / self.bytes_total if self.bytes_total else 0.0

    @property
    def eta_s(self) -> float | None:
        """Seconds to go at the present speed, or None while nothing moves."""
        if not self.speed_bps or self.speed_bps < 1:
            return None
        return (self.bytes_total - self.bytes_done) / self.speed_bps

    def _mark(self, bytes_done: int) -> None:
        self._marked_at, self._marked_bytes = time.monotonic(), bytes_done
