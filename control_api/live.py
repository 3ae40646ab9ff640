"""WebSocket ``/v0/events``: what happens, as it happens.

Job events resume by id and are never lost; everything else answers ``reset`` on subscribing: read the list, then follow.
A connection lives as long as its credential: it is looked at again and again, and what has ended is closed within a second.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, WebSocket, WebSocketDisconnect
from fastapi.responses import JSONResponse
from pydantic import Field, ValidationError
from sqlalchemy.exc import SQLAlchemyError

from control_api.access.principal import Principal
from control_api.access.schemas import Scope
from control_api.automation import repository as jobs
from control_api.automation.schemas import JobEventOut
from control_api.errors import Forbidden, MusterError, Unavailable
from control_api.kit.wire import Wire

log = structlog.get_logger()

router = APIRouter(prefix="/v0", tags=["live"])

TOPICS = {"nodes", "tasks", "jobs", "models", "alerts"}
JOB_POLL_S = 0.3
JOB_BATCH = 500
MAX_JOBS = 32
# Of one key or user in one API process.
MAX_SOCKETS = 32
CHECK_S = 0.4
# For a client that does not read to be told that it is over.
LAST_WORDS_S = 0.3
CLOSE_REFUSED = 1008
CLOSE_RECONNECT = 1012
LARGEST_ID = 2**63 - 1

Topic = Annotated[str, Field(max_length=64, pattern=r"\A[0-9A-Za-z:-]+\z")]


class Subscribe(Wire):
    """What a client sends."""

    subscribe: Annotated[list[Topic], Field(max_length=MAX_JOBS + len(TOPICS))]
    after: Annotated[
        dict[Topic, Annotated[int, Field(strict=True, ge=0, le=LARGEST_ID)]], Field(max_length=MAX_JOBS + len(TOPICS))
    ] = {}


class TooManySockets(MusterError):
    """A credential that listens in too many places."""

    status, code = 429, "too_many_sockets"


@dataclass(frozen=True)
class Ending:
    """How a connection ends."""

    code: int
    reason: str


class Sockets:
    """The live connections of this process, counted by whose they are."""

    def __init__(self) -> None:
        self._open: Counter[tuple[str, str]] = Counter()

    @contextlib.contextmanager
    def one_of(self, principal: Principal) -> Iterator[None]:
        """Count one for the length of the block. Raises ``TooManySockets``."""
        holder = principal.kind, principal.id
        if self._open[holder] >= MAX_SOCKETS:
            raise TooManySockets(
                f"This credential has {MAX_SOCKETS} live connections.",
                hint="Follow several topics by one.",
                headers={"retry-after": "5"},
            )
        self._open[holder] += 1
        try:
            yield
        finally:
            self._open[holder] -= 1
            if not self._open[holder]:
                del self._open[holder]


@router.websocket("/events")
async def events(socket: WebSocket) -> None:
    """Follow topics. The credential is the ``Authorization`` header, as everywhere."""
    try:
        with socket.state.sockets.one_of(await _authenticate(socket)):
            await socket.accept()
            await _follow(socket)
    except MusterError as error:
        body = {"error": {"code": error.code, "message": error.message, "hint": error.hint}}
        await socket.send_denial_response(JSONResponse(body, error.status, error.headers))


async def _follow(socket: WebSocket) -> None:
    follower = _Follower(socket)
    ending = await _first_of(follower.listen(), follower.bus(), follower.jobs(), _watch(socket))
    if ending:
        with contextlib.suppress(WebSocketDisconnect, TimeoutError):
            async with asyncio.timeout(LAST_WORDS_S):
                await socket.close(ending.code, ending.reason)


async def _first_of(*works: Coroutine[Any, Any, Ending | None]) -> Ending | None:
    """Run these until one ends, and return how it did; ``None``: the client has left."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    try:
        return next(iter(ended)).result()
    except WebSocketDisconnect:
        return None


async def _authenticate(socket: WebSocket) -> Principal:
    scheme, _, credential = socket.headers.get("authorization", "").partition(" ")
    try:
        async with socket.state.database.control.read() as session:
            principal: Principal = await socket.state.access.authenticate(
                session, credential.strip() if scheme.lower() == "bearer" else ""
            )
    except SQLAlchemyError as error:
        raise Unavailable("The store does not answer.") from error
    if Scope.READ not in principal.scopes:
        raise Forbidden("This needs the scope 'read'.")
    return principal


async def _watch(socket: WebSocket) -> Ending:
    """Return when the credential is none any more. One that is only too old is renewed by connecting again."""
    while True:
        await asyncio.sleep(CHECK_S)
        try:
            await _authenticate(socket)
        except Unavailable as error:
            log.warning("live.store_unavailable", error=error.message)
        except MusterError as error:
            return Ending(CLOSE_RECONNECT if error.code == "token_expired" else CLOSE_REFUSED, error.message)


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

    async def _complain(self, message: str) -> None:
        await self._send({"type": "error", "message": message})

    async def listen(self) -> None:
        """Take subscriptions until the client leaves."""
        while (message := await self._socket.receive())["type"] != "websocket.disconnect":
            text = message.get("text")
            if text is None:
                await self._complain("Not a subscription: send text, not bytes.")
                continue
            try:
                wanted = Subscribe.model_validate_json(text)
            except ValidationError as error:
                await self._complain(f"Not a subscription: {error.errors()[0]['msg']}")
                continue
            for topic in wanted.subscribe:
                await self._subscribe(topic, wanted.after.get(topic, 0))

    async def _subscribe(self, topic: str, after: int) -> None:
        job_id = topic.removeprefix("job:")
        if topic in TOPICS:
            self._topics.add(topic)
            await self._send({"type": "reset", "topic": topic})
        elif job_id == topic or not job_id:
            await self._complain(f"No topic {topic!r}. Known: {', '.join(sorted(TOPICS))}, job:<id>.")
        elif job_id not in self._jobs and len(self._jobs) >= MAX_JOBS:
            await self._complain(f"No more than {MAX_JOBS} jobs are followed by one connection.")
        else:
            self._jobs[job_id] = after

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
            try:
                for job_id, after in list(self._jobs.items()):
                    await self._job(job_id, after)
            except SQLAlchemyError as error:
                log.warning("live.store_unavailable", error=str(error))
            await asyncio.sleep(JOB_POLL_S)

    async def _job(self, job_id: str, after: int) -> None:
        async with self._socket.state.database.telemetry.read() as session:
            rows = await jobs.events_after(session, job_id, after, JOB_BATCH)
        for row in rows:
            data = JobEventOut.model_validate(row).model_dump(mode="json")
            await self._send({"topic": f"job:{job_id}", "type": "job.event", "id": row.id, "at": data["at"], "data": data})
            self._jobs[job_id] = row.id or after
