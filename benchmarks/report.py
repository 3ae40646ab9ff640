"""Cells of all rounds into medians, a table and the one line that other programs read."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

OURS, DIRECT, FORWARDER, LITELLM = "muster", "direct", "asgi-aiohttp", "litellm"
COLUMNS = ("scenario", "callers", "target", "req/s", "CPU ms/req", "req/s per CPU", "added ms p50", "p99")
COLUMNS += ("first byte added ms p50", "p99", "MiB", "errors")


@dataclass(frozen=True)
class Cell:
    """One target under one load in one round. Rates per second, times in ms; CPU is the target's own."""

    round: int
    target: str
    scenario: str
    concurrency: int
    rps: float
    errors: int
    p50: float | None
    p99: float | None
    first_p50: float | None
    first_p99: float | None
    cpu_ms: float | None
    memory_mib: float


class Results:
    """All cells of a run. What is relative to another target is taken within each round first."""

    def __init__(self, cells: list[Cell]) -> None:
        self._cells = cells

    def value(self, target: str, scenario: str, concurrency: int, read: Callable[[Cell], float | None]) -> float | None:
        """Return the median of a figure over the rounds."""
        values = [v for cell in self._of(target, scenario, concurrency) if (v := read(cell)) is not None]
        return median(values) if values else None

    def added(self, target: str, scenario: str, concurrency: int, read: Callable[[Cell], float | None]) -> float | None:
        """Return how much more than directly, in ms, as the median over the rounds."""
        direct = {cell.round: read(cell) for cell in self._of(DIRECT, scenario, concurrency)}
        pairs = [(read(cell), direct.get(cell.round)) for cell in self._of(target, scenario, concurrency)]
        values = [ours - base for ours, base in pairs if ours is not None and base is not None]
        return median(values) if values else None

    def rps_per_cpu(self, target: str) -> float | None:
        """Return requests per second of CPU time: chat, 64 callers. Other load on the machine hardly moves it."""
        cpu_ms = self.value(target, "chat", 64, lambda cell: cell.cpu_ms)
        return 1000 / cpu_ms if cpu_ms else None

    def table(self) -> str:
        """Return all medians as a markdown table."""
        rows = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
        keys = dict.fromkeys((cell.scenario, cell.concurrency, cell.target) for cell in self._cells)
        rows += [self._row(*key) for key in sorted(keys, key=lambda key: key[:2])]
        return "\n".join(rows)

    def summary(self, live_streams_ok: int, engine_throughput_ratio: float | None = None) -> dict[str, Any]:
        """Return what ``make bench`` prints last."""
        ours = self.rps_per_cpu(OURS)
        return {
            "rps_per_cpu_vs_litellm": _ratio(ours, self.rps_per_cpu(LITELLM)),
            "rps_vs_forwarder": _ratio(ours, self.rps_per_cpu(FORWARDER)),
            "ttfb_added_ms_p50": _rounded(self.added(OURS, "stream", 64, lambda cell: cell.first_p50)),
            "ttfb_added_ms_p99": _rounded(self.added(OURS, "stream", 64, lambda cell: cell.first_p99)),
            "live_streams_ok": live_streams_ok,
            "engine_throughput_ratio": engine_throughput_ratio,
        }

    def _of(self, target: str, scenario: str, concurrency: int) -> list[Cell]:
        wanted = (target, scenario, concurrency)
        return [cell for cell in self._cells if (cell.target, cell.scenario, cell.concurrency) == wanted]

    def _row(self, scenario: str, concurrency: int, target: str) -> str:
        where = (target, scenario, concurrency)
        cpu_ms = self.value(*where, lambda cell: cell.cpu_ms)
        columns = [
            self.value(*where, lambda cell: cell.rps),
            cpu_ms,
            1000 / cpu_ms if cpu_ms else None,
            self.added(*where, lambda cell: cell.p50),
            self.added(*where, lambda cell: cell.p99),
            self.added(*where, lambda cell: cell.first_p50),
            self.added(*where, lambda cell: cell.first_p99),
            self.value(*where, lambda cell: cell.memory_mib),
        ]
        errors = sum(cell.errors for cell in self._of(*where))
        return " | ".join([f"| {scenario}", str(concurrency), target, *map(_text, columns), f"{errors} |"])


def _text(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3f}"


def _ratio(ours: float | None, theirs: float | None) -> float | None:
    return round(ours / theirs, 2) if ours and theirs else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
