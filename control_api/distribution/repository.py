"""All queries on assignments, removals and download tasks."""

from collections import defaultdict
from collections.abc import Collection

import sqlalchemy as sa
from sqlalchemy import func
from sqlalchemy.orm.attributes import set_committed_value
from sqlmodel import col, delete, or_, select, update
from sqlmodel.ext.asyncio.session import AsyncSession

from control_api.catalogue.models import Artifact, Model
from control_api.distribution.models import DownloadTask, Removal
from control_api.distribution.states import OPEN_STATUSES, TaskStatus
from control_api.fleet.models import Assignment, Node, NodeModel
from control_api.fleet.repository import given_reports, read_given
from control_api.fleet.served import Served, served
from control_api.fleet.states import Admission, NodeState
from control_api.kit.paging import page
from control_api.kit.revision import ROUTES, bump
from control_api.kit.wire import BELIEVED_COUNTER


async def lock_nodes(session: AsyncSession, references: Collection[str] | None = None) -> list[Node]:
    """Return admitted nodes by name, all or those with these ids or names, locked until the transaction ends.

    The lock makes orders for one node follow each other; on SQLite there is one writer anyway.
    """
    statement = select(Node).where(Node.admission != Admission.PENDING)
    if references is not None:
        statement = statement.where(or_(col(Node.id).in_(references), col(Node.name).in_(references)))
    rows = (await session.exec(statement.order_by(col(Node.id)).with_for_update())).all()
    return sorted(rows, key=lambda node: node.name)


async def bump_manifest(session: AsyncSession, node: Node) -> int:
    """Give a node's manifest a new revision and return it; one statement, so that no two changes share one.

    Routers read anew: a node answers only for what its manifest lists.
    """
    await bump(session, ROUTES)
    statement = update(Node).where(col(Node.id) == node.id).values(manifest_revision=Node.manifest_revision + 1)
    returning = statement.returning(col(Node.manifest_revision)).execution_options(synchronize_session=False)
    revision: int = (await session.exec(returning)).scalar_one()
    set_committed_value(node, "manifest_revision", revision)
    return revision


async def raise_manifest(session: AsyncSession, node: Node, revision: int) -> None:
    """Give a node's manifest this revision."""
    await session.exec(update(Node).where(col(Node.id) == node.id).values(manifest_revision=revision))
    set_committed_value(node, "manifest_revision", revision)


async def assignments(session: AsyncSession, node_ids: Collection[str]) -> dict[str, dict[str, Assignment]]:
    """Return the assignments of nodes, by node and model."""
    found: dict[str, dict[str, Assignment]] = defaultdict(dict)
    for row in (await session.exec(select(Assignment).where(col(Assignment.node_id).in_(node_ids)))).all():
        found[row.node_id][row.model_id] = row
    return found


async def page_assignments(
    session: AsyncSession, *, node_id: str | None, model_id: str | None, cursor: str | None, limit: int
) -> tuple[list[Assignment], str | None]:
    """Return a page of assignments, oldest first."""
    statement = select(Assignment)
    if node_id is not None:
        statement = statement.where(Assignment.node_id == node_id)
    if model_id is not None:
        statement = statement.where(Assignment.model_id == model_id)
    return await page(session, statement, Assignment.id, cursor=cursor, limit=limit)


async def get_assignment(session: AsyncSession, node_id: str, model_id: str) -> Assignment | None:
    """Return the assignment of a model to a node."""
    statement = select(Assignment).where(Assignment.node_id == node_id, Assignment.model_id == model_id)
    return (await session.exec(statement)).first()


async def nodes_assigned(session: AsyncSession, model_id: str) -> list[Node]:
    """Return the nodes that a model is assigned to, by id, locked until the transaction ends."""
    statement = select(Node).join(Assignment, col(Assignment.node_id) == col(Node.id)).where(Assignment.model_id == model_id)
    return list((await session.exec(statement.order_by(col(Node.id)).with_for_update(of=Node))).all())


async def manifest_rows(session: AsyncSession, node_id: str) -> list[tuple[Assignment, Model, Artifact]]:
    """Return what a node shall hold, one row for each file: in the order of the orders, each in the files' order.

    Ids of tasks sort by the time of ordering.
    """
    its_task = sa.and_(
        col(DownloadTask.node_id) == col(Assignment.node_id),
        col(DownloadTask.model_id) == col(Assignment.model_id),
        col(DownloadTask.generation) == col(Assignment.generation),
    )
    statement = (
        select(Assignment, Model, Artifact)
        .join(Model, col(Model.id) == col(Assignment.model_id))
        .join(Artifact, col(Artifact.model_id) == col(Model.id))
        .join(DownloadTask, its_task, isouter=True)
        .where(Assignment.node_id == node_id, col(Assignment.paused).is_(False), col(Assignment.unschedulable).is_(None))
        .order_by(func.coalesce(DownloadTask.id, ""), col(Model.id), col(Artifact.position))
    )
    return [(row[0], row[1], row[2]) for row in (await session.exec(statement)).all()]


