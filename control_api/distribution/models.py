"""Tables of removals and download tasks."""

from datetime import datetime

import sqlalchemy as sa
from sqlmodel import Field

from control_api.distribution.states import TaskStatus
from control_api.kit.clock import utcnow
from control_api.kit.ids import new_id
from control_api.kit.tables import ControlTable, enum_type


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
