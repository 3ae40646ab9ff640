"""Named counters that readers poll to learn that something changed, e.g. ``routes``.

Bumped in the transaction that changes the thing, and only then.
"""

from sqlalchemy import text
from sqlmodel import Field, select
from sqlmodel.ext.asyncio.session import AsyncSession

from control_api.kit.tables import ControlTable

ROUTES = "routes"
MODELS = "models"


class Revision(ControlTable, table=True):
    """One counter."""

    __tablename__ = "revision"

    name: str = Field(primary_key=True, max_length=64)
    value: int = 0


# One statement on both databases, so that two first bumps at once do not collide.
_BUMP = text("INSERT INTO revision (name, value) VALUES (:name, 1) ON CONFLICT (name) DO UPDATE SET value = revision.value + 1")


async def bump(session: AsyncSession, name: str) -> None:
    """Increase a counter by one within the caller's transaction."""
    await (await session.connection()).execute(_BUMP, {"name": name})


async def current(session: AsyncSession, name: str) -> int:
    """Return a counter's value, 0 if it was never bumped."""
    return (await session.exec(select(Revision.value).where(Revision.name == name))).first() or 0
