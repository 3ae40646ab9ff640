"""Puts models on nodes: by policy when a node or a model comes, and the step that an order shares with it."""

from collections.abc import Collection, Sequence

from sqlmodel.ext.asyncio.session import AsyncSession

from control_api.access.preferences import preferences
from control_api.catalogue.models import Model
from control_api.distribution import repository, tasks
from control_api.distribution.models import DownloadTask
from control_api.distribution.placement import Decision, place, settle_anew
from control_api.distribution.situation import Situation, look
from control_api.distribution.states import TaskStatus
from control_api.fleet.models import Assignment, Node
from control_api.fleet.states import Admission, NodeState
from control_api.kit.clock import utcnow
from control_api.settings import Settings


class Placer:
    """Turns decisions into assignments and download tasks."""

    def __init__(self, settings: Settings, official_ids: Collection[str]) -> None:
        self._settings = settings
        self._official_ids = frozenset(official_ids)

    async def situation(self, session: AsyncSession, nodes: Collection[Node], *, without: str | None = None) -> Situation:
        """Read the situation of some nodes; ``without``: as if that model were not registered."""
        return await look(session, await preferences(session, self._settings), nodes, without=without)

    async def place_all(self, session: AsyncSession, nodes: Sequence[Node], *, without: str | None = None) -> None:
        """Add to each node what the policy wants there and what fits. What is there stays; pauses are respected.

        What is loaded on demand becomes resident where there is room for it now.
        """
        admitted = [node for node in nodes if node.admission is not Admission.PENDING]
        now = await self.situation(session, admitted, without=without)
        if now.preferences.auto_distribution == "off":
            return
        for node in admitted:
            await self._place(session, node, now)

    async def _place(self, session: AsyncSession, node: Node, now: Situation) -> None:
        assigned = now.assigned[node.id]
        waiting = {m for m, row in assigned.items() if row.is_wanted and row.residency == "on_demand"}
        candidates = [now.need(node, m) for m in now.models if m not in assigned or assigned[m].unschedulable or m in waiting]
        held = now.held(node, but=waiting)
        decisions = place(now.preferences.auto_distribution, now.room(node), held, candidates, self._official_ids)
        changed = [await self._apply(session, node, now, decision) for decision in decisions if decision.wanted]
        if any(changed):
            await repository.bump_manifest(session, node)

    async def _apply(self, session: AsyncSession, node: Node, now: Situation, decision: Decision) -> bool:
        """Carry out a decision and tell whether the node's manifest is another one now."""
        row = now.assigned[node.id].get(decision.model_id) or Assignment(node_id=node.id, model_id=decision.model_id)
        if row.is_wanted:
            return self.settle(session, row, decision) if decision.residency == "resident" else False
        row.unschedulable = None if decision.residency else decision.reason
        session.add(row)
        await session.flush()
        if decision.residency:
            self.settle(session, row, decision)
            await self.send(session, node, row, now.models[row.model_id])
        return decision.residency is not None

    async def settle_anew(self, session: AsyncSession, nodes: Sequence[Node], model: Model) -> list[str]:
        """Let nodes hold a model that needs another amount of memory now; say where it is no longer resident, and why."""
        now, warnings = await self.situation(session, nodes), []
        for node in nodes:
            row = now.assigned[node.id][model.id]
            if not row.is_wanted:
                continue
            others, need = now.held(node, but={model.id}), now.need(node, model.id)
            decision = settle_anew(now.room(node), others, need, row.gpu_uuids)
            self.settle(session, row, decision)
            if decision.residency == "on_demand":
                warnings.append(f"{node.name} loads {model.id} only when it is asked for: it {decision.reason}")
        return warnings

    def settle(self, session: AsyncSession, row: Assignment, decision: Decision) -> bool:
        """Write down how a model lives on its node and tell whether that is new."""
        before = (row.residency, row.gpu_uuids)
        row.residency, row.gpu_uuids = decision.residency or "resident", list(decision.gpu_uuids)
        row.residency_reason = decision.reason
        session.add(row)
        return before != (row.residency, row.gpu_uuids)

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
