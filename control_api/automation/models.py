"""Tables and wire schemas of jobs and their events."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

import sqlalchemy as sa
from annotated_types import Ge, Le, MaxLen
from pydantic import AwareDatetime, StringConstraints
from pydantic import Field as PydanticField
from sqlmodel import Field

from control_api.kit.clock import utcnow
from control_api.kit.ids import new_id
from control_api.kit.tables import ControlTable, TelemetryTable, enum_type
from control_api.kit.wire import LineStr, Out, Page, Wire

Text = Annotated[str, StringConstraints(max_length=4096)]


class JobStatus(StrEnum):
    """States of a job."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCESSFUL = "successful"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"

    @property
    def is_final(self) -> bool:
        """Whether nothing more happens to a job in this state."""
        return self not in (JobStatus.QUEUED, JobStatus.RUNNING)


class Job(ControlTable, table=True):
    """One Ansible run: asked for, claimed, run, ended."""

    __tablename__ = "job"

    id: str = Field(default_factory=new_id, primary_key=True, max_length=36)
    playbook: str = Field(max_length=128)
    extra_vars: dict[str, Any] = Field(default_factory=dict, sa_type=sa.JSON)
    check: bool = False
    external: bool = False
    locks_hosts: bool = True
    priority: int = 0
    timeout_s: int = 7200
    idempotency_key: str | None = Field(default=None, unique=True, max_length=128)
    retry_of: str | None = Field(default=None, max_length=36)
    requested_by: str = Field(max_length=128)
    status: JobStatus = Field(default=JobStatus.QUEUED, sa_type=enum_type(JobStatus), index=True)
    reason: str | None = Field(default=None, max_length=1024, description="Why it ended as it did, in words.")
    attempt: int = 0
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


class JobHost(ControlTable, table=True):
    """A host that a job is for. The name stays when the host is deleted."""

    __tablename__ = "job_host"

    job_id: str = Field(primary_key=True, foreign_key="job.id", ondelete="CASCADE", max_length=36)
    host_id: str = Field(primary_key=True, index=True, max_length=36)
    name: str = Field(max_length=63)


class HostLock(ControlTable, table=True):
    """The job that may change a host now. A row exists only while it is held."""

    __tablename__ = "host_lock"

    host_id: str = Field(primary_key=True, max_length=36)
    job_id: str = Field(foreign_key="job.id", ondelete="CASCADE", index=True, max_length=36)
    at: datetime = Field(default_factory=utcnow)


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


class JobCreate(Wire):
    """``POST /v0/jobs``. ``hosts``: names or ids."""

    playbook: LineStr
    hosts: Annotated[list[LineStr], MaxLen(10_000)]
    extra_vars: dict[str, Any] = PydanticField(default_factory=dict)
    check: bool = False
    external: bool = False
    priority: Annotated[int, Ge(-100), Le(100)] = 0
    timeout_s: Annotated[int, Ge(10), Le(7 * 86400)] | None = None
    idempotency_key: Annotated[str, StringConstraints(min_length=1, max_length=128)] | None = None


class EventsOut(Out):
    """How complete the stored events of a job are."""

    stored: int
    expected: int | None


class JobHostOut(Out):
    """A host of a job."""

    id: str
    name: str


class JobOut(Out):
    """A job."""

    id: str
    playbook: str
    hosts: list[JobHostOut]
    extra_vars: dict[str, Any]
    check: bool
    external: bool
    status: JobStatus
    reason: str | None
    attempt: int
    rc: int | None
    priority: int
    timeout_s: int
    retry_of: str | None
    requested_by: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    cancel_requested_at: datetime | None
    recap: dict[str, Any]
    ansible_version: str | None
    waiting_for: str | None = None
    events: EventsOut


class JobEventOut(Out):
    """An event of a job."""

    id: int
    attempt: int
    counter: int
    event: str
    at: datetime
    host: str | None
    play: str | None
    role: str | None
    task: str | None
    status: str | None
    duration_s: float | None
    stdout: str
    diff: str | None


class JobEventsOut(Page[JobEventOut]):
    """Events in order. Ask again with ``after=last_id``; complete when ``final`` and there is nothing more."""

    last_id: int
    final: bool


class JobEventIn(Out):
    """An event of an external run, as the callback plugin posts it."""

    counter: Annotated[int, Ge(1), Le(1 << 31)]
    event: LineStr
    at: AwareDatetime
    host: Text | None = None
    play: Text | None = None
    role: Text | None = None
    task: Text | None = None
    status: LineStr | None = None
    duration_s: Annotated[float, Ge(0), Le(1 << 31)] | None = None
    stdout: str = ""
    diff: str | None = None


class ExternalEnd(Wire):
    """How an external run ended. ``events``: how many it sent in all."""

    rc: int
    recap: dict[LineStr, dict[LineStr, Annotated[int, Ge(0)]]] = PydanticField(default_factory=dict)
    events: Annotated[int, Ge(0)]


class JobEventsIn(Wire):
    """``POST /v0/jobs/{id}/events``. Each call renews the lease of the run, so an empty one is a sign of life."""

    events: Annotated[list[JobEventIn], MaxLen(500)] = PydanticField(default_factory=list)
    end: ExternalEnd | None = None
