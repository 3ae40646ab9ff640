"""Killed at random points: the node, the hub. And random faults together, with a seed that is printed when they fail."""

import random
import time
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

from tests.hub import Faults, Hub
from tests.node_service.control_plane import ControlPlane
from tests.node_service.installing import Place, Weights, in_a_process
from tests.node_service.soak import SIZE, soak
from tests.processes import wait_for

POINTS, RUNS = 20, 20


@pytest.fixture
def weights(tmp_path: Path, control: ControlPlane) -> Weights:
    return Weights.offered(tmp_path / "hub", control, SIZE)


@pytest.fixture
def hub(tmp_path: Path, weights: Weights) -> Iterator[Hub]:
    running = Hub(tmp_path / "hub").start()
    yield running
    running.stop()


@pytest.fixture
def place(tmp_path: Path, control: ControlPlane, hub: Hub) -> Place:
    (tmp_path / "node").mkdir()
    return Place.of(tmp_path / "node", control, hub)


@pytest.fixture
def seed() -> int:
    """A new seed for each session, in the test's output so that a failure can be had again."""
    chosen = int(time.time())
    print(f"seed {chosen}")
    return chosen


def test_a_node_that_is_killed_at_twenty_points_loses_no_byte_that_it_had(
    place: Place, hub: Hub, weights: Weights, seed: int
) -> None:
    points = sorted(random.Random(seed).sample(range(1, SIZE - 200_000), POINTS))
    kept = [0]

    for point in points:
        # The hub goes no further than the point, so that the node is always killed within the file.
        hub.fail(stall_at=max(point, kept[-1] + 1), for_good=True)
        process = in_a_process(place, weights)
        wait_for(lambda wanted=point: place.part_size(weights) >= wanted, f"{point} bytes")
        process.kill()
        process.join()
        kept.append(place.part_size(weights))
    hub.fail()
    process = in_a_process(place, weights)
    process.join(60)

    assert place.has(weights)
    assert kept == sorted(kept)
    resumed = [int(s.range.removeprefix("bytes=").removesuffix("-")) for s in hub.served if s.method == "GET" and s.range]
    assert set(resumed) == set(kept)


def test_a_hub_that_is_killed_at_twenty_points_is_read_on_from_the_same_byte(
    place: Place, hub: Hub, weights: Weights, seed: int, tmp_path: Path
) -> None:
    points = sorted(random.Random(seed).sample(range(1, SIZE), POINTS))
    hub.fail(stall_at=points[0], for_good=True)
    process = in_a_process(place, weights)

    def has(wanted: int) -> bool:
        nonlocal process
        if not process.is_alive():
            process = in_a_process(place, weights)  # as the node does when a hub was away for too long
        return place.part_size(weights) >= wanted

    for point, following in pairwise([*points, None]):
        wait_for(partial(has, point), f"{point} bytes")
        hub.stop()
        faults = Faults(stall_at=following, for_good=True) if following else Faults()
        hub = Hub(tmp_path / "hub", port=hub.port, faults=faults).start()
    wait_for(lambda: place.store.find(weights.sha256), "the whole file")
    process.join(60)
    hub.stop()

    assert place.has(weights)
    assert hub.served[-1].range == f"bytes={points[-1]}-"


def test_random_faults_end_well(tmp_path: Path, seed: int) -> None:
    ended = soak(tmp_path, range(seed, seed + RUNS), lambda number, outcome: print(number, outcome))
    assert [outcome for outcome in ended if not outcome.is_good] == []
