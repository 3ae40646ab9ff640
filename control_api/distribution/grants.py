"""All queries on fetch grants."""

from sqlalchemy import func
from sqlmodel import col, delete, select, update
from sqlmodel.ext.asyncio.session import AsyncSession

from control_api.distribution.fetch_models import FetchGrant, GrantState
from control_api.kit.clock import db_now

LEASE_S = 60
# A node that stopped asking loses its place in the queue.
WAIT_S = 20
# A seed that has not moved for so long is not waited for: the next node takes the artifact from the hub as well.
SEED_STALL_S = 20
# Within this time a node that went on to the next artifact reports that it holds the last one.
_HANDOVER_S = 15
_AT_WORK = (GrantState.GRANTED, GrantState.HANDED_BACK)


async def forget_expired(session: AsyncSession) -> None:
    """Delete what nobody renewed."""
    await session.exec(delete(FetchGrant).where(col(FetchGrant.expires_at) < db_now()))


async def request(session: AsyncSession, node_id: str, sha256: str, site: str | None) -> FetchGrant:
    """Return a node's request for an artifact, made or renewed. Its other requests are given up."""
    others = (col(FetchGrant.node_id) == node_id, col(FetchGrant.sha256) != sha256)
    handed_back = update(FetchGrant).where(*others, col(FetchGrant.state) == GrantState.GRANTED)
    await session.exec(handed_back.values(state=GrantState.HANDED_BACK, moved_at=db_now(), expires_at=db_now(_HANDOVER_S)))
    await session.exec(delete(FetchGrant).where(*others, col(FetchGrant.state) != GrantState.HANDED_BACK))
    mine = select(FetchGrant).where(FetchGrant.node_id == node_id, FetchGrant.sha256 == sha256)
    grant = (await session.exec(mine)).first()
    if grant is None:
        expires_at = (await session.exec(select(db_now(WAIT_S)))).one()
        grant = FetchGrant(node_id=node_id, sha256=sha256, site=site, expires_at=expires_at)
        session.add(grant)
        await session.flush()
    elif grant.state is GrantState.HANDED_BACK:
        grant.state = GrantState.WAITING
    return grant


async def is_seeded(session: AsyncSession, grant: FetchGrant) -> bool:
    """Whether another node of the site is bringing the artifact over the WAN, and moves.

    Of two that do so already, the later one gives way.
    """
    if grant.site is None:
        return False
    seeds = (
        select(FetchGrant.id)
        .where(FetchGrant.sha256 == grant.sha256, FetchGrant.site == grant.site, FetchGrant.node_id != grant.node_id)
        .where(col(FetchGrant.state).in_(_AT_WORK), col(FetchGrant.peer_id).is_(None))
        .where(col(FetchGrant.moved_at) > db_now(-SEED_STALL_S))
    )
    if grant.state is GrantState.GRANTED:
        seeds = seeds.where(col(FetchGrant.id) < grant.id)
    return (await session.exec(seeds.limit(1))).first() is not None


async def wait(session: AsyncSession, grant: FetchGrant, state: GrantState) -> None:
    """Let a request wait, parked or for a free place."""
    mine = update(FetchGrant).where(col(FetchGrant.id) == grant.id)
    await session.exec(mine.values(state=state, peer_id=None, expires_at=db_now(WAIT_S)))


async def give(session: AsyncSession, grant: FetchGrant, peer_id: str | None) -> None:
    """Grant a request, or renew its grant."""
    values = {"state": GrantState.GRANTED, "peer_id": peer_id, "expires_at": db_now(LEASE_S)}
    if grant.state is not GrantState.GRANTED:
        values["moved_at"] = db_now()
    await session.exec(update(FetchGrant).where(col(FetchGrant.id) == grant.id).values(**values))


async def position(session: AsyncSession, grant: FetchGrant, state: GrantState) -> int:
    """Return the place of a request among those in this state, from 1. Ids sort by the time of asking."""
    ahead = select(func.count()).select_from(FetchGrant).where(FetchGrant.state == state, FetchGrant.id < grant.id)
    if state is GrantState.PARKED:
        ahead = ahead.where(FetchGrant.sha256 == grant.sha256, FetchGrant.site == grant.site)
    return (await session.exec(ahead)).one() + 1


async def count_granted(session: AsyncSession) -> int:
    """Return how many fetches are under way."""
    granted = select(func.count()).select_from(FetchGrant).where(FetchGrant.state == GrantState.GRANTED)
    return (await session.exec(granted)).one()


async def readers(session: AsyncSession, sha256: str) -> dict[str, int]:
    """Return how many nodes read an artifact from each peer now."""
    granted = select(FetchGrant.peer_id, func.count()).where(
        FetchGrant.sha256 == sha256, FetchGrant.state == GrantState.GRANTED, col(FetchGrant.peer_id).is_not(None)
    )
    return {peer_id: count for peer_id, count in (await session.exec(granted.group_by(FetchGrant.peer_id))).all() if peer_id}


async def renew(session: AsyncSession, node_id: str, fetch_ids: list[str], bytes_seen: int | None) -> None:
    """Renew a node's grants that are in use.

    ``bytes_seen``: of all its models together, so that more than before means that something moves; None: it is verifying.
    """
    mine = update(FetchGrant).where(
        col(FetchGrant.node_id) == node_id, col(FetchGrant.id).in_(fetch_ids), col(FetchGrant.state) == GrantState.GRANTED
    )
    await session.exec(mine.values(expires_at=db_now(LEASE_S)))
    if bytes_seen is None:
        await session.exec(mine.values(moved_at=db_now()))
    else:
        moved = mine.where(col(FetchGrant.bytes_seen) < bytes_seen)
        await session.exec(moved.values(bytes_seen=bytes_seen, moved_at=db_now()))


async def held_by(session: AsyncSession, node_id: str) -> set[str]:
    """Return the digests that a node has asked for."""
    return set((await session.exec(select(FetchGrant.sha256).where(FetchGrant.node_id == node_id))).all())


async def release(session: AsyncSession, node_id: str, digests: set[str]) -> None:
    """Give back a node's grants for these digests."""
    await session.exec(delete(FetchGrant).where(col(FetchGrant.node_id) == node_id, col(FetchGrant.sha256).in_(digests)))
