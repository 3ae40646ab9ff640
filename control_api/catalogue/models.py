"""Tables and wire schemas of the catalogue. Metadata only: the control plane never stores model bytes."""

from datetime import datetime
from typing import Annotated, Any

import sqlalchemy as sa
from pydantic import StringConstraints
from sqlmodel import Field

from control_api.kit.clock import utcnow
from control_api.kit.ids import new_id
from control_api.kit.tables import ControlTable
from control_api.kit.wire import LineStr, ModelIdStr, Out, Wire


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
    capabilities: list[str] = Field(default_factory=list, sa_type=sa.JSON)
    tags: list[str] = Field(default_factory=list, sa_type=sa.JSON)
    quantization: str = Field(default="", max_length=32)
    parameter_count: str = Field(default="", max_length=32)
    format: str = Field(default="gguf", max_length=16)
    engine: str = Field(default="xllamacpp", max_length=32)
    params: dict[str, Any] = Field(default_factory=dict, sa_type=sa.JSON)
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


class RegisterModelRequest(Wire):
    """``POST /v0/models/register``: a catalogue id, or a hub URL or ``repo[:file]`` with the id that it shall have."""

    model: ModelIdStr | None = None
    source: LineStr | None = None
    id: ModelIdStr | None = None
    revision: Annotated[str, StringConstraints(max_length=64, pattern=r"^[A-Za-z0-9._/-]+$")] | None = None


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
    capabilities: list[str]
    tags: list[str]
    quantization: str
    parameter_count: str
    format: str
    engine: str
    created_at: datetime
    artifacts: list[ArtifactOut]
    lifecycle_status: str
    ready_nodes: int
