"""Named counters that readers poll to learn that something changed, e.g. ``routes``.

Bumped in the transaction that changes the thing, and only then.
"""

from sqlalchemy import update
from sqlmodel import Field, col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from control_api.kit.tables import ControlTable

ROUTES = "routes"


class Revision(ControlTable, table=True):
    """One counter."""

    __tablename__ = "revision"

    name: str = Field(primary_key=True, max_length=64)
    value: int = 0


async def bump(session: AsyncSession, name: str) -> None:
    """Increase a counter by one within the caller's transaction."""
    result = await session.exec(update(Revision).where(col(Revision.name) == name).values(value=Revision.value + 1))
    if result.rowcount == 0:
        session.add(Revision(name=name, value=1))
        await session.flush()


async def current(session: AsyncSession, name: str) -> int:
    """Return a counter's value, 0 if it was never bumped."""
    return (await session.exec(select(Revision.value).where(Revision.name == name))).first() or 0
