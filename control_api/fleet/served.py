"""Who answers for a model: the one place that decides it. Pure.

A node answers only for what it was given. What it says of a model counts where the model is assigned to it, and shows as an
orphan everywhere else; ids that begin with a cloud provider's name are nobody's to report. The generation of a report does
not count here: it tells which order was carried out, and a model goes on answering while a later order is verified.
"""

from enum import StrEnum
from typing import NamedTuple

from control_api.fleet.states import ModelState
from control_api.providers.schemas import ProviderName

_PROVIDERS = frozenset(ProviderName)
_ON_DEMAND = (ModelState.INSTALLED, ModelState.LOADING)
# States that a node may tell of a model that was taken from it.
_LEAVING = (ModelState.ABSENT, ModelState.REMOVING)


class Given(NamedTuple):
    """What was given to a node of a model: the columns of its assignment, ``None`` in all where there is none."""

    residency: str | None
    generation: int | None
    paused: bool | None
    unschedulable: str | None

    @property
    def stands(self) -> bool:
        """Whether the node is to hold the model now."""
        return self.generation is not None and is_given(self.generation, bool(self.paused), self.unschedulable)


NOTHING_GIVEN = Given(None, None, None, None)


class Served(StrEnum):
    """How a node answers for a model: at once, or after the first request had it loaded."""

    LOADED = "loaded"
    ON_DEMAND = "on_demand"


def is_given(generation: int, paused: bool, unschedulable: str | None) -> bool:
    """Whether an assignment is in its node's manifest: it was sent, not cancelled, and fits."""
    return generation > 0 and not paused and not unschedulable


def is_cloud_id(model_id: str) -> bool:
    """Whether an id belongs to a cloud provider, in whatever case: then no model of our own may have it."""
    provider, separator, _ = model_id.partition(":")
    return bool(separator) and provider.lower() in _PROVIDERS


def believed(model_id: str, given: Given, told: ModelState) -> ModelState:
    """Return what a node's report of a model is worth: its own words, or that it holds what nobody gave it."""
    if told in _LEAVING or (given.stands and not is_cloud_id(model_id)):
        return told
    return ModelState.ORPHANED


def served(model_id: str, given: Given, told: ModelState) -> Served | None:
    """Return how a node answers for a model, ``None`` if it does not: it was given the model, and says that it has it."""
    state = believed(model_id, given, told)
    if state is ModelState.READY:
        return Served.LOADED
    return Served.ON_DEMAND if state in _ON_DEMAND and given.residency == "on_demand" else None
