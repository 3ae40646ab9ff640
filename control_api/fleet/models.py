"""Tables of hosts, nodes, and the models on them. Desired, reported and derived facts are never merged."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlmodel import Field

from control_api.fleet.served import is_given
from control_api.fleet.states import Acceptance, Admission, HostState, ModelState, NodeState
from control_api.kit.clock import utcnow
from control_api.kit.ids import new_id
from control_api.kit.tables import ControlTable, enum_type


class Credential(ControlTable, table=True):
    """How to log in to hosts: an SSH private key and, if sudo asks for one, a password. Encrypted."""

    __tablename__ = "credential"

    id: str = Field(default_factory=new_id, primary_key=True, max_length=36)
    name: str = Field(unique=True, max_length=63)
    ssh_private_key_encrypted: str | None = None
    become_password_encrypted: str | None = None
    created_at: datetime = Field(default_factory=utcnow)


class Host(ControlTable, table=True):
    """A machine that Ansible reaches over SSH."""

    __tablename__ = "host"

    id: str = Field(default_factory=new_id, primary_key=True, max_length=36)
    name: str = Field(unique=True, max_length=63)
    address: str = Field(max_length=253)
    port: int = 22
    user: str | None = Field(default=None, max_length=63)
    become: bool = True
    become_exe: str | None = Field(default=None, max_length=256)
    connection: str = Field(default="ssh", max_length=8)
    python: str | None = Field(default=None, max_length=256)
    jump_host: str | None = Field(default=None, max_length=320)
    credential_id: str | None = Field(default=None, foreign_key="credential.id", ondelete="RESTRICT", max_length=36)
    state: HostState = Field(default=HostState.UNPROVISIONED, sa_type=enum_type(HostState))
    tags: list[str] = Field(default_factory=list, sa_type=sa.JSON)
    variables: dict[str, Any] = Field(default_factory=dict, sa_type=sa.JSON)
    host_key_type: str | None = Field(default=None, max_length=64)
    host_key: str | None = Field(default=None, max_length=2048)
    host_key_pinned_at: datetime | None = None
    created_at: datetime = Field(default_factory=utcnow)
    accepted_at: datetime | None = Field(default=None, description="Before that, no job, ticket or secret reaches it.")
    accepted_by: str | None = Field(default=None, max_length=128)

    @property
    def acceptance(self) -> Acceptance:
        """Whether an admin said that it is one of ours."""
        return Acceptance.ACCEPTED if self.accepted_at else Acceptance.PROPOSED


class EnrolmentTicket(ControlTable, table=True):
    """A one-use secret with which a node registers. Without a host it makes a node that waits for approval.

    ``asker``: by whose id to look up whether whoever asked for it still may; null: Muster itself. ``for_job``: it went from the
    control API to a host through a job, so that nobody but the job could say what the node registers with.
    """

    __tablename__ = "enrolment_ticket"

    id: str = Field(default_factory=new_id, primary_key=True, max_length=36)
    ticket_hash: str = Field(unique=True, max_length=64)
    host_id: str | None = Field(default=None, foreign_key="host.id", ondelete="CASCADE", index=True, max_length=36)
    asker: str | None = Field(default=None, max_length=64)
    for_job: bool = False
    created_at: datetime = Field(default_factory=utcnow)
    expires_at: datetime
    used_at: datetime | None = None


class Node(ControlTable, table=True):
    """A node service as it registered and reported itself."""

    __tablename__ = "node"

    id: str = Field(default_factory=new_id, primary_key=True, max_length=36)
    host_id: str | None = Field(default=None, foreign_key="host.id", ondelete="SET NULL", unique=True, max_length=36)
    name: str = Field(unique=True, max_length=63)
    base_url: str = Field(max_length=512)
    tags: list[str] = Field(default_factory=list, sa_type=sa.JSON)
    admission: Admission = Field(sa_type=enum_type(Admission))
    state: NodeState = Field(sa_type=enum_type(NodeState), index=True)
    degraded: bool = False
    degraded_since: datetime | None = None
    inference_key_encrypted: str
    token_hash: str = Field(max_length=64, index=True)
    next_token_hash: str | None = Field(default=None, max_length=64, index=True)
    token_issued_at: datetime = Field(default_factory=utcnow)
    version: str = Field(max_length=64)
    hardware: dict[str, Any] = Field(sa_type=sa.JSON)
    registered_at: datetime = Field(default_factory=utcnow)

    manifest_revision: int = 1
    applied_revision: int = 0
    instance_id: str = Field(max_length=64)
    previous_instance_id: str | None = Field(default=None, max_length=64, description="Its late reports are ignored.")
    heartbeat_seq: int = 0
    last_heartbeat_at: datetime = Field(default_factory=utcnow, index=True)
    was_online: bool = Field(
        default=False, description="This instance was online once, so it does not fall back to registering."
    )
    ready_loaded: int = 0
    ready_total: int = 0
    models_revision: int = Field(default=0, description="Counts the reports that told something new of its models.")
    gpus: list[dict[str, Any]] = Field(default_factory=list, sa_type=sa.JSON)
    disk: dict[str, Any] | None = Field(default=None, sa_type=sa.JSON)
    errors: list[dict[str, Any]] = Field(default_factory=list, sa_type=sa.JSON, description="What it says is wrong with it.")


class NodeHold(ControlTable, table=True):
    """Somebody's wish that a node be drained. The node is open again when its last hold is gone."""

    __tablename__ = "node_hold"

    node_id: str = Field(foreign_key="node.id", ondelete="CASCADE", primary_key=True, max_length=36)
    holder: str = Field(primary_key=True, max_length=128)
    reason: str = Field(default="", max_length=256)
    outlives_job: bool = Field(default=False, description="If a job holds it: stays when the job ends.")
    at: datetime = Field(default_factory=utcnow)


