"""What the fake control API does when it is asked to."""

from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter

from control_api.client.schemas import (
    Acceptance,
    Admission,
    JobStatus,
    NodeState,
    TaskStatus,
)
from tests.dashboards import fleet_data as data
from tests.dashboards import fleet_jobs, fleet_models
from tests.dashboards.fake_fleet import Fleet, problem


def of_hosts_nodes_and_jobs(fleet: Fleet) -> APIRouter:
    """Return the endpoints that change hosts, nodes and jobs."""
    router = APIRouter(prefix="/v0")

    @router.post("/hosts", status_code=201)
    async def add_host(body: dict[str, Any]) -> Any:
        if any(h.name == body["name"] for h in fleet.hosts):
            return problem(409, "host_exists", f"There is already a host named {body['name']}.")
        number = len(fleet.hosts) + 1
        added = data.host(number, body.pop("name"), "unprovisioned", node_id=None, host_key=None, **body)
        fleet.hosts.append(added)
        return added.model_dump(mode="json")

    @router.post("/hosts/{host_id}/accept")
    async def accept_host(host_id: str, body: dict[str, Any]) -> Any:
        found = next(h for h in fleet.hosts if h.id == host_id)
        accepted = found.model_copy(update={"acceptance": Acceptance.ACCEPTED, "accepted_by": "user:alice"})
        fleet.hosts = [accepted if h.id == host_id else h for h in fleet.hosts]
        fleet.announce("nodes", "host.changed", {"id": host_id})
        return accepted.model_dump(mode="json")

    @router.delete("/{kind}/{thing_id}", status_code=204)
    async def delete(kind: str, thing_id: str) -> None:
        setattr(fleet, kind, [thing for thing in getattr(fleet, kind) if thing.id != thing_id])
        fleet.announce(kind, "deleted", {"id": thing_id})

    @router.post("/jobs", status_code=202)
    async def add_job(body: dict[str, Any]) -> Any:
        hosts = [h for h in fleet.hosts if h.id in body["hosts"] or h.name in body["hosts"]]
        added = fleet_jobs.job(len(fleet.jobs) + 1, body["playbook"], "running", hosts, created_at=datetime.now(UTC), recap={})
        fleet.jobs.insert(0, added)
        fleet.announce("jobs", "job.updated", {"id": added.id, "status": added.status})
        return added.model_dump(mode="json")

    @router.post("/jobs/{job_id}/{action}", status_code=202)
    async def act_on_job(job_id: str, action: str) -> Any:
        found = next(j for j in fleet.jobs if j.id == job_id)
        if action == "retry":
            again = found.model_copy(update={"id": data.identifier(300 + len(fleet.jobs) + 1), "status": JobStatus.QUEUED})
            fleet.jobs.insert(0, again)
            return again.model_dump(mode="json")
        cancelled = found.model_copy(update={"status": JobStatus.CANCELLED, "finished_at": datetime.now(UTC)})
        fleet.replace_job(cancelled)
        return cancelled.model_dump(mode="json")

    @router.post("/nodes/{node_id}/{action}")
    async def act_on_node(node_id: str, action: str) -> Any:
        found = next(n for n in fleet.nodes if n.id == node_id)
        state, admission = {
            "drain": (NodeState.DRAINED, Admission.DRAINED),
            "resume": (NodeState.ONLINE, Admission.OPEN),
            "approve": (NodeState.REGISTERING, Admission.OPEN),
        }[action]
        changed = found.model_copy(update={"state": state, "admission": admission})
        fleet.replace_node(changed)
        return changed.model_dump(mode="json")

    return router


def of_models(fleet: Fleet) -> APIRouter:
    """Return the endpoints that change models and downloads."""
    router = APIRouter(prefix="/v0")

    @router.post("/models/register", status_code=201)
    async def register(body: dict[str, Any]) -> Any:
        wanted = body.get("model") or body.get("id")
        for entry in fleet.hub.models:
            if entry.id == wanted:
                entry.lifecycle_status = "registered"
                entry.status = "downloading"
        fleet.announce("models", "model.registered", {"id": wanted})
        return fleet_models.registered()[0].model_copy(update={"id": wanted}).model_dump(mode="json")

    @router.post("/models/distribute", status_code=202)
    async def distribute(body: dict[str, Any]) -> Any:
        return {"task_ids": [data.identifier(501)], "job_id": None, "skipped": [], "warnings": []}

    @router.post("/nodes/{node_id}/models/pull", status_code=202)
    async def pull(node_id: str, body: dict[str, Any]) -> Any:
        return {"task_ids": [data.identifier(501)], "job_id": None, "skipped": [], "warnings": []}

    @router.post("/tasks/{task_id}/cancel")
    async def cancel_task(task_id: str) -> Any:
        found = next(t for t in fleet.tasks if t.id == task_id)
        changed = found.model_copy(update={"status": TaskStatus.CANCELLED, "error": "Cancelled."})
        fleet.tasks = [changed if t.id == task_id else t for t in fleet.tasks]
        fleet.announce("tasks", "task.updated", {"id": task_id})
        return changed.model_dump(mode="json")

    return router
