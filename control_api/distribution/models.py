"""Tables and wire schemas of assignments, manifests and download tasks."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

import sqlalchemy as sa
from annotated_types import MaxLen
from pydantic import model_validator
from sqlmodel import Field

from control_api.kit.clock import utcnow
from control_api.kit.ids import new_id
from control_api.kit.tables import ControlTable, enum_type
from control_api.kit.wire import IdStr, ModelIdStr, Out, Wire

NodeIds = Annotated[list[IdStr], MaxLen(1000)]


class TaskStatus(StrEnum):
    """States of a download task."""

    PENDING = "pending"
    WAITING_FOR_NODE = "waiting_for_node"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_open(self) -> bool:
        """Whether more may happen to a task in this state."""
        return self in OPEN_STATUSES


OPEN_STATUSES = (TaskStatus.PENDING, TaskStatus.WAITING_FOR_NODE, TaskStatus.IN_PROGRESS)


class Assignment(ControlTable, table=True):
    """A model that shall be on a node. ``generation`` counts how often it was ordered; 0: placed, but never sent."""

    __tablename__ = "assignment"
    __table_args__ = (sa.UniqueConstraint("node_id", "model_id"),)

    id: str = Field(default_factory=new_id, primary_key=True, max_length=36)
    node_id: str = Field(foreign_key="node.id", ondelete="CASCADE", index=True, max_length=36)
    model_id: str = Field(foreign_key="model.id", ondelete="CASCADE", index=True, max_length=128)
    generation: int = 0
    residency: str = Field(default="resident", max_length=16)
    residency_reason: str | None = Field(default=None, max_length=512, description="Why it is loaded on demand only.")
    gpu_uuids: list[str] = Field(default_factory=list, sa_type=sa.JSON, description="Where it lives; none: on all GPUs.")
    paused: bool = False
    unschedulable: str | None = Field(default=None, max_length=512, description="Why it does not fit, in words and numbers.")
    created_at: datetime = Field(default_factory=utcnow)

    @property
    def is_wanted(self) -> bool:
        """Whether the node's manifest lists the model: not after a cancel, nor where it does not fit."""
        return self.generation > 0 and not self.paused and not self.unschedulable


class Removal(ControlTable, table=True):
    """A digest that a node shall delete; kept until the node has applied the manifest that lists it."""

    __tablename__ = "removal"

    node_id: str = Field(foreign_key="node.id", ondelete="CASCADE", primary_key=True, max_length=36)
    sha256: str = Field(primary_key=True, max_length=64)
    revision: int


class DownloadTask(ControlTable, table=True):
    """One model travelling to one node: one generation of one assignment."""

    __tablename__ = "download_task"
    __table_args__ = (
        sa.UniqueConstraint("node_id", "model_id", "generation"),
        sa.Index(
            "uq_download_task_open",
            "node_id",
            "model_id",
            unique=True,
            sqlite_where=sa.text("status IN ('pending', 'waiting_for_node', 'in_progress')"),
            postgresql_where=sa.text("status IN ('pending', 'waiting_for_node', 'in_progress')"),
        ),
    )

    id: str = Field(default_factory=new_id, primary_key=True, max_length=36)
    node_id: str = Field(foreign_key="node.id", ondelete="CASCADE", index=True, max_length=36)
    model_id: str = Field(index=True, max_length=128)
    generation: int
    status: TaskStatus = Field(default=TaskStatus.PENDING, sa_type=enum_type(TaskStatus), index=True)
    bytes_done: int = Field(default=0, sa_type=sa.BigInteger)
    bytes_total: int = Field(default=0, sa_type=sa.BigInteger)
    speed_bps: int = Field(default=0, sa_type=sa.BigInteger)
    source: str | None = Field(default=None, max_length=512, description="Where the bytes come from now.")
    created_at: datetime = Field(default_factory=utcnow)
    started_at: datetime | None = None
    completed_at: datetime | None = None
    error: str | None = Field(default=None, max_length=4096)
    job_id: str | None = Field(default=None, max_length=36)


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

    name: str
    size: int
    sha256: str


class ManifestModel(Out):
    """One model that a manifest asks for."""

    id: str
    generation: int
    residency: str
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
