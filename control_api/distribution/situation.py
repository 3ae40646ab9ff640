"""What is registered, assigned and reported, as placement looks at it."""

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from typing import cast

from sqlmodel.ext.asyncio.session import AsyncSession

from control_api.access.preferences import Preferences
from control_api.catalogue import repository as catalogue_repository
from control_api.catalogue.models import Model
from control_api.catalogue.schemas import MemoryNeed
from control_api.distribution import repository
from control_api.distribution.room import Held, Need, Residency, Room, room_of
from control_api.fleet import repository as fleet_repository
from control_api.fleet.models import Assignment, Node, NodeModel
from control_api.fleet.states import ModelState

ON_DISK = frozenset({ModelState.INSTALLED, ModelState.LOADING, ModelState.READY})


@dataclass(frozen=True)
class Situation:
    """What is registered, what is assigned to some nodes, what they report, and what an admin prefers."""

    preferences: Preferences
    models: dict[str, Model]
    order: dict[str, int]
    assigned: dict[str, dict[str, Assignment]]
    reported: dict[str, dict[str, NodeModel]]

    def room(self, node: Node) -> Room:
        """Return the room of a node as if it held nothing."""
        return room_of(
            node.hardware,
            node.disk,
            reserve_bytes=self.preferences.memory_reserve_bytes,
            disk_reserve_bytes=self.preferences.disk_reserve_bytes,
            tags=node.tags,
        )

    def held(self, node: Node, *, but: Collection[str] = ()) -> list[Held]:
        """Return the models that a node is to hold now, except some."""
        rows = self.assigned[node.id].values()
        return [
            Held(self.need(node, row.model_id), cast(Residency, row.residency), tuple(row.gpu_uuids))
            for row in rows
            if row.is_wanted and row.model_id not in but
        ]

    def need(self, node: Node, model_id: str) -> Need:
        """Return what a model needs on a node, beside the bytes of it that are there."""
        model, report = self.models[model_id], self.reported[node.id].get(model_id)
        there_bytes = 0
        if report:
            complete = report.state in ON_DISK or report.state is ModelState.ORPHANED
            there_bytes = model.size_bytes if complete else report.bytes_done
        coming_bytes = max(0, model.size_bytes - there_bytes)
        return need_of(model, disk_bytes=coming_bytes, order=self.order[model_id])

    def is_installed(self, node: Node, model_id: str) -> bool:
        """Whether a node has carried out the latest order of a model."""
        assignment, report = self.assigned[node.id].get(model_id), self.reported[node.id].get(model_id)
        if not assignment or not assignment.is_wanted or not report:
            return False
        return report.state in ON_DISK and report.generation == assignment.generation


def need_of(model: Model, *, disk_bytes: int, order: int) -> Need:
    """Return what a model needs of a node on which these bytes of it are missing."""
    parts = MemoryNeed(**model.memory) if model.memory else None
    return Need(
        model.id,
        model.required_memory_bytes,
        disk_bytes,
        order,
        spread_bytes=parts.engine_bytes + parts.compute_bytes if parts else 0,
        tags=frozenset(model.needs),
    )


async def look(
    session: AsyncSession, preferences: Preferences, nodes: Collection[Node], *, without: str | None = None
) -> Situation:
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
    return Situation(preferences, models, order, await repository.assignments(session, ids), reported)
