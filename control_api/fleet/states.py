"""States of hosts, nodes and their models. A node's is derived from our wish and its reports; pure, so all can be tested."""

from dataclasses import dataclass
from enum import StrEnum


class HostState(StrEnum):
    """What jobs made of a host; set only by job results."""

    UNPROVISIONED = "unprovisioned"
    PROVISIONING = "provisioning"
    PROVISIONED = "provisioned"
    FAILED = "failed"
    DECOMMISSIONED = "decommissioned"


class Acceptance(StrEnum):
    """Whether an admin said that a host is one of ours."""

    PROPOSED = "proposed"
    ACCEPTED = "accepted"


class Admission(StrEnum):
    """What we wish of a node."""

    PENDING = "pending"
    OPEN = "open"
    DRAINED = "drained"


class NodeState(StrEnum):
    """What a node is, derived from our wish and its reports."""

    PENDING = "pending"
    REGISTERING = "registering"
    ONLINE = "online"
    DRAINING = "draining"
    DRAINED = "drained"
    OFFLINE = "offline"


class ModelState(StrEnum):
    """What a node reports of a model."""

    ABSENT = "absent"
    QUEUED = "queued"
    DOWNLOADING = "downloading"
    VERIFYING = "verifying"
    INSTALLED = "installed"
    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"
    REMOVING = "removing"
    ORPHANED = "orphaned"


@dataclass(frozen=True)
class Facts:
    """What the state of a node follows from.

    ``was_online``: this start of the node service was online once, so models that are added later do not take it out.
    ``all_required``: the policy that counts a node as online only when every model is loaded.
    """

    admission: Admission
    silent: bool
    applied: bool
    was_online: bool
    loaded: int
    failed: int
    total: int
    in_flight: int
    all_required: bool = False


def derive(facts: Facts) -> NodeState:
    """Return the state that follows from the facts (design section 4, Node)."""
    if facts.admission is Admission.PENDING:
        return NodeState.PENDING
    if facts.silent:
        return NodeState.OFFLINE
    if facts.admission is Admission.DRAINED:
        return NodeState.DRAINING if facts.in_flight else NodeState.DRAINED
    return NodeState.ONLINE if facts.was_online or _models_settled(facts) else NodeState.REGISTERING


def _models_settled(facts: Facts) -> bool:
    if not facts.applied:
        return False
    if facts.all_required:
        return facts.loaded == facts.total
    return facts.loaded + facts.failed >= facts.total and (facts.loaded >= 1 or facts.total == 0)
