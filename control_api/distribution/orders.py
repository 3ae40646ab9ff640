"""Orders: somebody wants a model on nodes, now."""

from dataclasses import dataclass, field

from sqlmodel.ext.asyncio.session import AsyncSession

from control_api.access.principal import Principal
from control_api.catalogue.models import Model
from control_api.distribution import repository
from control_api.distribution.models import DownloadTask
from control_api.distribution.placement import decide
from control_api.distribution.placing import Placer
from control_api.distribution.schemas import DistributeOut, DistributeRequest, Skipped
from control_api.distribution.situation import Situation
from control_api.errors import Conflict, NotFound
from control_api.fleet.models import Assignment, Node
from control_api.fleet.states import NodeState

_OFFLINE = "is offline; order it with retry_when_online to have it sent when the node is back"


@dataclass
class _Run:
    """An order while it is carried out, and what became of it so far."""

    session: AsyncSession
    model: Model
    order: DistributeRequest
    now: Situation
    job_id: str | None
    tasks: list[DownloadTask] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    offline: int = 0

    def skip(self, node: Node, reason: str) -> None:
        self.skipped.append(Skipped(node_id=node.id, reason=f"{node.name} {reason}"))
        self.warnings.append(f"{node.name} {reason}")


class Orders:
    """Carries out orders."""

    def __init__(self, placer: Placer) -> None:
        self._placer = placer

    async def distribute(self, session: AsyncSession, model: Model, order: DistributeRequest, by: Principal) -> DistributeOut:
        """Order a model onto nodes. Ordering what is on its way already returns the task that there is.

        Raises ``NotFound`` for unknown nodes, ``Forbidden`` for nodes that a job's token does not cover, ``Conflict`` if every
        node is offline and the order may not wait.
        """
        nodes = await self._targets(session, order, by)
        now = await self._placer.situation(session, nodes)
        run = _Run(session, model, order, now, by.id if by.kind == "job" else None)
        for node in nodes:
            await self._order(run, node)
        if nodes and run.offline == len(nodes):
            names = ", ".join(node.name for node in nodes[:5])
            hint = "Order it with retry_when_online to have it sent when the node is back."
            details = [entry.model_dump() for entry in run.skipped]
            raise Conflict(f"Offline: {names}.", code="node_offline", hint=hint, details=details)
        task_ids = [task.id for task in run.tasks]
        return DistributeOut(task_ids=task_ids, job_id=run.job_id, skipped=run.skipped, warnings=run.warnings)

    async def _targets(self, session: AsyncSession, order: DistributeRequest, by: Principal) -> list[Node]:
        if order.target != "specific":
            nodes = await repository.lock_nodes(session)
            return [node for node in nodes if by.kind != "job" or node.host_id in by.host_ids]
        nodes = await repository.lock_nodes(session, order.node_ids)
        known = {node.id for node in nodes} | {node.name for node in nodes}
        if missing := [reference for reference in order.node_ids if reference not in known]:
            names = ", ".join(repr(m) for m in missing[:5])
            raise NotFound(
                f"No admitted node {names}.", code="unknown_node", hint="See `muster nodes list`; approve pending nodes first."
            )
        for node in nodes:
            by.check_host(node.host_id)
        return nodes

    async def _order(self, run: _Run, node: Node) -> None:
        model_id = run.model.id
        if under_way := await repository.open_tasks(run.session, node_id=node.id, model_id=model_id):
            run.tasks += under_way
        elif node.state is NodeState.OFFLINE and not run.order.retry_when_online:
            run.offline += 1
            run.skip(node, _OFFLINE)
        elif run.now.is_installed(node, model_id) and run.order.if_installed == "skip":
            run.skip(node, f"has {model_id} already; order it with if_installed 'redownload' to have it verified and repaired")
        else:
            await self._send_or_refuse(run, node)

    async def _send_or_refuse(self, run: _Run, node: Node) -> None:
        session, model, now = run.session, run.model, run.now
        row = now.assigned[node.id].get(model.id) or Assignment(node_id=node.id, model_id=model.id)
        decision = decide(now.room(node), now.held(node, but={model.id}), now.need(node, model.id))
        # `auto` means where it fits; and an order that cannot be carried out must not cost the node what it holds.
        least = "resident" if run.order.target == "auto" or (row.is_wanted and row.residency == "resident") else "on_demand"
        reason = decision.reason or ""
        if decision.residency in ("resident", least):
            self._placer.settle(session, row, decision)
            run.tasks.append(await self._placer.send(session, node, row, model, job_id=run.job_id))
            await repository.bump_manifest(session, node)
            if decision.residency == "on_demand":
                run.warnings.append(f"{node.name} loads {model.id} only when it is asked for: it {reason}")
        elif run.order.target == "auto" or row.is_wanted:
            run.skip(node, reason)
        else:
            run.tasks.append(await self._placer.refuse(session, node, row, model, reason, job_id=run.job_id))
            run.warnings.append(f"{node.name} {reason}")
