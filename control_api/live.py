"""WebSocket ``/v0/events``: what happens, as it happens.

Job events resume by id and are never lost; everything else answers ``reset`` on subscribing: read the list, then follow.
"""

import asyncio
import contextlib
from typing import Annotated, Any

from fastapi import APIRouter, WebSocket, WebSocketDisconnect
from fastapi.responses import JSONResponse
from pydantic import Field, ValidationError

from control_api.access.schemas import Scope
from control_api.automation import repository as jobs
from control_api.automation.schemas import JobEventOut
from control_api.errors import Forbidden, MusterError
from control_api.kit.tasks import owned_task
from control_api.kit.wire import Wire

router = APIRouter(prefix="/v0", tags=["live"])

TOPICS = {"nodes", "tasks", "jobs", "models", "alerts"}
JOB_POLL_S = 0.3
JOB_BATCH = 500
MAX_JOBS = 32
# A credential is looked at when a client connects; so that a revoked one does not listen for ever, it connects again.
LIFE_S = 600
CLOSE_RECONNECT = 1012


class Subscribe(Wire):
    """What a client sends."""

    subscribe: Annotated[list[str], Field(max_length=MAX_JOBS + len(TOPICS))]
    after: dict[str, int] = {}


@router.websocket("/events")
async def events(socket: WebSocket) -> None:
    """Follow topics. The credential is the ``Authorization`` header, as everywhere."""
    try:
        await _authenticate(socket)
    except MusterError as error:
        await socket.send_denial_response(JSONResponse({"error": {"code": error.code, "message": error.message}}, error.status))
        return
    await socket.accept()
    follower = _Follower(socket)
    with contextlib.suppress(WebSocketDisconnect):
        async with owned_task(follower.bus(), name="ws-bus"), owned_task(follower.jobs(), name="ws-jobs"):
            await follower.listen()
            await socket.close(CLOSE_RECONNECT, "Connect again.")


async def _authenticate(socket: WebSocket) -> None:
    scheme, _, credential = socket.headers.get("authorization", "").partition(" ")
    async with socket.state.database.control.read() as session:
        principal = await socket.state.access.authenticate(session, credential if scheme.lower() == "bearer" else "")
    if Scope.READ not in principal.scopes:
        raise Forbidden("This needs the scope 'read'.")


class _Follower:
    """One client: its topics, and how far it has come in each job."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket
        self._topics: set[str] = set()
        self._jobs: dict[str, int] = {}
        self._sending = asyncio.Lock()

    async def _send(self, message: dict[str, Any]) -> None:
        async with self._sending:
            await self._socket.send_json(message)

    async def listen(self) -> None:
        """Take subscriptions until the client leaves, or has been here so long that its credential is checked again."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LIFE_S):
                await self._listen()

    async def _listen(self) -> None:
        while True:
            text = await self._socket.receive_text()
            try:
                wanted = Subscribe.model_validate_json(text)
            except ValidationError as error:
                await self._send({"type": "error", "message": f"Not a subscription: {error.errors()[0]['msg']}"})
                continue
            for topic in wanted.subscribe:
                await self._subscribe(topic, wanted.after.get(topic, 0))

    async def _subscribe(self, topic: str, after: int) -> None:
        job_id = topic.removeprefix("job:")
        if job_id != topic and len(self._jobs) < MAX_JOBS:
            self._jobs[job_id] = after
        elif topic in TOPICS:
            self._topics.add(topic)
            await self._send({"type": "reset", "topic": topic})
        else:
            await self._send({"type": "error", "message": f"No topic {topic!r}. Known: {', '.join(sorted(TOPICS))}, job:<id>."})

    async def bus(self) -> None:
        """Pass on the events of the topics."""
        with self._socket.state.bus.subscribe() as queue:
            while True:
                event = await queue.get()
                if event is None:
                    for topic in sorted(self._topics):
                        await self._send({"type": "reset", "topic": topic})
                elif event["topic"] in self._topics:
                    await self._send(event)

    async def jobs(self) -> None:
        """Pass on the events of the jobs, from where the client was."""
        while True:
            for job_id, after in list(self._jobs.items()):
                async with self._socket.state.database.telemetry.read() as session:
                    rows = await jobs.events_after(session, job_id, after, JOB_BATCH)
                for row in rows:
                    data = JobEventOut.model_validate(row).model_dump(mode="json")
                    await self._send(
                        {"topic": f"job:{job_id}", "type": "job.event", "id": row.id, "at": data["at"], "data": data}
                    )
                    self._jobs[job_id] = row.id or after
            await asyncio.sleep(JOB_POLL_S)
