"""The control API and the router as a dashboard sees them: real HTTP and WebSocket, the wire shapes, no store behind.

``python -m tests.dashboards.screenshots`` shows the dashboard on it.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response, WebSocket, WebSocketDisconnect
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel

from control_api.client.schemas import (
    Admission,
    HostOut,
    HubOut,
    JobEventOut,
    JobOut,
    JobStatus,
    ModelOut,
    NodeOut,
    NodeState,
    TaskOut,
)
from tests.dashboards import fleet_data as data

PASSWORD = "correct horse battery"
SETUP_TOKEN = "first-start"
SERVICE_TOKEN = "service-token"


@dataclass
class Fleet:
    """What the fake knows. Tests change it and ``announce`` it."""

    hosts: list[HostOut] = field(default_factory=list)
    nodes: list[NodeOut] = field(default_factory=list)
    hub: HubOut = field(default_factory=data.hub)
    models: list[ModelOut] = field(default_factory=list)
    jobs: list[JobOut] = field(default_factory=list)
    events: dict[str, list[JobEventOut]] = field(default_factory=dict)
    tasks: list[TaskOut] = field(default_factory=list)
    sessions: set[str] = field(default_factory=set)
    admin_exists: bool = True
    refuse: dict[str, tuple[int, str, str]] = field(default_factory=dict)
    calls: list[tuple[str, str, Any]] = field(default_factory=list)
    chat_error_after: int | None = None
    chat_pause_s: float = 0.0
    chat_gone: int = 0
    listeners: set[asyncio.Queue[dict[str, Any]]] = field(default_factory=set)

    def announce(self, topic: str, kind: str, payload: dict[str, Any], event_id: int | None = None) -> None:
        """Tell every live connection. Call it on the server's loop."""
        message = {"topic": topic, "type": kind, "at": datetime.now(UTC).isoformat(), "data": payload}
        for queue in self.listeners:
            queue.put_nowait(message | ({"id": event_id} if event_id else {}))

    def add_event(self, job_id: str, event: JobEventOut) -> None:
        """Append a job's event and announce it."""
        self.events.setdefault(job_id, []).append(event)
        self.announce(f"job:{job_id}", "job.event", event.model_dump(mode="json"), event.id)

    def replace_node(self, changed: NodeOut) -> None:
        """Put a node in the place of the one with its id and announce it."""
        self.nodes = [changed if n.id == changed.id else n for n in self.nodes]
        self.announce("nodes", "node.state_changed", {"id": changed.id, "name": changed.name, "to": changed.state})

    def replace_job(self, changed: JobOut) -> None:
        """Put a job in the place of the one with its id and announce it."""
        self.jobs = [changed if j.id == changed.id else j for j in self.jobs]
        self.announce("jobs", "job.updated", {"id": changed.id, "status": changed.status})


def problem(status: int, code: str, message: str, hint: str | None = None) -> JSONResponse:
    body = {"error": {"code": code, "message": message, "hint": hint, "request_id": "req-1", "details": None}}
    return JSONResponse(body, status)


def page(items: list[Any]) -> dict[str, Any]:
    return {
        "items": [item.model_dump(mode="json") if isinstance(item, BaseModel) else item for item in items],
        "next_cursor": None,
    }


def create_app(fleet: Fleet) -> FastAPI:
    """Return the fake control API; ``/v1`` of it is the fake router."""
    app = FastAPI()
    app.include_router(_auth(fleet))
    app.include_router(_reads(fleet))
    app.include_router(_model_actions(fleet))
    app.include_router(_actions(fleet))
    app.include_router(_live(fleet))
    app.include_router(_router(fleet))

    @app.middleware("http")
    async def check(request: Request, call_next: Any) -> Response:
        path = request.url.path
        if path.startswith("/v0/auth/") and path != "/v0/auth/inference-token":
            response: Response = await call_next(request)
            return response
        if request.headers.get("authorization", "") not in _accepted(fleet):
            return problem(401, "unauthenticated", "No valid credential was given.")
        body = await request.body()
        if request.method != "GET":
            fleet.calls.append((request.method, path, json.loads(body) if body else None))
        if refusal := fleet.refuse.get(f"{request.method} {path}"):
            return problem(refusal[0], refusal[1], refusal[2])
        response = await call_next(request)
        return response

    return app


