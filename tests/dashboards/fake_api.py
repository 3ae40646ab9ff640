"""The control API and the router as a dashboard sees them: real HTTP and WebSocket, the wire shapes, no store behind.

``python -m tests.dashboards.screenshots`` shows the dashboard on it.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response, WebSocket, WebSocketDisconnect
from fastapi.responses import StreamingResponse

from control_api.client.schemas import NodeOut, NodeState
from tests.dashboards import fake_actions
from tests.dashboards import fleet_data as data
from tests.dashboards.fake_fleet import Fleet, page, problem

PASSWORD = "correct horse battery"
GUESSED_TOO_OFTEN = "guessed too often"
SETUP_TOKEN = "first-start"
SERVICE_TOKEN = "service-token"
_TELLING = ("authorization", "x-muster-client")


def create_app(fleet: Fleet) -> FastAPI:
    """Return the fake control API; ``/v1`` of it is the fake router."""
    app = FastAPI()
    app.include_router(_auth(fleet))
    app.include_router(_reads(fleet))
    app.include_router(fake_actions.of_models(fleet))
    app.include_router(fleet.admin.router())
    app.include_router(fake_actions.of_hosts_nodes_and_jobs(fleet))
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


def _not_let_in(password: str) -> Any:
    if password == GUESSED_TOO_OFTEN:
        return problem(429, "too_many_attempts", "There were too many attempts.", details={"retry_after_s": 40})
    return problem(401, "login_failed", "The user name or the password is wrong.")


def _auth(fleet: Fleet) -> APIRouter:
    router = APIRouter(prefix="/v0/auth")

    @router.post("/login")
    async def login(request: Request, body: dict[str, str]) -> Any:
        fleet.logins.append({name: request.headers.get(name) for name in _TELLING} | body)
        if body["password"] != PASSWORD:
            return _not_let_in(body["password"])
        return _opened(fleet, body["username"]) | {"device": f"device-of-{body['username']}"}

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


def _alive(node: NodeOut) -> NodeOut:
    """A node that is not offline has just been heard."""
    if node.state is NodeState.OFFLINE:
        return node
    return node.model_copy(update={"last_heartbeat_at": datetime.now(UTC).replace(microsecond=0)})


def _reads(fleet: Fleet) -> APIRouter:
    router = APIRouter(prefix="/v0")
    lists: dict[str, Any] = {
        "/hosts": lambda: page(fleet.hosts),
        "/nodes": lambda: page([_alive(node) for node in fleet.nodes]),
        "/models": lambda: page(fleet.models),
        "/jobs": lambda: page(fleet.jobs),
        "/tasks": lambda: page(fleet.tasks),
        "/assignments": lambda: page(fleet.assignments),
        "/alerts": lambda: page(fleet.alerts),
        "/credentials": lambda: page([]),
        "/models/hub": lambda: fleet.hub.model_dump(mode="json"),
    }
    for path, answer in lists.items():
        router.add_api_route(path, answer, methods=["GET"])

    @router.get("/jobs/{job_id}")
    async def job(job_id: str) -> Any:
        found = [j for j in fleet.jobs if j.id == job_id]
        return (
            found[0].model_dump(mode="json") | {"slowest_tasks": fleet.slowest}
            if found
            else problem(404, "unknown_job", "There is no such job.")
        )

    @router.get("/jobs/{job_id}/changes")
    async def job_changes(job_id: str) -> Any:
        return page(fleet.changes)

    @router.get("/jobs/{job_id}/events")
    async def job_events(job_id: str, after: int = 0) -> Any:
        events = [e for e in fleet.events.get(job_id, []) if e.id > after]
        final = next(j for j in fleet.jobs if j.id == job_id).status.is_final
        return page(list(events)) | {"last_id": events[-1].id if events else after, "final": final}

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
            words = fleet.chat_pieces or [word + " " for word in ANSWER.split(" ")]
            try:
                for position, word in enumerate(words):
                    if fleet.chat_error_after is not None and position >= fleet.chat_error_after:
                        message = "The node gpu-01 stopped answering."
                        yield f"data: {json.dumps({'error': {'message': message, 'code': 'upstream_error'}})}\n\n"
                        return
                    yield f"data: {json.dumps({'choices': [{'delta': {'content': word}}]})}\n\n"
                    await asyncio.sleep(fleet.chat_pause_s)
                usage = {"prompt_tokens": 12, "completion_tokens": 40, "total_tokens": 52}
                yield f"data: {json.dumps({'choices': [], 'usage': usage})}\n\n"
                yield "data: [DONE]\n\n"
            except asyncio.CancelledError:
                fleet.chat_gone += 1
                raise

        return StreamingResponse(stream(), media_type="text/event-stream", headers={"x-muster-node": node_id})

    return router
