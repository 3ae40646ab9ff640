"""Rules of distribution, behind one door: what the fleet and the catalogue tell it, and what callers ask of it."""

from sqlmodel.ext.asyncio.session import AsyncSession

from control_api.access.preferences import preferences
from control_api.access.principal import Principal
from control_api.catalogue.models import Model
from control_api.catalogue.supported import SupportedModels
from control_api.distribution import fetches, grants, manifests, repository, tasks
from control_api.distribution.fetches import FetchDesk
from control_api.distribution.models import DownloadTask
from control_api.distribution.orders import Orders
from control_api.distribution.peers import Peers
from control_api.distribution.placing import Placer
from control_api.distribution.plans import plan_placement
from control_api.distribution.schemas import (
    DistributeOut,
    DistributeRequest,
    FetchOut,
    FetchRequest,
    FetchWait,
    Manifest,
    PlacementOut,
    PlacementRequest,
    PullRequest,
)
from control_api.distribution.states import TaskStatus
from control_api.errors import Conflict, NotFound
from control_api.fleet import repository as fleet_repository
from control_api.fleet.models import Assignment, Node
from control_api.fleet.reports import Heartbeat
from control_api.kit.secretbox import SecretBox
from control_api.settings import Settings


class DistributionService:
    """Places models on nodes, tells nodes what to hold, and follows how far each has come."""

    def __init__(self, settings: Settings, supported: SupportedModels, box: SecretBox) -> None:
        self._settings = settings
        self._supported = supported
        self._placer = Placer(settings, supported.official_ids)
        self._orders = Orders(self._placer)
        # Nodes do not reach a directory: they read it through the control API.
        limit, hub = settings.max_concurrent_downloads, None if settings.hub_mirror_dir else settings.hub_url
        self._desk = FetchDesk(Peers(box), self._placer, limit=limit, hub_endpoint=hub)

    # What the catalogue tells.

    async def model_registered(self, session: AsyncSession, model: Model) -> None:
        """Place a new model by policy, or one that asks for other tags now."""
        await self._placer.place_all(session, await repository.lock_nodes(session))

    async def model_configured(self, session: AsyncSession, model: Model) -> list[str]:
        """Let the nodes that hold a model run it another way; return where it has no room for that beside the others."""
        nodes = await repository.nodes_assigned(session, model.id)
        warnings = await self._placer.settle_anew(session, nodes, model)
        for node in nodes:
            await repository.bump_manifest(session, node)
        return warnings

    async def preferences_changed(self, session: AsyncSession) -> None:
        """Add to all nodes what is wanted there now. Nothing is taken away: that is for `DELETE /v0/models`."""
        await self._placer.place_all(session, await repository.lock_nodes(session))

    async def model_deleting(self, session: AsyncSession, model: Model) -> None:
        """Take a model off its nodes, end its tasks, and let what did not fit beside it take its place."""
        nodes = await manifests.take_off_all_nodes(session, model)
        for task in await repository.open_tasks(session, model_id=model.id):
            tasks.cancel(session, task, "The model was deleted.")
        await self._placer.place_all(session, nodes, without=model.id)

    # What the fleet tells.

    async def node_registered(self, session: AsyncSession, node: Node) -> None:
        """Place models on a node that came, or came again. Calling it once more changes nothing."""
        await self._placer.place_all(session, [node])

    async def node_came_online(self, session: AsyncSession, node: Node) -> None:
        """Look again at what did not fit before: disk may have become free, or its tags changed."""
        await self._placer.place_all(session, [node])

    async def node_removed(self, session: AsyncSession, node: Node) -> None:
        """Say that a node's tasks are over; their rows go with the node."""
        for task in await repository.open_tasks(session, node_id=node.id):
            tasks.cancel(session, task, "The node was removed.")
        await session.flush()

    async def heartbeat_applied(self, session: AsyncSession, node: Node, beat: Heartbeat) -> None:
        """Bring tasks, deletions and grants up to date with what a node reported."""
        tasks.apply_reports(session, await repository.open_tasks(session, node_id=node.id), list(beat.models))
        await manifests.note_applied(session, node, beat.applied_revision)
        await fetches.release_finished(session, node, beat)

    async def renew_fetches(self, session: AsyncSession, node_id: str, beat: Heartbeat) -> None:
        """Renew the grants that a heartbeat names."""
        await fetches.renew(session, node_id, beat)

    async def is_last_ready(self, session: AsyncSession, node_id: str) -> list[str]:
        """Return the models that only this online node can answer for."""
        return await repository.ready_only_on(session, node_id)

    # What callers ask.

    async def distribute(self, session: AsyncSession, model: Model, order: DistributeRequest, by: Principal) -> DistributeOut:
        """Order a model onto nodes; see ``Orders.distribute``."""
        return await self._orders.distribute(session, model, order, by)

    async def pull(self, session: AsyncSession, model: Model, node_id: str, order: PullRequest, by: Principal) -> DistributeOut:
        """Order a model onto one node."""
        wider = DistributeRequest(target="specific", node_ids=[node_id], **order.model_dump())
        return await self._orders.distribute(session, model, wider, by)

    async def plan_placement(self, session: AsyncSession, wanted: PlacementRequest) -> PlacementOut:
        """Return where models would go on nodes that do not exist yet; see ``plans.plan_placement``."""
        return await plan_placement(session, wanted, await preferences(session, self._settings), self._supported)

    async def manifest(self, session: AsyncSession, node_id: str, *, store_id: str) -> Manifest:
        """Return what a node shall hold. Raises ``NotFound``."""
        reserve_bytes = (await preferences(session, self._settings)).memory_reserve_bytes
        node = await self._node(session, node_id)
        return await manifests.manifest_of(session, node, store_id=store_id, memory_reserve_bytes=reserve_bytes)

    async def assignments(self, session: AsyncSession, node_id: str) -> list[Assignment]:
        """Return what is assigned to a node, by model id; also what is paused or does not fit. Raises ``NotFound``."""
        node = await self._node(session, node_id)
        rows = (await repository.assignments(session, [node.id]))[node.id]
        return [rows[model_id] for model_id in sorted(rows)]

    async def ask_fetch(self, session: AsyncSession, node_id: str, asked: FetchRequest) -> FetchOut | FetchWait:
        """Return leave for a node to fetch an artifact, or its place in the queue; see ``FetchDesk.ask``."""
        return await self._desk.ask(session, await self._node(session, node_id), asked)

    async def _node(self, session: AsyncSession, node_id: str) -> Node:
        node = await fleet_repository.get_node(session, node_id)
        if not node:
            raise NotFound(f"No node {node_id!r}.", code="unknown_node")
        return node

    async def task(self, session: AsyncSession, task_id: str) -> DownloadTask:
        """Return a download task. Raises ``NotFound``."""
        task = await repository.get_task(session, task_id)
        if not task:
            raise NotFound(f"No task {task_id!r}.", code="unknown_task")
        return task

    async def cancel(self, session: AsyncSession, task_id: str) -> DownloadTask:
        """Stop a download and pause its assignment; what is on the node's disk already stays there.

        Cancelling twice changes nothing. Raises ``Conflict`` for a task that has ended otherwise.
        """
        task = await self.task(session, task_id)
        nodes = await repository.lock_nodes(session, [task.node_id])
        await session.refresh(task)
        if task.status is TaskStatus.CANCELLED:
            return task
        if not task.status.is_open:
            raise Conflict(f"The task has {task.status} already.", code="task_ended")
        tasks.cancel(session, task, "Cancelled.")
        assignment = await repository.get_assignment(session, task.node_id, task.model_id)
        if assignment:
            assignment.paused = True
            session.add(assignment)
        for node in nodes:
            await grants.release(session, node.id, await repository.digests_of(session, task.model_id))
            await repository.bump_manifest(session, node)
        return task