def _accepted(fleet: Fleet) -> set[str]:
    return {f"Bearer {SERVICE_TOKEN}", "Bearer inference-token"} | {f"Bearer access-{s}" for s in fleet.sessions}


def _opened(fleet: Fleet, name: str) -> dict[str, Any]:
    session_id = f"session-of-{name}-{len(fleet.sessions)}"
    fleet.sessions.add(session_id)
    return _session(session_id)


def _session(session_id: str) -> dict[str, Any]:
    name = session_id.split("-")[2]
    user = {"id": data.identifier(900), "name": name, "scopes": ["read"] if name == "viewer" else ["admin"]}
    return {"session_id": session_id, "access_token": f"access-{session_id}", "expires_in_s": 300, "user": user}


def _auth(fleet: Fleet) -> APIRouter:
    router = APIRouter(prefix="/v0/auth")

    @router.post("/login")
    async def login(body: dict[str, str]) -> Any:
        if body["password"] != PASSWORD:
            return problem(401, "login_failed", "The user name or the password is wrong.")
        return _opened(fleet, body["username"])

    @router.post("/setup")
    async def setup(body: dict[str, str]) -> Any:
        if fleet.admin_exists or body["token"] != SETUP_TOKEN:
            return problem(403, "setup_closed", "The set-up link is used up or has expired.")
        if len(body["password"]) < 10:
            return problem(422, "invalid_request", "password: must have at least 10 characters.")
        fleet.admin_exists = True
        return _opened(fleet, body["username"])

    @router.post("/refresh")
    async def refresh(body: dict[str, str]) -> Any:
        if body["session_id"] not in fleet.sessions:
            return problem(401, "session_ended", "This session has ended.")
        return _session(body["session_id"])

    @router.post("/logout", status_code=204)
    async def logout(body: dict[str, str]) -> None:
        fleet.sessions.discard(body["session_id"])

    @router.post("/inference-token")
    async def inference_token(request: Request, body: dict[str, Any]) -> Any:
        return {
            "token": "inference-token",
            "expires_at": datetime.now(UTC).isoformat(),
            "router_url": str(request.base_url).rstrip("/"),
        }

    return router


def _reads(fleet: Fleet) -> APIRouter:
    router = APIRouter(prefix="/v0")
    lists: dict[str, Any] = {
        "/hosts": lambda: page(fleet.hosts),
        "/nodes": lambda: page(fleet.nodes),
        "/models": lambda: page(fleet.models),
        "/jobs": lambda: page(fleet.jobs),
        "/tasks": lambda: page(fleet.tasks),
        "/credentials": lambda: page([]),
        "/models/hub": lambda: fleet.hub.model_dump(mode="json"),
    }
    for path, answer in lists.items():
        router.add_api_route(path, answer, methods=["GET"])

    @router.get("/jobs/{job_id}")
    async def job(job_id: str) -> Any:
        found = [j for j in fleet.jobs if j.id == job_id]
        return found[0].model_dump(mode="json") if found else problem(404, "unknown_job", "There is no such job.")

    @router.get("/jobs/{job_id}/events")
    async def job_events(job_id: str, after: int = 0) -> Any:
        events = [e for e in fleet.events.get(job_id, []) if e.id > after]
        final = next(j for j in fleet.jobs if j.id == job_id).status.is_final
        return page(list(events)) | {"last_id": events[-1].id if events else after, "final": final}

    return router


