"""The states of jobs, and of hosts beside what the playbooks want."""

from enum import StrEnum


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


class JobPurpose(StrEnum):
    """What becomes of the result of a job."""

    RUN = "run"
    DRIFT = "drift"
    PLAN = "plan"
    APPLY = "apply"


class HostStatus(StrEnum):
    """How a host, or one task on it, compares to what the playbooks want."""

    IN_SYNC = "in_sync"
    DRIFTED = "drifted"
    UNKNOWN = "unknown"
