"""Tables of the catalogue. Metadata only: the control plane never stores model bytes."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlmodel import Field

from control_api.kit.clock import utcnow
from control_api.kit.ids import new_id
from control_api.kit.tables import ControlTable


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
