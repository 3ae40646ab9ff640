"""Wire schemas of the catalogue."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from annotated_types import Ge, Le, Len, MaxLen
from pydantic import Field, StringConstraints, model_validator

from control_api.catalogue.options import EngineOptions, KvCacheType
from control_api.fleet.states import ModelState, NodeState
from control_api.kit.wire import ModelIdStr, Out, TagStr

Status = Literal["available", "downloading", "downloaded"]
LifecycleStatus = Literal["available", "pending", "registered", "ready"]
Capability = Literal["chat", "completions", "embeddings"]
SourceStr = Annotated[str, StringConstraints(min_length=3, max_length=2048, pattern=r"^[^\x00-\x20\x7f]+$")]
RevisionStr = Annotated[str, StringConstraints(max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*([./][A-Za-z0-9_-]+)*$")]
NodeTags = Annotated[list[TagStr], MaxLen(32)]


class RegisterModelRequest(EngineOptions):
    """``POST /v0/models/register``: a catalogue id, or a hub URL or ``repo[:file]`` with the id that it shall have."""

    model: ModelIdStr | None = None
    source: SourceStr | None = None
    id: ModelIdStr | None = None
    revision: RevisionStr | None = None
    capabilities: Annotated[list[Capability], Len(1, 16)] | None = None
    context: Annotated[int, Ge(256), Le(1 << 24)] | None = None
    slots: Annotated[int, Ge(1), Le(256)] | None = None
    needs: NodeTags = []

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.model is None) == (self.source is None):
            raise ValueError("give either model (an id of the catalogue) or source (a hub URL or repo[:file])")
        if self.model is not None and (self.id or self.revision or self.capabilities):
            raise ValueError("id, revision and capabilities go with source; a catalogue entry has its own")
        return self


class ModelPatch(EngineOptions):
    """``PATCH /v0/models/{id}``: what is not named stays. ``needs``: the tags that a node must have to hold the model."""

    needs: NodeTags | None = None


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


class ChangedModelOut(ModelOut):
    """A registered model after a change. ``warnings``: on which nodes it has no room any more beside the others."""

    warnings: list[str]


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
    """A model that can be had, who says so, and the nodes that were given it."""

    id: str
    name: str
    description: str
    size_bytes: int | None
    source: Literal["catalogue", "registered"]
    node_ids: list[str]


class AvailableOut(Out):
    """``GET /v0/models/available``."""

    models: list[AvailableModelOut]
    hub_reachable: bool
