"""Wire schemas of placement for hardware that does not exist yet."""

from typing import Annotated

from annotated_types import MaxLen, MinLen

from control_api.access.preferences import PlacementPolicy
from control_api.distribution.room import Residency
from control_api.fleet.schemas import Count, Hardware, Tags
from control_api.kit.wire import ModelIdStr, NameStr, Out, Wire


class PlannedNode(Wire):
    """A node as it would register. GPUs without ``uuid`` are told apart by their place in the list."""

    name: NameStr
    hardware: Hardware
    tags: Tags = []


class PlacementRequest(Wire):
    """``POST /v0/plan/placement``. ``models``: ids registered or in the catalogue, in the order of placing; empty: all
    registered ones. ``policy`` and ``memory_reserve_bytes``: instead of those in force.
    """

    nodes: Annotated[list[PlannedNode], MinLen(1), MaxLen(1000)]
    models: Annotated[list[ModelIdStr], MaxLen(200)] = []
    policy: PlacementPolicy | None = None
    memory_reserve_bytes: Count | None = None


class PlannedModel(Out):
    """What becomes of a model on a planned node. ``residency`` null: refused; ``reason`` says why, in words and figures."""

    model_id: str
    required_memory_bytes: int
    residency: Residency | None
    gpus: list[str]
    reason: str | None


class PlannedRoom(Out):
    """A planned node with what lives on it, and what is left."""

    name: str
    memory_kind: str
    memory_total_bytes: int
    memory_free_bytes: int
    disk_free_bytes: int
    models: list[PlannedModel]


class PlacementOut(Out):
    """A placement that nobody has carried out."""

    policy: PlacementPolicy
    memory_reserve_bytes: int
    nodes: list[PlannedRoom]
