"""Kinds of alerts, how bad each is, and their wire schema. There is no table: alerts follow from what the stores hold."""

from datetime import datetime
from enum import StrEnum

from control_api.kit.wire import Out


class Severity(StrEnum):
    """How bad it is. ``critical``: something does not work that should; ``warning``: there is less than there should be."""

    CRITICAL = "critical"
    WARNING = "warning"


class AlertKind(StrEnum):
    """What is wrong. A kind, once published, does not change."""

    NODE_OFFLINE = "node.offline"
    NODE_LEFT_DRAINED = "node.left_drained"
    NODE_MANIFEST_REFUSED = "node.manifest_refused"
    NODE_GPU_UNAVAILABLE = "node.gpu_unavailable"
    NODE_OUT_OF_ROTATION = "node.out_of_rotation"
    NODE_DEGRADED = "node.degraded"
    NODE_ERROR = "node.error"
    NODE_PEER_DISTRUSTED = "node.peer_distrusted"
    NODE_PENDING = "node.pending"
    HOST_PROPOSED = "host.proposed"
    HOST_FAILED = "host.failed"
    HOST_DRIFTED = "host.drifted"
    JOB_LOST = "job.lost"
    JOB_FAILED = "job.failed"
    WORKER_MISSING = "worker.missing"
    TASK_FAILED = "task.failed"
    MODEL_UNSCHEDULABLE = "model.unschedulable"

    @property
    def severity(self) -> Severity:
        """How bad it is."""
        return Severity.WARNING if self in _WARNINGS else Severity.CRITICAL


_WARNINGS = frozenset(
    {
        AlertKind.NODE_DEGRADED,
        AlertKind.NODE_ERROR,
        AlertKind.NODE_PEER_DISTRUSTED,
        AlertKind.NODE_PENDING,
        AlertKind.HOST_PROPOSED,
        AlertKind.HOST_DRIFTED,
        AlertKind.JOB_FAILED,
        AlertKind.TASK_FAILED,
        AlertKind.MODEL_UNSCHEDULABLE,
    }
)


class AlertSubject(Out):
    """What an alert is about: a ``node``, ``host``, ``job``, ``task``, ``model`` or ``worker``; name as people call it."""

    type: str
    id: str
    name: str


class AlertOut(Out):
    """One thing to act on. The same thing keeps its ``id`` for as long as it lasts.

    ``since``: when it began or, where nobody can know that, when it was found. ``hint``: what to do.
    """

    id: str
    kind: AlertKind
    severity: Severity
    subject: AlertSubject
    since: datetime
    message: str
    hint: str


def alert(kind: AlertKind, name: str, id_: str, *, since: datetime, message: str, hint: str, part: str = "") -> AlertOut:
    """Return an alert about the thing that its kind begins with.

    Parameters
    ----------
    part: which of several things of this kind it is, if a subject can have several.
    """
    return AlertOut(
        id=":".join(word for word in (kind, id_, part) if word),
        kind=kind,
        severity=kind.severity,
        subject=AlertSubject(type=kind.partition(".")[0], id=id_, name=name),
        since=since,
        message=message,
        hint=hint,
    )
