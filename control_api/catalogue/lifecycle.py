"""How far a model has come in the fleet, derived from what its nodes report. Pure."""

from collections.abc import Collection
from dataclasses import dataclass

from control_api.catalogue.schemas import LifecycleStatus, Status
from control_api.fleet.states import ModelState, NodeState

_ON_ITS_WAY = frozenset({ModelState.QUEUED, ModelState.DOWNLOADING, ModelState.VERIFYING})
_NOT_HELD = frozenset({ModelState.ABSENT, ModelState.REMOVING, ModelState.ORPHANED})
_ON_DISK = frozenset({ModelState.INSTALLED, ModelState.LOADING, ModelState.READY})


@dataclass(frozen=True)
class Sighting:
    """A model on a node: what is believed of the node's last report. ``is_loaded``: it would answer at once."""

    node_id: str
    node_name: str
    node_state: NodeState
    state: ModelState
    bytes_done: int
    bytes_total: int
    is_loaded: bool = False

    @property
    def is_current(self) -> bool:
        """Whether the node is there, so that its report is of now."""
        return self.node_state is not NodeState.OFFLINE

    @property
    def is_held(self) -> bool:
        """Whether the node was given the model, and has it or is about to."""
        return self.state not in _NOT_HELD

    @property
    def is_ready(self) -> bool:
        """Whether the model answers on this node."""
        return self.is_current and self.is_loaded

    @property
    def progress(self) -> float:
        """The share of the bytes that is on the node, 0 to 1."""
        if self.state in _ON_DISK:
            return 1.0
        return min(1.0, self.bytes_done / self.bytes_total) if self.bytes_total else 0.0


def status_of(sightings: Collection[Sighting]) -> Status:
    """Return whether the fleet has the model's bytes."""
    states = {s.state for s in sightings if s.is_current}
    if states & _ON_DISK:
        return "downloaded"
    return "downloading" if states & _ON_ITS_WAY else "available"


def lifecycle_of(sightings: Collection[Sighting], *, registered: bool) -> LifecycleStatus:
    """Return the stage of a model: available, registered, on its way to a first node (pending), or ready."""
    if not registered:
        return "available"
    if any(s.is_ready for s in sightings):
        return "ready"
    return "pending" if status_of(sightings) == "downloading" else "registered"
