"""Tables of jobs and their events."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlmodel import Field

from control_api.automation.states import HostStatus, JobPurpose, JobStatus
from control_api.kit.clock import utcnow
from control_api.kit.ids import new_id
from control_api.kit.tables import ControlTable, TelemetryTable, enum_type


class Job(ControlTable, table=True):
    """One Ansible run: asked for, claimed, run, ended."""

    __tablename__ = "job"

    id: str = Field(default_factory=new_id, primary_key=True, max_length=36)
    playbook: str = Field(max_length=128)
    extra_vars: dict[str, Any] = Field(default_factory=dict, sa_type=sa.JSON)
    tags: list[str] = Field(default_factory=list, sa_type=sa.JSON, description="Only tasks with one of them; none: all.")
    check: bool = False
    purpose: JobPurpose = Field(default=JobPurpose.RUN, sa_type=enum_type(JobPurpose))
    external: bool = False
    locks_hosts: bool = True
    priority: int = 0
    timeout_s: int = 7200
    task_timeout_s: int | None = None
    idempotency_key: str | None = Field(default=None, unique=True, max_length=128)
    retry_of: str | None = Field(default=None, max_length=36)
    requested_by: str = Field(max_length=128)
    asker: str | None = Field(
        default=None, max_length=64, description="Whose rights it has: `api_key:<id>`, `user:<id>`; null: Muster's own."
    )
    status: JobStatus = Field(default=JobStatus.QUEUED, sa_type=enum_type(JobStatus), index=True)
    reason: str | None = Field(default=None, max_length=1024, description="Why it ended as it did, in words.")
    attempt: int = 0
    fence: int = Field(default=0, description="Grows with every run that begins: the later of two runs has the higher one.")
    worker: str | None = Field(default=None, max_length=128)
    supervisor_pid: int | None = None
    lease_until: datetime | None = None
    cancel_requested_at: datetime | None = None
    created_at: datetime = Field(default_factory=utcnow)
    started_at: datetime | None = None
    finished_at: datetime | None = None
    rc: int | None = None
    recap: dict[str, Any] = Field(default_factory=dict, sa_type=sa.JSON)
    events_expected: int | None = None
    ansible_version: str | None = Field(default=None, max_length=32)
    playbook_revision: str | None = Field(default=None, max_length=64)


class JobHost(ControlTable, table=True):
    """A host that a job is for. The name stays when the host is deleted."""

    __tablename__ = "job_host"

    job_id: str = Field(primary_key=True, foreign_key="job.id", ondelete="CASCADE", max_length=36)
    host_id: str = Field(primary_key=True, index=True, max_length=36)
    name: str = Field(max_length=63)


class JobInventory(ControlTable, table=True):
    """The snapshot of the inventory that the latest attempt of a job was given."""

    __tablename__ = "job_inventory"

    job_id: str = Field(primary_key=True, foreign_key="job.id", ondelete="CASCADE", max_length=36)
    attempt: int
    snapshot: dict[str, Any] = Field(sa_type=sa.JSON)


class HostLock(ControlTable, table=True):
    """The job that may change a host now. A row exists only while it is held."""

    __tablename__ = "host_lock"

    host_id: str = Field(primary_key=True, max_length=36)
    job_id: str = Field(foreign_key="job.id", ondelete="CASCADE", index=True, max_length=36)
    at: datetime = Field(default_factory=utcnow)


class WorkerPresence(ControlTable, table=True):
    """A worker that was there lately. One that stops takes its row away; one that is killed leaves it to grow old."""

    __tablename__ = "worker_presence"

    name: str = Field(primary_key=True, max_length=128)
    seen_at: datetime


class HostDrift(ControlTable, table=True):
    """What the latest drift check found on a host."""

    __tablename__ = "host_drift"

    host_id: str = Field(primary_key=True, foreign_key="host.id", ondelete="CASCADE", max_length=36)
    status: HostStatus = Field(sa_type=enum_type(HostStatus))
    reason: str | None = Field(default=None, max_length=256, description="Why nothing is known.")
    checked_at: datetime = Field(default_factory=utcnow)
    job_id: str = Field(max_length=36)
    tasks: list[dict[str, Any]] = Field(sa_type=sa.JSON)


class Plan(ControlTable, table=True):
    """What a run would change, and what that was worked out from."""

    __tablename__ = "plan"

    job_id: str = Field(primary_key=True, foreign_key="job.id", ondelete="CASCADE", max_length=36)
    basis: dict[str, str] = Field(sa_type=sa.JSON)
    plan_hash: str | None = Field(default=None, index=True, max_length=64)
    hosts: list[dict[str, Any]] = Field(default_factory=list, sa_type=sa.JSON)


class JobEvent(TelemetryTable, table=True):
    """One event of a run. ``id`` is the cursor of readers."""

    __tablename__ = "job_event"
    __table_args__ = (sa.UniqueConstraint("job_id", "attempt", "counter"), {"sqlite_autoincrement": True})

    id: int | None = Field(default=None, primary_key=True, sa_type=sa.BigInteger().with_variant(sa.Integer, "sqlite"))
    job_id: str = Field(index=True, max_length=36)
    attempt: int
    counter: int
    event: str = Field(max_length=64)
    at: datetime = Field(index=True)
    host: str | None = Field(default=None, max_length=256)
    play: str | None = Field(default=None, max_length=512)
    role: str | None = Field(default=None, max_length=256)
    task: str | None = Field(default=None, max_length=512)
    status: str | None = Field(default=None, max_length=16)
    duration_s: float | None = None
    stdout: str = ""
    diff: str | None = None