def _actions(fleet: Fleet) -> APIRouter:
    router = APIRouter(prefix="/v0")

    @router.post("/hosts", status_code=201)
    async def add_host(body: dict[str, Any]) -> Any:
        if any(h.name == body["name"] for h in fleet.hosts):
            return problem(409, "host_exists", f"There is already a host named {body['name']}.")
        number = len(fleet.hosts) + 1
        added = data.host(number, body.pop("name"), "unprovisioned", node_id=None, host_key=None, **body)
        fleet.hosts.append(added)
        return added.model_dump(mode="json")

    @router.delete("/{kind}/{thing_id}", status_code=204)
    async def delete(kind: str, thing_id: str) -> None:
        setattr(fleet, kind, [thing for thing in getattr(fleet, kind) if thing.id != thing_id])
        fleet.announce(kind, "deleted", {"id": thing_id})

    @router.post("/jobs", status_code=202)
    async def add_job(body: dict[str, Any]) -> Any:
        hosts = [h for h in fleet.hosts if h.id in body["hosts"] or h.name in body["hosts"]]
        added = data.job(len(fleet.jobs) + 1, body["playbook"], "running", hosts, created_at=datetime.now(UTC), recap={})
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


def _model_actions(fleet: Fleet) -> APIRouter:
    router = APIRouter(prefix="/v0")

    @router.post("/models/register", status_code=201)
    async def register(body: dict[str, Any]) -> Any:
        wanted = body.get("model") or body.get("id")
        for entry in fleet.hub.models:
            if entry.id == wanted:
                entry.lifecycle_status = "registered"
                entry.status = "downloading"
        fleet.announce("models", "model.registered", {"id": wanted})
        return data.registered()[0].model_copy(update={"id": wanted}).model_dump(mode="json")

    @router.post("/models/distribute", status_code=202)
    async def distribute(body: dict[str, Any]) -> Any:
        return {"task_ids": [data.identifier(501)], "job_id": None, "skipped": [], "warnings": []}

    return router


def _live(fleet: Fleet) -> APIRouter:
    router = APIRouter()

    @router.websocket("/v0/events")
    async def events(socket: WebSocket) -> None:
        if socket.headers.get("authorization", "") not in _accepted(fleet):
            await socket.close(1008)
            return
        await socket.accept()
        try:
            wanted = await socket.receive_json()
        except WebSocketDisconnect:
            return
        queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        fleet.listeners.add(queue)
        gone = asyncio.create_task(socket.receive())
        try:
            for topic in wanted["subscribe"]:
                if not topic.startswith("job:"):
                    await socket.send_json({"type": "reset", "topic": topic})
            while not gone.done():
                waiting = asyncio.create_task(queue.get())
                await asyncio.wait({waiting, gone}, return_when=asyncio.FIRST_COMPLETED)
                message = waiting.result() if waiting.done() else {}
                waiting.cancel()
                if message.get("close"):
                    await socket.close(1012)
                elif message.get("topic") in wanted["subscribe"]:
                    await socket.send_json(message)
        except WebSocketDisconnect:
            pass
        finally:
            gone.cancel()
            fleet.listeners.discard(queue)

    return router


ANSWER = """Sure. **Three things** to check first:

1. `nvidia-smi` on the host
2. the node's log
3. free disk space

```python
print("ready")
```
"""


def _router(fleet: Fleet) -> APIRouter:
    router = APIRouter(prefix="/v1")

    @router.get("/models")
    async def models() -> Any:
        ready = [m.id for m in fleet.hub.models if m.lifecycle_status == "ready"]
        return {"object": "list", "data": [{"id": m, "object": "model", "owned_by": "muster"} for m in ready]}

    @router.post("/chat/completions")
    async def chat(request: Request, body: dict[str, Any]) -> Any:
        pinned = request.headers.get("x-muster-pin-node")
        node_id = pinned or fleet.nodes[0].id

        async def stream() -> AsyncIterator[str]:
            words = ANSWER.split(" ")
            try:
                for position, word in enumerate(words):
                    if fleet.chat_error_after is not None and position >= fleet.chat_error_after:
                        message = "The node gpu-01 stopped answering."
                        yield f"data: {json.dumps({'error': {'message': message, 'code': 'upstream_error'}})}\n\n"
                        return
                    yield f"data: {json.dumps({'choices': [{'delta': {'content': word + ' '}}]})}\n\n"
                    await asyncio.sleep(fleet.chat_pause_s)
                usage = {"prompt_tokens": 12, "completion_tokens": 40, "total_tokens": 52}
                yield f"data: {json.dumps({'choices': [], 'usage': usage})}\n\n"
                yield "data: [DONE]\n\n"
            except asyncio.CancelledError:
                fleet.chat_gone += 1
                raise

        return StreamingResponse(stream(), media_type="text/event-stream", headers={"x-muster-node": node_id})

    return router


