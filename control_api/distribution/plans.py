"""Where models would go on nodes that do not exist yet. Reads the store and changes nothing."""

from collections.abc import Collection

from sqlmodel.ext.asyncio.session import AsyncSession

from control_api.access.preferences import Preferences
from control_api.catalogue import repository as catalogue_repository
from control_api.catalogue.models import Model
from control_api.catalogue.supported import SupportedModels
from control_api.distribution.placement import Decision, place
from control_api.distribution.room import Need, room_of
from control_api.distribution.schemas import PlacementOut, PlacementRequest, PlannedModel, PlannedNode, PlannedRoom
from control_api.distribution.situation import need_of
from control_api.errors import NotFound


async def plan_placement(
    session: AsyncSession, wanted: PlacementRequest, now: Preferences, supported: SupportedModels
) -> PlacementOut:
    """Place models on nodes as they are described. Raises ``NotFound`` for a model that is neither registered nor supported."""
    needs = await _needs(session, wanted.models, supported)
    overrides = {"auto_distribution": wanted.policy, "memory_reserve_bytes": wanted.memory_reserve_bytes}
    chosen = now.model_copy(update={name: value for name, value in overrides.items() if value is not None})
    return PlacementOut(
        policy=chosen.auto_distribution,
        memory_reserve_bytes=chosen.memory_reserve_bytes,
        nodes=[_planned(node, needs, chosen, supported.official_ids) for node in wanted.nodes],
    )


async def _needs(session: AsyncSession, ids: list[str], supported: SupportedModels) -> list[Need]:
    registered = {model.id: model for model in await catalogue_repository.list_models(session)}
    return [_need(model_id, order, registered, supported) for order, model_id in enumerate(ids or registered)]


def _need(model_id: str, order: int, registered: dict[str, Model], supported: SupportedModels) -> Need:
    if model := registered.get(model_id):
        return need_of(model, disk_bytes=model.size_bytes, order=order)
    if not (entry := supported.get(model_id)):
        hint = "Name models that are registered or in the catalogue: `muster models hub`."
        raise NotFound(f"No model {model_id!r}.", code="unknown_model", hint=hint)
    memory = supported.memory(model_id)
    spread_bytes = memory.engine_bytes + memory.compute_bytes
    return Need(model_id, memory.total_bytes, entry.size_bytes, order, spread_bytes)


def _planned(node: PlannedNode, needs: list[Need], chosen: Preferences, official: Collection[str]) -> PlannedRoom:
    hardware = node.hardware.model_dump()
    for index, gpu in enumerate(hardware["gpus"]):
        gpu["uuid"] = gpu["uuid"] or f"gpu-{index}"
    empty = room_of(
        hardware,
        None,
        reserve_bytes=chosen.memory_reserve_bytes,
        disk_reserve_bytes=chosen.disk_reserve_bytes,
        tags=node.tags,
    )
    # With `off` nothing is placed by itself: then what would become of orders for all of them, one after the other.
    policy = "registered" if chosen.auto_distribution == "off" else chosen.auto_distribution
    decisions = place(policy, empty, (), needs, official)
    left = empty.without(decision.held for decision in decisions if decision.held)
    return PlannedRoom(
        name=node.name,
        memory_kind=empty.memory_kind,
        memory_total_bytes=empty.memory_total_bytes,
        memory_free_bytes=left.memory_free_bytes,
        disk_free_bytes=max(0, left.disk_free_bytes),
        models=[_out(decision) for decision in decisions],
    )


def _out(decision: Decision) -> PlannedModel:
    return PlannedModel(
        model_id=decision.model_id,
        required_memory_bytes=decision.need.memory_bytes,
        residency=decision.residency,
        gpus=list(decision.gpu_uuids),
        reason=decision.reason,
    )
