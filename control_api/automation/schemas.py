"""Wire schemas of jobs and their events."""

from datetime import datetime
from typing import Annotated, Any

from annotated_types import Ge, Le, MaxLen
from pydantic import AfterValidator, Field, StringConstraints

from control_api.automation.states import HostStatus, JobPurpose, JobStatus
from control_api.kit.wire import Counter, Instant, LineStr, Out, Page, Wire

Text = Annotated[str, StringConstraints(max_length=4096)]
PlaybookStr = Annotated[LineStr, MaxLen(128)]
CountStr = Annotated[str, StringConstraints(pattern="^(ok|changed|failed|unreachable|skipped|rescued|ignored)$")]


# What Muster itself asks for has keys that begin so; nobody else's may.
OWN_KEYS = "muster:"


def _not_own(key: str) -> str:
    if key.startswith(OWN_KEYS):
        raise ValueError(f"must not begin with {OWN_KEYS!r}")
    return key


class JobCreate(Wire):
    """``POST /v0/jobs``.

    ``hosts``: names or ids; ``tags``: only tasks with one of them, none: all; ``timeout_s``: of the whole run,
    ``task_timeout_s``: of each of its tasks.
    """

    playbook: PlaybookStr
    hosts: Annotated[list[LineStr], MaxLen(10_000)]
    extra_vars: dict[str, Any] = Field(default_factory=dict)
    tags: Annotated[list[LineStr], MaxLen(100)] = Field(default_factory=list)
    check: bool = False
    external: bool = False
    priority: Annotated[int, Ge(-100), Le(100)] = 0
    timeout_s: Annotated[int, Ge(10), Le(7 * 86400)] | None = None
    task_timeout_s: Annotated[int, Ge(1), Le(7 * 86400)] | None = None
    idempotency_key: Annotated[str, StringConstraints(min_length=1, max_length=128), AfterValidator(_not_own)] | None = None


class EventsOut(Out):
    """How complete the stored events of a job are. ``expected``: not known before the end, nor when they are no longer kept."""

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
    tags: list[str] = []
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
    playbook_revision: str | None = None
    task_timeout_s: int | None = None
    fence: int = 0
    purpose: JobPurpose = JobPurpose.RUN
    waiting_for: str | None = None
    events: EventsOut


class SlowTask(Out):
    """A task and how long it took where it took longest."""

    role: str | None
    task: str
    host: str
    duration_s: float


class JobDetail(JobOut):
    """A job, with what takes a look at its events."""

    slowest_tasks: list[SlowTask] = []


class ChangeOut(Out):
    """What a task changed on a host, or would have changed in check mode."""

    id: int
    at: datetime
    host: str | None
    play: str | None
    role: str | None
    task: str | None
    diff: str | None


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

    counter: Annotated[Counter, Ge(1)]
    event: LineStr
    at: Instant
    host: Text | None = None
    play: Text | None = None
    role: Text | None = None
    task: Text | None = None
    status: Annotated[LineStr, MaxLen(16)] | None = None
    duration_s: Annotated[float, Ge(0), Le(1 << 31)] | None = None
    stdout: str = ""
    diff: str | None = None


class ExternalEnd(Wire):
    """How an external run ended. ``events``: how many it sent in all. ``recap``: only the job's hosts are kept."""

    rc: Annotated[int, Ge(-(1 << 31)), Le((1 << 31) - 1)]
    recap: dict[LineStr, dict[CountStr, Counter]] = Field(default_factory=dict)
    events: Counter


class JobEventsIn(Wire):
    """``POST /v0/jobs/{id}/events``. Each call renews the lease of the run, so an empty one is a sign of life."""

    events: Annotated[list[JobEventIn], MaxLen(500)] = Field(default_factory=list)
    end: ExternalEnd | None = None


class HostsIn(Wire):
    """``POST /v0/drift`` and ``POST /v0/plan``. ``hosts``: names or ids; left out: all hosts in service."""

    hosts: Annotated[list[LineStr], MaxLen(10_000)] | None = None


class DriftApply(HostsIn):
    """``POST /v0/drift/apply``. ``hosts``: those that may be put right; ``tags``: only tasks with one of them, none: all."""

    tags: Annotated[list[LineStr], MaxLen(100)] = Field(default_factory=list)


class TaskFinding(Out):
    """What check mode says of a task on a host."""

    play: str | None
    role: str | None
    task: str | None
    status: HostStatus
    diff: str | None


class HostDriftOut(Out):
    """A host beside what the playbooks want. Unknown with a reason: never checked, not reached, or changed meanwhile."""

    host: JobHostOut
    status: HostStatus
    reason: str | None
    checked_at: datetime | None
    job_id: str | None
    tasks: list[TaskFinding]


class PlanHost(Out):
    """What would change on a host."""

    name: str
    changes: list[TaskFinding]


class PlanOut(Out):
    """A plan. ``plan_hash`` is there when its job was successful; without it there is nothing to apply."""

    job_id: str
    status: JobStatus
    reason: str | None
    plan_hash: str | None
    hosts: list[PlanHost]


class ApplyIn(Wire):
    """``POST /v0/apply``."""

    plan_hash: Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]
