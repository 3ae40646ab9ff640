"""Random faults on the way of weights: ``python -m tests.node_service.soak --runs 200``. The last line is one JSON object.

Each run has a hub with a fault of its own that changes with every attempt, and a node process that may be killed. It has to end
with the file installed, or with a reason that is true; a run that does neither within its limit is wedged.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

from tests.hub import Hub
from tests.node_service.control_plane import ControlPlane
from tests.node_service.installing import REPO, Place, Weights, in_a_process

__all__ = ["Outcome", "Run"]

SIZE = 1_500_000
LIMIT_S = 120.0
AT_ONCE = 4
_STALL_S = 1.0  # of a source; short, but not so short that a busy machine is taken for it
_FAULTY, _ATTEMPTS = 3, 6  # the last attempts have no fault, so that nothing but a bug keeps the file away
# What may be said when the faults never end; anything else is not an explanation.
_REASONS = frozenset({"no_source_left", "artifact_corrupt", "insufficient_disk", "artifact_busy"})


@dataclass(frozen=True)
class Outcome:
    """How a run ended: ``installed``, a reason's code, or ``wedged``."""

    what: str
    message: str = ""
    kills: int = 0

    @property
    def is_good(self) -> bool:
        """Whether this is an end that a user can do something with."""
        return self.what == "installed" or (self.what in _REASONS and len(self.message) > len(self.what))


def _fault(dice: random.Random) -> dict[str, object]:
    """Return one thing that a hub does wrong, or nothing."""
    at = dice.randrange(1, SIZE)
    choices: list[dict[str, object]] = [
        {},
        {"rate_bps": SIZE * dice.uniform(0.5, 4)},
        {"truncate_at": at},
        {"truncate_at": at, "no_range": True},
        {"stall_at": at},
        {"stall_at": at, "for_good": True},
        {"corrupt_at": at},
        {"no_range": True},
        {"status": dice.choice([401, 403, 404, 429, 500, 503])},
        {"redirect": True},
        {"redirect_to": "http://10.0.0.1/x"},
        {"wrong_length": dice.choice([-7, 7])},
    ]
    return dice.choice(choices)


class Run:
    """One run, which is the same again for the same seed."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._dice = random.Random(seed)
        self._folder = folder / f"run-{seed}"
        self._weights = Weights.make(self._folder / "hub", SIZE, seed=seed)
        self._kills = 0

    def outcome(self) -> Outcome:
        """Run to an end."""
        control, hub = ControlPlane().start(), Hub(self._folder / "hub").start()
        control.offer_hub(self._weights.spec, REPO)
        if self._dice.random() < 0.5:
            url = f"{hub.url}/{REPO}/resolve/main/{self._weights.path.name}"
            control.sources[self._weights.sha256].insert(0, {"kind": "peer", "node_id": "peer", "url": url, "ticket": "t"})
        try:
            return self._attempts(control, hub)
        finally:
            hub.stop()
            control.stop()

    def _attempts(self, control: ControlPlane, hub: Hub) -> Outcome:
        """Try as the node does, again and again, while the faults change and in the end stop."""
        (self._folder / "node").mkdir()
        place = Place.of(self._folder / "node", control, hub, stall_s=_STALL_S)
        give_up = time.monotonic() + LIMIT_S
        last = Outcome("wedged")
        for attempt in range(_ATTEMPTS):
            hub.fail(**_fault(self._dice) if attempt < _FAULTY else {})
            process = in_a_process(place, self._weights)
            if attempt < _ATTEMPTS - 1:
                self._disturb(process, place)
            process.join(max(0.0, give_up - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()
                return Outcome("wedged", f"attempt {attempt}", self._kills)
            last = self._read(place)
            if last.what == "installed" or not (last.is_good or last.what == "killed"):
                return last
        return last

    def _disturb(self, process: BaseProcess, place: Place) -> None:
        """Kill the process at a random byte, or at a random moment, or not at all."""
        if self._dice.random() < 0.5:
            return
        wanted, moment = self._dice.randrange(SIZE), time.monotonic() + self._dice.uniform(0, 2)
        while process.is_alive() and time.monotonic() < moment and place.part_size(self._weights) <= wanted:
            time.sleep(0.002)
        if process.is_alive():
            process.kill()
            self._kills += 1

    def _read(self, place: Place) -> Outcome:
        """Return how an attempt ended; a killed one has no say, and what it left must be right or not there."""
        if place.store.find(self._weights.sha256) is not None:
            return Outcome("installed" if place.has(self._weights) else "damaged", kills=self._kills)
        said = place.directory / "outcome.json"
        if not said.exists():
            return Outcome("killed", kills=self._kills)
        error = json.loads(said.read_text())["error"]
        said.unlink()
        return Outcome(error["code"], error["message"], self._kills) if error else Outcome("lost", kills=self._kills)


def soak(folder: Path, seeds: range, report: Callable[[int, Outcome], None]) -> list[Outcome]:
    """Do one run for each seed, a few at a time: most of a run is waiting."""
    ended = []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for seed, outcome in zip(seeds, pool.map(lambda number: Run(folder, number).outcome(), seeds), strict=True):
            ended.append(outcome)
            report(seed, outcome)
    return ended


def main() -> None:
    """Parse the arguments, run and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.node_service.soak", description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="seed of the first run; the next ones follow")
    options = parser.parse_args()
    seeds = range(options.seed, options.seed + options.runs)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        ended = soak(Path(name), seeds, lambda seed, outcome: print(seed, outcome, flush=True))
    good = sum(outcome.is_good for outcome in ended)
    kinds = Counter(outcome.what for outcome in ended)
    figures = {"runs": len(ended), "first_seed": options.seed, "ended_well": good, "kinds": kinds}
    print(json.dumps(figures | {"seconds": round(time.monotonic() - began)}))
    sys.exit(good != len(ended))


if __name__ == "__main__":
    main()