class NodeModel(ControlTable, table=True):
    """A model on a node, as the node reported it last."""

    __tablename__ = "node_model"

    node_id: str = Field(foreign_key="node.id", ondelete="CASCADE", primary_key=True, max_length=36)
    model_id: str = Field(primary_key=True, max_length=128)
    generation: int = 0
    state: ModelState = Field(sa_type=enum_type(ModelState))
    bytes_done: int = Field(default=0, sa_type=sa.BigInteger)
    bytes_total: int = Field(default=0, sa_type=sa.BigInteger)
    speed_bps: int = Field(default=0, sa_type=sa.BigInteger)
    error: str | None = Field(default=None, max_length=4096)
    size: int | None = Field(default=None, sa_type=sa.BigInteger)
    sha256: str | None = Field(default=None, max_length=64)
    held: list[str] = Field(default_factory=list, sa_type=sa.JSON, description="Digests of its files that are there, complete.")
    source: str | None = Field(default=None, max_length=512)
    installed_at: datetime | None = None
    slots: int = 0
    in_flight: int = 0
    device: str | None = Field(default=None, max_length=8)
    gpu_layers: int | None = None


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
        return is_given(self.generation, self.paused, self.unschedulable)


class NodeTransition(ControlTable, table=True):
    """One change of a node's state."""

    __tablename__ = "node_transition"

    id: str = Field(default_factory=new_id, primary_key=True, max_length=36)
    node_id: str = Field(foreign_key="node.id", ondelete="CASCADE", index=True, max_length=36)
    from_state: str | None = Field(default=None, max_length=16)
    to_state: str = Field(max_length=16)
    reason: str = Field(max_length=256)
    at: datetime = Field(default_factory=utcnow)


class Listening(ControlTable, table=True):
    """Since when somebody listens to heartbeats without a gap. One row; silence counts only while it is fresh."""

    __tablename__ = "listening"

    id: int = Field(default=1, primary_key=True)
    since: datetime
    fresh_at: datetime
