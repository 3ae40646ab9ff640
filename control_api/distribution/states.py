"""The states of a download task."""

from enum import StrEnum


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
