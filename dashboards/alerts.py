"""How what is wrong is shown: a title in the user's language, and the page where it is put right."""

from dataclasses import dataclass
from urllib.parse import urlencode

from control_api.client.schemas import AlertKind, AlertOut, Severity
from dashboards.components.status import N_, Kind
from dashboards.i18n import Language
from dashboards.store import Snapshot


@dataclass(frozen=True)
class Look:
    """How a kind of alert is shown; both texts are translated where they are shown."""

    icon: str
    title: str
    action: str = N_("Look at the node")


LOOKS: dict[AlertKind, Look] = {
    AlertKind.NODE_OFFLINE: Look("offline", N_("Node %s is offline")),
    AlertKind.NODE_LEFT_DRAINED: Look("pause", N_("Node %s was left drained")),
    AlertKind.NODE_MANIFEST_REFUSED: Look("shield", N_("Node %s belongs to another control plane")),
    AlertKind.NODE_GPU_UNAVAILABLE: Look("nodes", N_("Node %s does not see its GPUs")),
    AlertKind.NODE_OUT_OF_ROTATION: Look("offline", N_("Node %s is not reached by a router")),
    AlertKind.NODE_DEGRADED: Look("warning", N_("Node %s is degraded")),
    AlertKind.NODE_ERROR: Look("warning", N_("Node %s reports an error")),
    AlertKind.NODE_PEER_DISTRUSTED: Look("shield", N_("Node %s gave wrong bytes")),
    AlertKind.NODE_PENDING: Look("user", N_("Node %s waits for approval"), N_("Approve")),
    AlertKind.HOST_PROPOSED: Look("user", N_("Host %s waits for acceptance"), N_("Look at the hosts")),
    AlertKind.HOST_FAILED: Look("hosts", N_("The last job on host %s failed"), N_("Look at the job")),
    AlertKind.HOST_DRIFTED: Look("hosts", N_("Host %s has drifted"), N_("Look at the hosts")),
    AlertKind.JOB_LOST: Look("jobs", N_("Job %s was lost"), N_("Look at the job")),
    AlertKind.JOB_FAILED: Look("jobs", N_("Job %s failed"), N_("Look at the job")),
    AlertKind.WORKER_MISSING: Look("jobs", N_("No worker runs the jobs"), N_("Look at the jobs")),
    AlertKind.TASK_FAILED: Look("download", N_("Download failed: %s"), N_("Look at the node")),
    AlertKind.MODEL_UNSCHEDULABLE: Look("models", N_("Model %s fits on no node"), N_("Look at the model")),
}


@dataclass(frozen=True)
class Shown:
    """An alert as a page shows it; ``link`` and ``action`` lead to what can be done."""

    alert: AlertOut
    kind: Kind
    icon: str
    title: str
    link: str
    action: str


def show(fleet: Snapshot, words: Language) -> list[Shown]:
    """Return what is wrong as it is shown, in the order of the API: the critical first, of these the oldest."""
    return [_shown(alert, fleet, words) for alert in fleet.alerts]


def _shown(alert: AlertOut, fleet: Snapshot, words: Language) -> Shown:
    look, kind = LOOKS[alert.kind], kind_of(alert)
    title = words.gettext(look.title)
    return Shown(
        alert=alert,
        kind=kind,
        icon=look.icon,
        title=title % alert.subject.name if "%s" in title else title,
        link=_link(alert, fleet),
        action=words.gettext(look.action),
    )


def kind_of(alert: AlertOut) -> Kind:
    """Return the colour of an alert."""
    return "bad" if alert.severity is Severity.CRITICAL else "warn"


def _link(alert: AlertOut, fleet: Snapshot) -> str:
    subject = alert.subject
    if alert.kind is AlertKind.HOST_FAILED:
        latest = next((job for job in fleet.jobs if any(host.id == subject.id for host in job.hosts)), None)
        return page("jobs", id=latest.id) if latest else page("hosts")
    if subject.type == "task":
        task = next((task for task in fleet.tasks if task.id == subject.id), None)
        return page("nodes", id=task.node_id) if task else page("models", tab="downloads")
    if subject.type in ("host", "worker"):
        return page("hosts" if subject.type == "host" else "jobs")
    return page(f"{subject.type}s", id=subject.id)


def page(name: str, **query: str) -> str:
    """Return the address of a page."""
    return f"/{name}" + (f"?{urlencode(query)}" if query else "")
