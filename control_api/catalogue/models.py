"""Tables and wire schemas of the catalogue. Metadata only: the control plane never stores model bytes."""

from datetime import datetime
from typing import Any, Literal

import sqlalchemy as sa
from sqlmodel import Field

from control_api.fleet.states import ModelState, NodeState
from control_api.kit.clock import utcnow
from control_api.kit.ids import new_id
from control_api.kit.tables import ControlTable
from control_api.kit.wire import ModelIdStr, Out

# The types that llama.cpp has kernels for; quantised ones need flash attention, which is its default where a GPU has it.
KvCacheType = Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"]
Status = Literal["available", "downloading", "downloaded"]
LifecycleStatus = Literal["available", "pending", "registered", "ready"]


class Model(ControlTable, table=True):
    """A registered model: where its files are, pinned to a commit."""

    __tablename__ = "model"

    id: str = Field(primary_key=True, max_length=128)
    name: str = Field(max_length=256)
    description: str = Field(default="", max_length=4096)
    repo: str = Field(max_length=256)
    revision: str = Field(max_length=64)
    size_bytes: int = Field(sa_type=sa.BigInteger)
    required_memory_bytes: int = Field(sa_type=sa.BigInteger)
    memory: dict[str, Any] | None = Field(default=None, sa_type=sa.JSON, description="The parts of that, as ``MemoryNeed``.")
    capabilities: list[str] = Field(default_factory=list, sa_type=sa.JSON)
    tags: list[str] = Field(default_factory=list, sa_type=sa.JSON)
    quantization: str = Field(default="", max_length=32)
    parameter_count: str = Field(default="", max_length=32)
    format: str = Field(default="gguf", max_length=16)
    engine: str = Field(default="", max_length=32, description="One that nodes know; empty: each node's own.")
    params: dict[str, Any] = Field(default_factory=dict, sa_type=sa.JSON)
    needs: list[str] = Field(default_factory=list, sa_type=sa.JSON, description="Tags that a node must have to hold it.")
    created_at: datetime = Field(default_factory=utcnow)


class Artifact(ControlTable, table=True):
    """One file of a model."""

    __tablename__ = "artifact"
    __table_args__ = (sa.UniqueConstraint("model_id", "position"),)

    id: str = Field(default_factory=new_id, primary_key=True, max_length=36)
    model_id: str = Field(foreign_key="model.id", ondelete="CASCADE", index=True, max_length=128)
    position: int
    path: str = Field(max_length=1024)
    name: str = Field(max_length=255)
    size: int = Field(sa_type=sa.BigInteger)
    sha256: str = Field(max_length=64, index=True)


class MemoryNeed(Out):
    """The memory that a model needs to run, part by part, in bytes, for so many slots with so many tokens of context each.

    ``basis``: whether it was computed from the header of the model's file, or estimated by its size; ``note`` says why.
    """

    weights_bytes: int
    kv_cache_bytes: int
    compute_bytes: int
    engine_bytes: int
    context: int
    slots: int
    kv_type: KvCacheType
    basis: Literal["header", "size"]
    note: str | None = None

    @property
    def total_bytes(self) -> int:
        """All parts together."""
        return self.weights_bytes + self.kv_cache_bytes + self.compute_bytes + self.engine_bytes


class SupportedModel(Out):
    """An entry of ``supported_models.json``."""

    id: ModelIdStr
    name: str
    description: str
    repo: str
    recommended_filename: str
    size_bytes: int
    required_memory_bytes: int
    tags: list[str]
    capabilities: list[str]
    quantization: str
    parameter_count: str
    format: str
    engine: str
    platforms: list[str]
    context_length: int | None = None
    revision: str | None = None
    artifacts: list[str] | None = None
    header: dict[str, Any] | None = Field(default=None, exclude=True)


class ArtifactOut(Out):
    """One file of a model."""

    name: str
    path: str
    size: int
    sha256: str


class ModelOut(Out):
    """A registered model with where it is ready."""

    id: str
    name: str
    description: str
    repo: str
    revision: str
    size_bytes: int
    required_memory_bytes: int
    memory: MemoryNeed | None
    capabilities: list[str]
    tags: list[str]
    quantization: str
    parameter_count: str
    format: str
    engine: str
    params: dict[str, Any]
    needs: list[str]
    created_at: datetime
    artifacts: list[ArtifactOut]
    status: Status
    lifecycle_status: LifecycleStatus
    ready_nodes: int


class HubNodeOut(Out):
    """Where a model is, or is going to. ``node_state`` tells whether the report is of now."""

    node_id: str
    name: str
    node_state: NodeState
    state: ModelState
    progress: float


class HubFactsOut(Out):
    """What the hub says of a repository's popularity."""

    downloads: int
    likes: int
    fetched_at: datetime


class HubModelOut(SupportedModel):
    """A supported model with where it is in the fleet. A registered one tells the memory that it was registered with."""

    memory: MemoryNeed
    status: Status
    lifecycle_status: LifecycleStatus
    nodes: list[HubNodeOut]
    hub: HubFactsOut | None


class HubOut(Out):
    """``GET /v0/models/hub``. ``hub_reachable`` is false when the last attempt to ask the hub failed."""

    models: list[HubModelOut]
    hub_reachable: bool


class AvailableModelOut(Out):
    """A model that can be had, and who says so."""

    id: str
    name: str
    description: str
    size_bytes: int | None
    source: Literal["catalogue", "registered", "nodes"]
    node_ids: list[str]


class AvailableOut(Out):
    """``GET /v0/models/available``."""

    models: list[AvailableModelOut]
    hub_reachable: bool