async def digests_needed(session: AsyncSession, node_id: str) -> set[str]:
    """Return the digests of all models that are assigned to a node, paused and unschedulable ones too."""
    statement = select(Artifact.sha256).join(Assignment, col(Assignment.model_id) == col(Artifact.model_id))
    return set((await session.exec(statement.where(Assignment.node_id == node_id))).all())


async def digests_of(session: AsyncSession, model_id: str) -> set[str]:
    """Return the digests of a model's files."""
    return set((await session.exec(select(Artifact.sha256).where(Artifact.model_id == model_id))).all())


async def removals(session: AsyncSession, node_id: str) -> list[str]:
    """Return the digests that a node shall delete, sorted."""
    return list(
        (await session.exec(select(Removal.sha256).where(Removal.node_id == node_id).order_by(col(Removal.sha256)))).all()
    )


async def add_removals(session: AsyncSession, node_id: str, digests: Collection[str], revision: int) -> None:
    """List digests for deletion from this revision of the node's manifest on."""
    for digest in sorted(digests):
        await session.merge(Removal(node_id=node_id, sha256=digest, revision=revision))


async def keep(session: AsyncSession, node_id: str, digests: Collection[str]) -> None:
    """Take digests off the list of what a node shall delete."""
    await session.exec(delete(Removal).where(col(Removal.node_id) == node_id, col(Removal.sha256).in_(digests)))


async def forget_removals(session: AsyncSession, node_id: str, applied_revision: int) -> None:
    """Forget the deletions that a node has carried out: those of the revision that it applied and of earlier ones."""
    await session.exec(delete(Removal).where(col(Removal.node_id) == node_id, col(Removal.revision) <= applied_revision))


async def delete_assignments(session: AsyncSession, model_id: str) -> None:
    """Take a model off all nodes."""
    await session.exec(delete(Assignment).where(col(Assignment.model_id) == model_id))


async def next_generation(session: AsyncSession, node_id: str, model_id: str) -> int:
    """Return a generation that neither a task nor a report of this node and model ever had."""
    ordered = select(func.max(DownloadTask.generation)).where(
        DownloadTask.node_id == node_id, DownloadTask.model_id == model_id
    )
    told = select(NodeModel.generation).where(NodeModel.node_id == node_id, NodeModel.model_id == model_id)
    reported = (await session.exec(told)).first() or 0
    # Reports count because of restored backups, unless they are beyond anything that was ever given out.
    return max((await session.exec(ordered)).one() or 0, reported if reported < BELIEVED_COUNTER else 0) + 1


async def get_task(session: AsyncSession, task_id: str) -> DownloadTask | None:
    """Return a download task by id."""
    return await session.get(DownloadTask, task_id)


async def open_tasks(session: AsyncSession, *, node_id: str | None = None, model_id: str | None = None) -> list[DownloadTask]:
    """Return the tasks to which something may still happen, of a node, of a model, or of both."""
    statement = select(DownloadTask).where(col(DownloadTask.status).in_(OPEN_STATUSES))
    if node_id is not None:
        statement = statement.where(DownloadTask.node_id == node_id)
    if model_id is not None:
        statement = statement.where(DownloadTask.model_id == model_id)
    return list((await session.exec(statement)).all())


async def nodes_of_tasks(session: AsyncSession, task_ids: Collection[str]) -> list[Node]:
    """Return the nodes that tasks are about."""
    theirs = select(DownloadTask.node_id).where(col(DownloadTask.id).in_(task_ids))
    return list((await session.exec(select(Node).where(col(Node.id).in_(theirs)))).all())


async def page_tasks(
    session: AsyncSession,
    *,
    ids: Collection[str] | None,
    node_id: str | None,
    status: TaskStatus | None,
    cursor: str | None,
    limit: int,
) -> tuple[list[DownloadTask], str | None]:
    """Return a page of tasks, newest first."""
    statement = select(DownloadTask)
    if ids is not None:
        statement = statement.where(col(DownloadTask.id).in_(ids))
    if node_id is not None:
        statement = statement.where(DownloadTask.node_id == node_id)
    if status is not None:
        statement = statement.where(DownloadTask.status == status)
    return await page(session, statement, DownloadTask.id, cursor=cursor, limit=limit, descending=True)


async def ready_only_on(session: AsyncSession, node_id: str) -> list[str]:
    """Return the models that this online node answers for and no other does, by id."""
    theirs = sa.select(col(NodeModel.model_id)).where(col(NodeModel.node_id) == node_id)
    statement = given_reports(NodeModel.node_id).join(Node, col(Node.id) == col(NodeModel.node_id))
    statement = statement.where(col(NodeModel.model_id).in_(theirs), col(Node.state) == NodeState.ONLINE)
    nodes: defaultdict[str, set[str]] = defaultdict(set)
    for model_id, told, given, (reporter,) in await read_given(session, statement):
        if served(model_id, given, told) is Served.LOADED:
            nodes[model_id].add(reporter)
    return sorted(model_id for model_id, holders in nodes.items() if holders == {node_id})
