"""Puts models on nodes: by policy when a node or a model comes, and the step that an order shares with it."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlmodel.ext.asyncio.session import AsyncSession

from control_api.catalogue import repository as catalogue_repository
from control_api.catalogue.models import Model
from control_api.distribution import repository, tasks
from control_api.distribution.models import Assignment, DownloadTask, TaskStatus
from control_api.distribution.placement import Need, Policy, Room, place, room_of
from control_api.fleet import repository as fleet_repository
from control_api.fleet.models import Admission, ModelState, Node, NodeModel, NodeState
from control_api.kit.clock import utcnow
from control_api.settings import Settings

ON_DISK = frozenset({ModelState.INSTALLED, ModelState.LOADING, ModelState.READY})


@dataclass(frozen=True)
class Situation:
    """What is registered, what is assigned to some nodes, and what they report."""

    models: dict[str, Model]
    order: dict[str, int]
    assigned: dict[str, dict[str, Assignment]]
    reported: dict[str, dict[str, NodeModel]]

    def held(self, node: Node, *, but: str | None = None) -> list[Need]:
        """Return the needs of the models that a node is to hold now, except one."""
        rows = self.assigned[node.id].values()
        return [self.need(node, row.model_id) for row in rows if row.is_wanted and row.model_id != but]

    def need(self, node: Node, model_id: str) -> Need:
        """Return what a model needs on a node, beside the bytes of it that are there."""
        model, report = self.models[model_id], self.reported[node.id].get(model_id)
        there_bytes = 0
        if report:
            complete = report.state in ON_DISK or report.state is ModelState.ORPHANED
            there_bytes = model.size_bytes if complete else report.bytes_done
        coming_bytes = max(0, model.size_bytes - there_bytes)
        return Need(model_id, model.required_memory_bytes, coming_bytes, self.order[model_id])

    def is_installed(self, node: Node, model_id: str) -> bool:
        """Whether a node has carried out the latest order of a model."""
        assignment, report = self.assigned[node.id].get(model_id), self.reported[node.id].get(model_id)
        if not assignment or not assignment.is_wanted or not report:
            return False
        return report.state in ON_DISK and report.generation == assignment.generation


class Placer:
    """Turns decisions into assignments and download tasks."""

    def __init__(self, settings: Settings, official_ids: Collection[str]) -> None:
        self._policy: Policy = settings.auto_distribution
        self._disk_reserve_bytes = settings.disk_reserve_bytes
        self._official_ids = frozenset(official_ids)

    async def situation(self, session: AsyncSession, nodes: Collection[Node], *, without: str | None = None) -> Situation:
        """Read the situation of some nodes; ``without``: as if that model were not registered."""
        ids = [node.id for node in nodes]
        models = {m.id: m for m in await catalogue_repository.list_models(session) if m.id != without}
        reported = defaultdict(
            dict,
            {
                node_id: {row.model_id: row for row in rows}
                for node_id, rows in (await fleet_repository.node_models(session, ids)).items()
            },
        )
        order = {model_id: position for position, model_id in enumerate(models)}
        return Situation(models, order, await repository.assignments(session, ids), reported)

    def room(self, node: Node) -> Room:
        """Return the room of a node as if it held nothing."""
        return room_of(node.hardware, node.disk, disk_reserve_bytes=self._disk_reserve_bytes)

    async def place_all(self, session: AsyncSession, nodes: Sequence[Node], *, without: str | None = None) -> None:
        """Add to each node what the policy wants there and what fits. What is there stays; pauses are respected."""
        if self._policy == "off":
            return
        admitted = [node for node in nodes if node.admission is not Admission.PENDING]
        now = await self.situation(session, admitted, without=without)
        for node in admitted:
            await self._place(session, node, now)

    async def _place(self, session: AsyncSession, node: Node, now: Situation) -> None:
        assigned = now.assigned[node.id]
        candidates = [now.need(node, m) for m in now.models if m not in assigned or assigned[m].unschedulable]
        decisions = place(self._policy, self.room(node), now.held(node), candidates, self._official_ids)
        for decision in decisions:
            row = assigned.get(decision.model_id) or Assignment(node_id=node.id, model_id=decision.model_id)
            row.unschedulable = decision.refusal
            session.add(row)
            await session.flush()
            if decision.refusal is None:
                await self.send(session, node, row, now.models[row.model_id])
        if any(decision.refusal is None for decision in decisions):
            await repository.bump_manifest(session, node)

    async def send(
        self, session: AsyncSession, node: Node, row: Assignment, model: Model, *, job_id: str | None = None
    ) -> DownloadTask:
        """Give an assignment a new generation with its task. The caller gives the manifest a new revision."""
        task = await self._next_task(session, node, row, model, job_id)
        task.status = TaskStatus.WAITING_FOR_NODE if node.state is NodeState.OFFLINE else TaskStatus.PENDING
        await repository.keep(session, node.id, await repository.digests_of(session, model.id))
        tasks.announce(session, task)
        await session.flush()
        return task

    async def refuse(
        self, session: AsyncSession, node: Node, row: Assignment, model: Model, reason: str, *, job_id: str | None = None
    ) -> DownloadTask:
        """Record an order that does not fit: the assignment says why, and its task has failed before the first byte."""
        task = await self._next_task(session, node, row, model, job_id)
        row.unschedulable = reason
        tasks.close(task, TaskStatus.FAILED, utcnow(), error=f"{model.id} does not fit on {node.name}: it {reason}.")
        tasks.announce(session, task)
        await session.flush()
        return task

    async def _next_task(
        self, session: AsyncSession, node: Node, row: Assignment, model: Model, job_id: str | None
    ) -> DownloadTask:
        row.generation = max(row.generation + 1, await repository.next_generation(session, node.id, model.id))
        row.paused, row.unschedulable = False, None
        session.add(row)
        return DownloadTask(
            node_id=node.id, model_id=model.id, generation=row.generation, bytes_total=model.size_bytes, job_id=job_id
        )
