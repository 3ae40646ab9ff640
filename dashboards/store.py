"""What the pages show: one copy of the fleet, kept fresh by one subscription, shared by every session that may see it."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import structlog

from control_api.client import ApiError, Client, NotSignedIn
from control_api.client.schemas import AlertOut, AssignmentOut, HostOut, HubOut, JobOut, ModelOut, NodeOut, TaskOut

log = structlog.get_logger()

TOPICS = ("nodes", "tasks", "jobs", "models", "alerts")
# Everything is read again this often, whatever the events say: figures of heartbeats have none.
REFRESH_S = 10.0
# Events come in bursts; a list is read once for all of them, and never more than a quarter of the time goes into reading.
GATHER_S = 0.3
REST_FACTOR = 3.0
# Failures are retried in silence for so long before anybody is told.
SILENCE_S = 8.0
JOBS_SHOWN = 200
TASKS_SHOWN = 500


@dataclass(frozen=True)
class Snapshot:
    """The fleet at one moment. ``loaded``: whether it has been read at all."""

    hosts: tuple[HostOut, ...] = ()
    nodes: tuple[NodeOut, ...] = ()
    models: tuple[ModelOut, ...] = ()
    hub: HubOut = field(default_factory=lambda: HubOut(models=[], hub_reachable=True))
    jobs: tuple[JobOut, ...] = ()
    tasks: tuple[TaskOut, ...] = ()
    assignments: tuple[AssignmentOut, ...] = ()
    alerts: tuple[AlertOut, ...] = ()
    loaded: bool = False
    problem: ApiError | None = None
    read_at: datetime | None = None

    @cached_property
    def wishes(self) -> Mapping[str, Mapping[str, AssignmentOut]]:
        """What shall be on each node, by model."""
        found: dict[str, dict[str, AssignmentOut]] = {}
        for wish in self.assignments:
            found.setdefault(wish.node_id, {})[wish.model_id] = wish
        return found

    @cached_property
    def open_tasks(self) -> Sequence[TaskOut]:
        """The downloads that have not ended."""
        return [task for task in self.tasks if task.status.is_open]

    @cached_property
    def latest_tasks(self) -> Mapping[tuple[str, str], TaskOut]:
        """The latest download of each model to each node."""
        oldest_first = sorted(self.tasks, key=lambda task: task.created_at)
        return {(task.node_id, task.model_id): task for task in oldest_first}

    def is_latest(self, task: TaskOut) -> bool:
        """Whether a download was not ordered again since."""
        return self.latest_tasks[task.node_id, task.model_id] is task

    def node(self, node_id: str) -> NodeOut | None:
        """Return a node by its id."""
        return next((node for node in self.nodes if node.id == node_id), None)

    def host(self, host_id: str) -> HostOut | None:
        """Return a host by its id."""
        return next((host for host in self.hosts if host.id == host_id), None)

    def job(self, job_id: str) -> JobOut | None:
        """Return a job by its id, if it is among the latest."""
        return next((job for job in self.jobs if job.id == job_id), None)


# Which lists an event of a topic makes out of date.
_TOUCHES = {
    "nodes": {"nodes", "hosts", "hub", "assignments"},
    "tasks": {"tasks", "nodes", "hub", "assignments"},
    "jobs": {"jobs", "hosts"},
    "models": {"models", "hub", "nodes", "assignments"},
    "alerts": {"alerts"},
}
_ALL = frozenset({"hosts", "nodes", "models", "hub", "jobs", "tasks", "assignments", "alerts"})


class FleetStore:
    """Reads the fleet through one client and tells its subscribers when something changed."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._snapshot = Snapshot()
        self._subscribers: set[Callable[[], None]] = set()
        self._stale: set[str] = set(_ALL)
        self._stirred = asyncio.Event()
        self._failing_since: float | None = None

    @property
    def snapshot(self) -> Snapshot:
        """The fleet as it was last read."""
        return self._snapshot

    @contextmanager
    def subscribed(self, callback: Callable[[], None]) -> Iterator[None]:
        """Call ``callback`` after each change while inside. It must return at once."""
        self._subscribers.add(callback)
        try:
            yield
        finally:
            self._subscribers.discard(callback)

    def touch(self, *lists: str) -> None:
        """Have lists (all, if none is named) read again now."""
        self._stale |= set(lists) or _ALL
        self._stirred.set()

    async def run(self) -> None:
        """Keep the snapshot fresh until cancelled. Ends with NotSignedIn when the credential is not accepted any more."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen(), name="dashboard-listen")
            tasks.create_task(self._read(), name="dashboard-read")

    async def _listen(self) -> None:
        while True:
            try:
                async with aclosing(self._client.events(TOPICS)) as events:
                    async for event in events:
                        self.touch(*_TOUCHES.get(event.topic, ()))
            except NotSignedIn:
                raise
            except ApiError as error:
                log.warning("dashboard.live_refused", error=str(error))
            await asyncio.sleep(REFRESH_S)

    async def _read(self) -> None:
        while True:
            started = time.monotonic()
            await self._turn()
            await asyncio.sleep(max(GATHER_S, REST_FACTOR * (time.monotonic() - started)))
            try:
                await asyncio.wait_for(self._stirred.wait(), REFRESH_S)
            except TimeoutError:
                self._stale |= _ALL

    async def _turn(self) -> None:
        wanted, self._stale = self._stale, set()
        self._stirred.clear()
        try:
            lists = await self._fetch(wanted)
        except NotSignedIn:
            raise
        except ApiError as error:
            self._stale |= wanted
            self._failed(error)
            return
        self._failing_since = None
        self._publish(replace(self._snapshot, **lists, loaded=True, problem=None, read_at=datetime.now(UTC)))

    async def _fetch(self, wanted: set[str]) -> dict[str, Any]:
        client = self._client
        readers: dict[str, Callable[[], Awaitable[object]]] = {
            "hosts": client.hosts.list,
            "nodes": client.nodes.list,
            "models": client.models.list,
            "hub": client.models.hub,
            "jobs": lambda: client.jobs.list(limit=JOBS_SHOWN),
            "tasks": lambda: client.tasks.list(limit=TASKS_SHOWN),
            "assignments": client.models.assignments,
            "alerts": client.alerts.list,
        }
        names = sorted(wanted)
        answers = await asyncio.gather(*(readers[name]() for name in names), return_exceptions=True)
        if failure := next((answer for answer in answers if isinstance(answer, BaseException)), None):
            raise failure
        return {
            name: tuple(answer) if isinstance(answer, list) else answer for name, answer in zip(names, answers, strict=True)
        }

    def _failed(self, error: ApiError) -> None:
        now = time.monotonic()
        self._failing_since = self._failing_since or now
        if now - self._failing_since >= SILENCE_S or not self._snapshot.loaded:
            self._publish(replace(self._snapshot, problem=error))

    def _publish(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        for callback in tuple(self._subscribers):
            callback()
