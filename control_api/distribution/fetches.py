"""Leave to fetch: the one place that limits downloads across the fleet, in the order in which nodes asked."""

from typing import Any

from sqlalchemy import func
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, delete, select, update
from sqlmodel.ext.asyncio.session import AsyncSession

from control_api.catalogue.models import Artifact, Model
from control_api.distribution import repository
from control_api.distribution.models import FetchGrant, FetchOut, FetchWait
from control_api.errors import Conflict
from control_api.fleet.models import ModelState, Node
from control_api.fleet.schemas import ModelReport
from control_api.kit import revision
from control_api.kit.clock import db_now
from control_api.kit.ids import new_id

LEASE_S = 60
RETRY_AFTER_S = 5
# A node that stopped asking loses its place in the queue.
_WAIT_S = 4 * RETRY_AFTER_S
_TURN = "fetches"
_OVER = frozenset({ModelState.INSTALLED, ModelState.LOADING, ModelState.READY, ModelState.FAILED})


class FetchDesk:
    """Hands out grants. A node fetches one artifact at a time, so asking for the next gives the last one back."""

    def __init__(self, *, limit: int, hub_endpoint: str) -> None:
        self._limit = limit
        self._hub_endpoint = hub_endpoint

    async def ask(self, session: AsyncSession, node: Node, sha256: str) -> FetchOut | FetchWait:
        """Return leave to fetch an artifact now, with its sources, or the place in the queue.

        Asking again renews either, e.g. after a source failed. Raises ``Conflict`` if the node's manifest does not list it.
        """
        await _take_turn(session)
        sources = await self._sources(session, node, sha256)
        await session.exec(delete(FetchGrant).where(col(FetchGrant.expires_at) < db_now()))
        others = delete(FetchGrant).where(col(FetchGrant.node_id) == node.id, col(FetchGrant.sha256) != sha256)
        await session.exec(others)
        grant_id, granted = await _request(session, node, sha256)
        if not granted:
            position = await _position(session, grant_id)
            if position > self._limit - await _count(session):
                return FetchWait(retry_after_s=RETRY_AFTER_S, position=position)
        renewed = update(FetchGrant).where(col(FetchGrant.id) == grant_id).values(granted=True, expires_at=db_now(LEASE_S))
        await session.exec(renewed)
        return FetchOut(fetch_id=grant_id, lease_s=LEASE_S, sources=sources)

    async def _sources(self, session: AsyncSession, node: Node, sha256: str) -> list[dict[str, Any]]:
        rows = [(m, a) for _, m, a in await repository.manifest_rows(session, node.id) if a.sha256 == sha256]
        if not rows:
            raise Conflict(
                f"{node.name}'s manifest lists no file {sha256[:12]}…", code="not_assigned", hint="Read the manifest again."
            )
        return [self._hub_source(model, artifact) for model, artifact in rows]

    def _hub_source(self, model: Model, artifact: Artifact) -> dict[str, Any]:
        return {
            "kind": "hub",
            "endpoint": self._hub_endpoint,
            "repo": model.repo,
            "revision": model.revision,
            "path": artifact.path,
        }


async def _take_turn(session: AsyncSession) -> None:
    """Wait for other requests that decide; the counter's row stays locked until the end of the transaction.

    So two replicas never give the same place away.
    """
    try:
        async with session.begin_nested():
            await revision.bump(session, _TURN)
    except IntegrityError:
        # Another first request made the row at this moment.
        await revision.bump(session, _TURN)


async def _request(session: AsyncSession, node: Node, sha256: str) -> tuple[str, bool]:
    """Return the id of the node's request for an artifact and whether it was granted; make or renew it."""
    statement = (
        update(FetchGrant)
        .where(col(FetchGrant.node_id) == node.id, col(FetchGrant.sha256) == sha256)
        .values(expires_at=db_now(_WAIT_S))
        .returning(col(FetchGrant.id), col(FetchGrant.granted))
    )
    row = (await session.exec(statement)).first()
    if row:
        return row[0], row[1]
    grant = FetchGrant(
        id=new_id(), node_id=node.id, sha256=sha256, expires_at=(await session.exec(select(db_now(_WAIT_S)))).one()
    )
    session.add(grant)
    await session.flush()
    return grant.id, False


async def _position(session: AsyncSession, grant_id: str) -> int:
    """Return the place of a waiting request, from 1. Ids sort by the time of asking."""
    ahead = (
        select(func.count()).select_from(FetchGrant).where(col(FetchGrant.granted).is_(False), col(FetchGrant.id) < grant_id)
    )
    return (await session.exec(ahead)).one() + 1


async def _count(session: AsyncSession) -> int:
    """Return how many fetches are under way."""
    return (await session.exec(select(func.count()).select_from(FetchGrant).where(col(FetchGrant.granted).is_(True)))).one()


async def renew(session: AsyncSession, node_id: str, fetch_ids: list[str]) -> None:
    """Renew a node's grants that are in use."""
    mine = update(FetchGrant).where(col(FetchGrant.node_id) == node_id, col(FetchGrant.id).in_(fetch_ids))
    await session.exec(mine.where(col(FetchGrant.granted).is_(True)).values(expires_at=db_now(LEASE_S)))


async def release_finished(session: AsyncSession, node: Node, reports: list[ModelReport]) -> None:
    """Give back a node's grants for models that it says it has, or has given up."""
    generations = {report.id: report.generation for report in reports if report.state in _OVER}
    if not generations:
        return
    held = (await session.exec(select(FetchGrant.sha256).where(FetchGrant.node_id == node.id))).all()
    if not held:
        return
    rows = [row for row in await repository.manifest_rows(session, node.id) if row[2].sha256 in held]
    needed = {artifact.sha256 for assignment, model, artifact in rows if generations.get(model.id) != assignment.generation}
    await release(session, node.id, set(held) - needed)


async def release(session: AsyncSession, node_id: str, digests: set[str]) -> None:
    """Give back a node's grants for these digests."""
    await session.exec(delete(FetchGrant).where(col(FetchGrant.node_id) == node_id, col(FetchGrant.sha256).in_(digests)))
