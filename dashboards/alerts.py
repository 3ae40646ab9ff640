"""What is wrong right now, worst first, each with the page where it is put right."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

from control_api.client.schemas import HostState, JobStatus, ModelState, NodeOut, NodeState, TaskStatus
from dashboards.components.status import Kind
from dashboards.i18n import Language
from dashboards.store import Snapshot

RECENT = timedelta(hours=24)
_ORDER: dict[Kind, int] = {"bad": 0, "warn": 1, "info": 2, "idle": 3, "ok": 4}


@dataclass(frozen=True)
class Alert:
    """Something that wants a person. ``key`` names the thing; ``link`` and ``action`` lead to what can be done."""

    key: str
    kind: Kind
    icon: str
    title: str
    text: str
    link: str
    action: str


def find(snapshot: Snapshot, words: Language) -> list[Alert]:
    """Return what is wrong, worst first."""
    found = [*_nodes(snapshot, words), *_hosts(snapshot, words), *_jobs(snapshot, words), *_tasks(snapshot, words)]
    return sorted(found, key=lambda alert: _ORDER[alert.kind])


def page(name: str, **query: str) -> str:
    """Return the address of a page."""
    return f"/{name}" + (f"?{urlencode(query)}" if query else "")


def _nodes(snapshot: Snapshot, words: Language) -> Iterator[Alert]:
    _ = words.gettext
    for node in snapshot.nodes:
        link = page("nodes", id=node.id)
        if node.state is NodeState.OFFLINE:
            text = _("No heartbeat for a while. Requests go to other nodes.")
            yield Alert(
                f"node:{node.id}", "bad", "offline", _("Node %s is offline") % node.name, text, link, _("Look at the node")
            )
        elif node.state is NodeState.PENDING:
            text = _("It registered with a shared enrolment token and is not used before somebody lets it in.")
            title = _("Node %s waits for approval") % node.name
            yield Alert(f"node:{node.id}", "warn", "user", title, text, link, _("Approve"))
        elif node.degraded:
            title = _("Node %s is degraded") % node.name
            yield Alert(f"node:{node.id}", "warn", "warning", title, _why_degraded(node, words), link, _("Look at the node"))


def _why_degraded(node: NodeOut, words: Language) -> str:
    failed = [f"{model.id}: {model.error or ''}" for model in node.models if model.state is ModelState.FAILED]
    return " · ".join(failed) or words.gettext("Not all of its models are loaded.")


def _hosts(snapshot: Snapshot, words: Language) -> Iterator[Alert]:
    _ = words.gettext
    for host in snapshot.hosts:
        if host.state is HostState.FAILED:
            title = _("Host %s could not be provisioned") % host.name
            latest = next((job for job in snapshot.jobs if any(h.id == host.id for h in job.hosts)), None)
            text = (latest and latest.reason) or _("Its last job failed.")
            link = page("jobs", id=latest.id) if latest else page("hosts")
            yield Alert(f"host:{host.id}", "bad", "hosts", title, text, link, _("Look at the job"))


def _jobs(snapshot: Snapshot, words: Language) -> Iterator[Alert]:
    """Jobs that failed lately and that no later job of the same kind on the same hosts has put right."""
    _ = words.gettext
    told = {host.id for host in snapshot.hosts if host.state is HostState.FAILED}
    settled: set[tuple[str, str]] = set()
    for job in snapshot.jobs:
        things = {(job.playbook, host.id) for host in job.hosts}
        failed = job.status in (JobStatus.FAILED, JobStatus.LOST) and datetime.now(UTC) - job.created_at < RECENT
        if failed and not things <= settled and not {host.id for host in job.hosts} <= told:
            title = _("Job %s failed") % job.playbook
            hosts = ", ".join(host.name for host in job.hosts)
            yield Alert(
                f"job:{job.id}", "bad", "jobs", title, job.reason or hosts, page("jobs", id=job.id), _("Look at the job")
            )
        if job.status.is_final:
            settled |= things


def _tasks(snapshot: Snapshot, words: Language) -> Iterator[Alert]:
    """Downloads whose latest attempt failed, unless the node itself already says that it is degraded by it."""
    _ = words.gettext
    seen: set[tuple[str, str]] = set()
    degraded = {node.id for node in snapshot.nodes if node.degraded}
    for task in sorted(snapshot.tasks, key=lambda task: task.created_at, reverse=True):
        thing = (task.node_id, task.model_id)
        if task.status is TaskStatus.FAILED and thing not in seen and task.node_id not in degraded:
            node = snapshot.node(task.node_id)
            title = _("%(model)s did not reach %(node)s") % {
                "model": task.model_id,
                "node": node.name if node else task.node_id,
            }
            link = page("nodes", id=task.node_id)
            yield Alert(f"task:{task.id}", "bad", "download", title, task.error or "", link, _("Look at the node"))
        seen.add(thing)
