"""All queries on models and their artifacts, and on where nodes report them."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import func
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from control_api.catalogue.lifecycle import Sighting
from control_api.catalogue.models import Artifact, Model
from control_api.catalogue.schemas import MemoryNeed
from control_api.fleet.models import Node, NodeModel
from control_api.fleet.repository import GivenReport, given_reports, read_given
from control_api.fleet.served import Served, believed, served
from control_api.fleet.states import NodeState
from control_api.kit.paging import page
from control_api.kit.revision import MODELS, Revision

_PROGRESS = (NodeModel.bytes_done, NodeModel.bytes_total)


class NodeStamp(NamedTuple):
    """What tells whether a node's reports, and what it was given, are still those that were read."""

    node_id: str
    name: str
    state: NodeState
    models_revision: int
    manifest_revision: int


async def get_model(session: AsyncSession, model_id: str) -> Model | None:
    """Return a registered model by id."""
    return await session.get(Model, model_id)


async def list_models(session: AsyncSession) -> list[Model]:
    """Return all registered models in the order in which they were registered."""
    return list((await session.exec(select(Model).order_by(col(Model.created_at), col(Model.id)))).all())


async def page_models(session: AsyncSession, cursor: str | None, limit: int) -> tuple[list[Model], str | None]:
    """Return a page of registered models by id."""
    return await page(session, select(Model), Model.id, cursor=cursor, limit=limit)


async def model_ids(session: AsyncSession, limit: int = 20) -> list[str]:
    """Return the first ids of registered models, for error messages."""
    return list((await session.exec(select(Model.id).order_by(col(Model.id)).limit(limit))).all())


async def artifacts(session: AsyncSession, models: Collection[str] | None = None) -> dict[str, list[Artifact]]:
    """Return the artifacts of all models, or of those with these ids, by model and in order."""
    statement = select(Artifact).order_by(col(Artifact.model_id), col(Artifact.position))
    if models is not None:
        statement = statement.where(col(Artifact.model_id).in_(models))
    found: dict[str, list[Artifact]] = defaultdict(list)
    for artifact in (await session.exec(statement)).all():
        found[artifact.model_id].append(artifact)
    return found


async def sightings(session: AsyncSession, models: Collection[str] | None = None) -> dict[str, list[Sighting]]:
    """Return where nodes report all models, or those with these ids, by model and by the node's name."""
    its_node = col(Node.id) == col(NodeModel.node_id)
    statement = given_reports(NodeModel.node_id, Node.name, Node.state, *_PROGRESS).join(Node, its_node).order_by(Node.name)
    if models is not None:
        statement = statement.where(col(NodeModel.model_id).in_(models))
    found: dict[str, list[Sighting]] = defaultdict(list)
    for report in await read_given(session, statement):
        node_id, name, state, *progress = report.rest
        found[report.model_id].append(_sighting(report, node_id, name, state, progress))
    return found


def _sighting(report: GivenReport, node_id: str, name: str, state: NodeState, progress: Sequence[Any]) -> Sighting:
    told = believed(report.model_id, report.given, report.told)
    ready = served(report.model_id, report.given, report.told) is Served.LOADED
    bytes_done, bytes_total = progress
    return Sighting(node_id, name, state, told, bytes_done, bytes_total, ready)


def _stamps_statement() -> sa.Select[Any]:
    known = sa.select(col(Revision.value)).where(col(Revision.name) == MODELS).scalar_subquery()
    models = sa.select(func.coalesce(known, 0).label("revision")).subquery()
    columns = map(col, (Node.id, Node.name, Node.state, Node.models_revision, Node.manifest_revision))
    return sa.select(models.c.revision, *columns).select_from(models.outerjoin(Node, sa.true())).order_by(col(Node.name))


# Made once: making it costs more than what it asks.
_STAMPS = _stamps_statement()


async def models_and_node_stamps(session: AsyncSession) -> tuple[int, list[NodeStamp]]:
    """Return the revision of the registered models and the stamps of all nodes, by name.

    In one statement, because on SQLite each costs several switches between threads.
    """
    rows = (await (await session.connection()).execute(_STAMPS)).all()
    return rows[0][0], [NodeStamp._make(row[1:]) for row in rows if row[1] is not None]


async def sightings_of(
    session: AsyncSession, nodes: Collection[NodeStamp], models: Collection[str]
) -> dict[str, dict[str, Sighting]]:
    """Return what nodes report of models, by node and model; plain rows, for there may be tens of thousands."""
    found: dict[str, dict[str, Sighting]] = {stamp.node_id: {} for stamp in nodes}
    if not found:
        return found
    by_id, wanted = {stamp.node_id: stamp for stamp in nodes}, set(models)
    statement = given_reports(NodeModel.node_id, *_PROGRESS).where(col(NodeModel.node_id).in_(by_id))
    for report in await read_given(session, statement):
        if report.model_id in wanted:
            stamp, progress = by_id[report.rest[0]], report.rest[1:]
            found[stamp.node_id][report.model_id] = _sighting(report, stamp.node_id, stamp.name, stamp.state, progress)
    return found


async def memory_of_registered(session: AsyncSession) -> dict[str, MemoryNeed | None]:
    """Return the memory that registered models need, by id; None where it is not known in parts."""
    rows = (await session.exec(select(Model.id, Model.memory))).all()
    return {model_id: MemoryNeed(**memory) if memory else None for model_id, memory in rows}
