"""What each state looks like: a kind (which gives the colour), an icon and a word. Never colour alone."""

from dataclasses import dataclass
from typing import Literal

from control_api.client.schemas import Acceptance, HostOut, HostState, JobStatus, ModelState, NodeState, TaskStatus

Kind = Literal["ok", "info", "warn", "bad", "idle"]


def N_(text: str) -> str:  # noqa: N802 - the name that gettext's tools look for
    """Mark a text for translation where it is defined; it is translated where it is shown."""
    return text


@dataclass(frozen=True)
class Look:
    """How a state is shown. ``label`` is translated where it is shown."""

    kind: Kind
    icon: str
    label: str
    spin: bool = False


NODE: dict[NodeState, Look] = {
    NodeState.PENDING: Look("warn", "user", N_("Waiting for approval")),
    NodeState.REGISTERING: Look("info", "busy", N_("Registering"), spin=True),
    NodeState.ONLINE: Look("ok", "ready", N_("Online")),
    NodeState.DRAINING: Look("warn", "pause", N_("Draining")),
    NodeState.DRAINED: Look("idle", "pause", N_("Drained")),
    NodeState.OFFLINE: Look("bad", "offline", N_("Offline")),
}
DEGRADED = Look("warn", "warning", N_("Degraded"))

HOST: dict[HostState | Acceptance, Look] = {
    Acceptance.PROPOSED: Look("warn", "user", N_("Waiting for acceptance")),
    HostState.UNPROVISIONED: Look("idle", "none", N_("Not provisioned")),
    HostState.PROVISIONING: Look("info", "busy", N_("Provisioning"), spin=True),
    HostState.PROVISIONED: Look("ok", "ready", N_("Provisioned")),
    HostState.FAILED: Look("bad", "error", N_("Failed")),
    HostState.DECOMMISSIONED: Look("idle", "offline", N_("Decommissioned")),
}


def of_host(host: HostOut) -> HostState | Acceptance:
    """Return what a host is shown as: before an admin has accepted it, nothing else is of interest."""
    return host.acceptance if host.acceptance is Acceptance.PROPOSED else host.state


JOB: dict[JobStatus, Look] = {
    JobStatus.QUEUED: Look("idle", "clock", N_("Queued")),
    JobStatus.RUNNING: Look("info", "busy", N_("Running"), spin=True),
    JobStatus.SUCCESSFUL: Look("ok", "ready", N_("Successful")),
    JobStatus.FAILED: Look("bad", "error", N_("Failed")),
    JobStatus.CANCELLED: Look("idle", "stop", N_("Cancelled")),
    JobStatus.LOST: Look("bad", "warning", N_("Lost")),
}

MODEL: dict[ModelState, Look] = {
    ModelState.ABSENT: Look("idle", "none", N_("Absent")),
    ModelState.QUEUED: Look("idle", "clock", N_("Queued")),
    ModelState.DOWNLOADING: Look("info", "download", N_("Downloading")),
    ModelState.VERIFYING: Look("info", "busy", N_("Verifying"), spin=True),
    ModelState.INSTALLED: Look("info", "check", N_("Installed")),
    ModelState.LOADING: Look("info", "busy", N_("Loading"), spin=True),
    ModelState.READY: Look("ok", "ready", N_("Ready")),
    ModelState.FAILED: Look("bad", "error", N_("Failed")),
    ModelState.REMOVING: Look("idle", "busy", N_("Removing"), spin=True),
    ModelState.ORPHANED: Look("warn", "warning", N_("Not wanted any more")),
}

# Why a router takes a node out of rotation.
BREAKER: dict[str, str] = {
    "unreachable": N_("it cannot be reached"),
    "lost": N_("it cut off answers"),
    "silent": N_("it did not answer in time"),
    "error": N_("it answered with errors"),
    "breaks_streams": N_("it breaks streams off"),
}

WISH: dict[str, Look] = {
    "resident": Look("ok", "pin", N_("Always loaded")),
    "on_demand": Look("info", "clock", N_("Loaded on demand")),
    "refused": Look("bad", "error", N_("Refused")),
    "paused": Look("idle", "stop", N_("Cancelled")),
    "none": Look("idle", "none", N_("Not assigned")),
}

TASK: dict[TaskStatus, Look] = {
    TaskStatus.PENDING: Look("idle", "clock", N_("Waiting")),
    TaskStatus.WAITING_FOR_NODE: Look("warn", "offline", N_("Waiting for the node")),
    TaskStatus.IN_PROGRESS: Look("info", "download", N_("Downloading")),
    TaskStatus.COMPLETED: Look("ok", "ready", N_("Completed")),
    TaskStatus.FAILED: Look("bad", "error", N_("Failed")),
    TaskStatus.CANCELLED: Look("idle", "stop", N_("Cancelled")),
}

LIFECYCLE: dict[str, Look] = {
    "available": Look("idle", "none", N_("Available")),
    "pending": Look("info", "download", N_("On its way")),
    "registered": Look("info", "busy", N_("Registered"), spin=True),
    "ready": Look("ok", "ready", N_("Ready")),
}

EVENT: dict[str, Look] = {
    "ok": Look("ok", "check", N_("OK")),
    "changed": Look("warn", "retry", N_("Changed")),
    "failed": Look("bad", "error", N_("Failed")),
    "skipped": Look("idle", "none", N_("Skipped")),
    "unreachable": Look("bad", "offline", N_("Unreachable")),
}
