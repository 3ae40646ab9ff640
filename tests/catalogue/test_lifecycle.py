"""How far a model has come, from what its nodes report."""

import pytest

from control_api.catalogue.lifecycle import Sighting, lifecycle_of, status_of
from control_api.fleet.states import ModelState, NodeState


def seen(state: ModelState, node_state: NodeState = NodeState.ONLINE, done: int = 0, total: int = 0) -> Sighting:
    return Sighting("id", "gpu-01", node_state, state, done, total, state is ModelState.READY)


@pytest.mark.parametrize(
    ("sightings", "status", "lifecycle"),
    [
        ([], "available", "registered"),
        ([seen(ModelState.ABSENT)], "available", "registered"),
        ([seen(ModelState.QUEUED)], "downloading", "pending"),
        ([seen(ModelState.DOWNLOADING)], "downloading", "pending"),
        ([seen(ModelState.VERIFYING)], "downloading", "pending"),
        ([seen(ModelState.INSTALLED)], "downloaded", "registered"),
        ([seen(ModelState.LOADING), seen(ModelState.DOWNLOADING)], "downloaded", "registered"),
        ([seen(ModelState.READY), seen(ModelState.DOWNLOADING)], "downloaded", "ready"),
        ([seen(ModelState.FAILED)], "available", "registered"),
        ([seen(ModelState.ORPHANED)], "available", "registered"),
        # The last words of a node that is gone do not count.
        ([seen(ModelState.READY, NodeState.OFFLINE)], "available", "registered"),
        ([seen(ModelState.DOWNLOADING, NodeState.OFFLINE)], "available", "registered"),
    ],
)
def test_status_and_stage(sightings: list[Sighting], status: str, lifecycle: str) -> None:
    assert status_of(sightings) == status
    assert lifecycle_of(sightings, registered=True) == lifecycle


def test_a_model_that_is_not_registered_is_available_whatever_nodes_hold() -> None:
    assert lifecycle_of([seen(ModelState.READY)], registered=False) == "available"


@pytest.mark.parametrize(
    ("sighting", "progress"),
    [
        (seen(ModelState.DOWNLOADING, done=25, total=100), 0.25),
        (seen(ModelState.DOWNLOADING, done=0, total=0), 0.0),
        (seen(ModelState.DOWNLOADING, done=101, total=100), 1.0),
        (seen(ModelState.READY, done=0, total=0), 1.0),
    ],
)
def test_progress(sighting: Sighting, progress: float) -> None:
    assert sighting.progress == progress
