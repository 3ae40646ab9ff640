"""All queries on providers."""

from collections.abc import Sequence

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from control_api.providers.models import Provider
from control_api.providers.schemas import ProviderName


async def list_providers(session: AsyncSession) -> Sequence[Provider]:
    """Return all providers that have a key, by name."""
    return (await session.exec(select(Provider).order_by(col(Provider.name)))).all()


async def get_provider(session: AsyncSession, name: ProviderName) -> Provider | None:
    """Return a provider if it has a key."""
    return await session.get(Provider, name.value)
