"""Which nodes the routers have taken out of rotation, as each of them says."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta

import sqlalchemy as sa
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from control_api.fleet.schemas import BreakerOut
from control_api.kit.clock import utcnow
from control_api.kit.database import Store
from control_api.telemetry.models import RouterBreaker

# As long as a node is out, its router says so again so often.
SAID_AGAIN_S = 5.0
# A router that has said nothing for so long is gone, and its word with it.
GONE = timedelta(seconds=20)


async def replace(session: AsyncSession, router_id: str, states: Sequence[tuple[str, str, str]]) -> None:
    """Write node id, state and cause of each node that a router has taken out, in place of what it said before."""
    connection = await session.connection()
    kept = select(RouterBreaker.node_id, RouterBreaker.since).where(RouterBreaker.router_id == router_id)
    since = dict((await session.exec(kept)).all())
    gone = (col(RouterBreaker.router_id) == router_id) | (col(RouterBreaker.reported_at) < utcnow() - GONE)
    await connection.execute(sa.delete(RouterBreaker).where(gone))
    now = utcnow()
    for node_id, state, cause in states:
        where = {"router_id": router_id, "node_id": node_id}
        session.add(RouterBreaker(**where, state=state, cause=cause, since=since.get(node_id, now), reported_at=now))


class Breakers:
    """What routers that are there say of nodes."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def __call__(self, node_ids: Sequence[str]) -> dict[str, list[BreakerOut]]:
        """Return it for some nodes; those without an entry are in rotation everywhere."""
        said = select(RouterBreaker).where(
            col(RouterBreaker.node_id).in_(node_ids), col(RouterBreaker.reported_at) > utcnow() - GONE
        )
        found: defaultdict[str, list[BreakerOut]] = defaultdict(list)
        async with self._store.read() as session:
            for row in (await session.exec(said.order_by(col(RouterBreaker.since)))).all():
                found[row.node_id].append(BreakerOut.model_validate(row))
        return found
