"""Wire schemas of orders, download tasks, manifests, fetches, and placement for hardware that does not exist yet."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from annotated_types import Ge, Le, MaxLen, MinLen
from pydantic import Field, StringConstraints, model_validator

from control_api.access.schemas import PlacementPolicy
from control_api.distribution.room import Residency
from control_api.distribution.states import TaskStatus
from control_api.fleet.reports import Count, Hardware, Tags
from control_api.kit.wire import FileNameStr, IdStr, ModelIdStr, NameStr, Out, Sha256Str, SizeBytes, Wire

_Words = Annotated[str, StringConstraints(max_length=2000)]
NodeIds = Annotated[list[IdStr], MaxLen(1000)]


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


class DistributeRequest(Wire):
    """``POST /v0/models/distribute``."""

    model: ModelIdStr
    target: Literal["all", "specific", "auto"] = "all"
    node_ids: NodeIds = Field(default_factory=list)
    if_installed: Literal["skip", "redownload"] = "skip"
    retry_when_online: bool = False

    @model_validator(mode="after")
    def _target_and_nodes(self) -> Self:
        if (self.target == "specific") != bool(self.node_ids):
            raise ValueError("node_ids goes with target 'specific', and target 'specific' needs node_ids")
        return self


class PullRequest(Wire):
    """``POST /v0/nodes/{id}/models/pull``."""

    model: ModelIdStr
    if_installed: Literal["skip", "redownload"] = "skip"
    retry_when_online: bool = False


class Skipped(Out):
    """A node that an order passed over."""

    node_id: str
    reason: str


class DistributeOut(Out):
    """The answer to an order. ``job_id``: the job whose playbook ordered; null when a person or a program did."""

    task_ids: list[str]
    job_id: str | None
    skipped: list[Skipped]
    warnings: list[str]


class TaskOut(Out):
    """A download task."""

    id: str
    node_id: str
    model_id: str
    generation: int
    status: TaskStatus
    progress: float
    bytes_done: int
    bytes_total: int
    speed_bps: int
    eta_s: int | None
    source: str | None
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    error: str | None
    job_id: str | None


class AssignmentOut(Out):
    """A model that shall be on a node. ``unschedulable`` says in words and figures why it is not sent there,
    ``residency_reason`` why it is loaded only when it is asked for.
    """

    node_id: str
    model_id: str
    generation: int
    residency: str
    residency_reason: str | None
    gpu_uuids: list[str]
    paused: bool
    unschedulable: str | None
    created_at: datetime


class ManifestArtifact(Out):
    """One file that a manifest asks for."""

    name: FileNameStr
    size: SizeBytes
    sha256: Sha256Str


class ManifestModel(Out):
    """One model that a manifest asks for."""

    id: ModelIdStr
    generation: int
    residency: Residency
    engine: str | None
    required_memory_bytes: int
    params: dict[str, Any]
    artifacts: list[ManifestArtifact]


class Manifest(Out):
    """``GET /v0/nodes/{id}/manifest``: everything that shall be on one node."""

    store_id: str
    revision: int
    admission: str
    memory_reserve_bytes: int
    models: list[ManifestModel]
    remove: list[str]


class FailedSource(Wire):
    """A source that a node has tried in vain. ``corrupt``: all bytes came from it, and they have another sha256."""

    kind: Literal["peer", "hub", "pass_through"]
    node_id: IdStr | None = None
    error: _Words
    corrupt: bool = False


class FetchRequest(Wire):
    """``POST /v0/nodes/{id}/fetches``: where may this node get these bytes now?"""

    sha256: Sha256Str
    have_bytes: Annotated[int, Ge(0), Le(1 << 62)] = 0
    failed: Annotated[list[FailedSource], MaxLen(64)] = []

    @property
    def failed_peers(self) -> dict[str, FailedSource]:
        """The peers that were tried in vain, by node id."""
        return {source.node_id: source for source in self.failed if source.node_id}


class FetchOut(Out):
    """Leave to fetch, with the sources to try in this order."""

    fetch_id: str
    lease_s: int
    sources: list[dict[str, Any]]


class FetchWait(Out):
    """Not yet: ask again. ``reason``: what is waited for."""

    retry_after_s: int
    position: int
    reason: str