def rich_fleet() -> Fleet:
    """A fleet with something of everything."""
    hosts = [
        data.host(1, "gpu-01"),
        data.host(2, "gpu-02"),
        data.host(3, "gpu-03", tags=["site:osaka"]),
        data.host(4, "gpu-04", tags=["site:osaka", "h100"]),
        data.host(5, "gpu-05", "failed"),
        data.host(6, "gpu-06", "unprovisioned", node_id=None, host_key=None),
    ]
    reason = "gpu-05: The node service did not answer on port 8090 within 60 s."
    recap = {"gpu-05": {"ok": 22, "changed": 3, "failed": 1, "unreachable": 0, "skipped": 4}}
    jobs = [
        data.job(1, "site.yml", "running", hosts[2:4]),
        data.job(2, "site.yml", "failed", [hosts[4]], rc=2, reason=reason, recap=recap),
        data.job(3, "distribute_models.yml", "successful", hosts[:4]),
        data.job(4, "site.yml", "successful", hosts[:2]),
        data.job(5, "verify.yml", "cancelled", hosts[:1]),
    ]
    tasks = [
        data.download(1, 3, "gpt-oss:20b", "in_progress", 0.42, 12 * data.GB),
        data.download(2, 4, "gpt-oss:120b", "in_progress", 0.18, 65 * data.GB),
        data.download(3, 2, "smollm2:135m", "failed", 1.0, 98362432, error=_DAMAGED),
    ]
    events = {jobs[0].id: data.run_output(["gpu-03", "gpu-04"]), jobs[1].id: data.run_output(["gpu-05"], failing="gpu-05")}
    return Fleet(hosts=hosts, nodes=_rich_nodes(), models=data.registered(), jobs=jobs, tasks=tasks, events=events)


_DAMAGED = "The file is damaged: sha256 differs from the manifest."


def _rich_nodes() -> list[NodeOut]:
    broken = data.on_node("smollm2:135m", "failed", error=_DAMAGED, progress=0.0)
    coming = data.on_node("gpt-oss:20b", "downloading", progress=0.42, bytes_done=5_040_000_000, speed_bps=112_000_000)
    large = data.on_node("gpt-oss:120b", "downloading", progress=0.18, bytes_done=11_700_000_000, bytes_total=65_000_000_000)
    none_loaded = {"loaded": 0, "total": 1}
    return [
        data.node(1, "gpu-01"),
        data.node(
            2,
            "gpu-02",
            degraded=True,
            ready_models={"loaded": 1, "total": 2},
            models=[data.on_node("gpt-oss:20b", in_flight=3), broken],
        ),
        data.node(3, "gpu-03", "registering", tags=["site:osaka"], ready_models=none_loaded, models=[coming]),
        data.node(
            4,
            "gpu-04",
            "drained",
            admission="drained",
            tags=["site:osaka", "h100"],
            cards=data.gpus("NVIDIA H100 80GB HBM3", 85_520_809_984, [(0.2, 4.0, 41.0), (0.18, 2.0, 40.0)]),
            ready_models=none_loaded,
            models=[large | {"speed_bps": 96_000_000}],
            holds=[{"holder": "user:alice", "reason": "New power supply", "at": data.ago(1800)}],
        ),
        data.node(5, "gpu-05", "offline", metrics_stale=True, last_heartbeat_at=data.ago(412)),
        data.node(7, "gpu-07", "pending", admission="pending", host_id=None, ready_models={"loaded": 0, "total": 0}, models=[]),
    ]
