"""All queries on users, sessions, keys and settings."""

from datetime import datetime
from typing import Any

from sqlalchemy import func
from sqlmodel import col, delete, select, update
from sqlmodel.ext.asyncio.session import AsyncSession

from control_api.access.models import ApiKey, Setting, SettingChange, SigningKey, User, UserSession
from control_api.kit.clock import utcnow
from control_api.kit.paging import page


async def find_api_key(session: AsyncSession, key_hash: str) -> ApiKey | None:
    """Return the API key with this hash unless it has expired."""
    key = (await session.exec(select(ApiKey).where(ApiKey.key_hash == key_hash))).first()
    return key if key and (key.expires_at is None or key.expires_at > utcnow()) else None


async def get_api_key(session: AsyncSession, key_id: str) -> ApiKey | None:
    """Return an API key by id, expired or not."""
    return await session.get(ApiKey, key_id)


async def page_api_keys(session: AsyncSession, cursor: str | None, limit: int) -> tuple[list[ApiKey], str | None]:
    """Return a page of API keys, oldest first."""
    return await page(session, select(ApiKey), ApiKey.id, cursor=cursor, limit=limit)


async def get_user(session: AsyncSession, user_id: str) -> User | None:
    """Return a user by id."""
    return await session.get(User, user_id)


async def find_user(session: AsyncSession, name: str) -> User | None:
    """Return a user by name."""
    return (await session.exec(select(User).where(User.name == name))).first()


async def count_users(session: AsyncSession) -> int:
    """Return how many users there are."""
    return (await session.exec(select(func.count()).select_from(User))).one()


async def find_session(session: AsyncSession, id_hash: str) -> UserSession | None:
    """Return a browser session unless it has expired."""
    found = await session.get(UserSession, id_hash)
    return found if found and found.expires_at > utcnow() else None


async def live_session(session: AsyncSession, token_id: str) -> tuple[UserSession, User] | None:
    """Return the session that tokens name so, and its user, unless it has ended."""
    statement = select(UserSession, User).join(User, col(User.id) == UserSession.user_id)
    alive = statement.where(UserSession.token_id == token_id, col(UserSession.expires_at) > utcnow())
    return (await session.exec(alive)).first()


async def extend_session(session: AsyncSession, id_hash: str, expires_at: datetime) -> None:
    """Move a session's expiry."""
    await session.exec(update(UserSession).where(col(UserSession.id_hash) == id_hash).values(expires_at=expires_at))


async def delete_session(session: AsyncSession, id_hash: str) -> None:
    """End a session, and forget those that expired."""
    await session.exec(
        delete(UserSession).where((col(UserSession.id_hash) == id_hash) | (col(UserSession.expires_at) < utcnow()))
    )


async def newest_signing_key(session: AsyncSession) -> SigningKey | None:
    """Return the signing key in use."""
    return (await session.exec(select(SigningKey).order_by(col(SigningKey.created_at).desc()))).first()


async def signing_keys(session: AsyncSession) -> list[SigningKey]:
    """Return all signing keys."""
    return list((await session.exec(select(SigningKey))).all())


async def get_setting(session: AsyncSession, name: str) -> Any:
    """Return a setting's value, or None."""
    row = await session.get(Setting, name)
    return row.value if row else None


async def put_setting(session: AsyncSession, name: str, value: Any) -> None:
    """Store a setting's value."""
    await session.merge(Setting(name=name, value=value))


async def delete_setting(session: AsyncSession, name: str) -> bool:
    """Forget a setting; tell whether it was there."""
    return (await session.exec(delete(Setting).where(col(Setting.name) == name))).rowcount > 0


async def last_setting_changes(session: AsyncSession) -> dict[str, SettingChange]:
    """Return the last change of each setting, by name."""
    newest = select(func.max(SettingChange.id)).group_by(col(SettingChange.name))
    rows = (await session.exec(select(SettingChange).where(col(SettingChange.id).in_(newest)))).all()
    return {row.name: row for row in rows}


async def page_setting_changes(session: AsyncSession, cursor: str | None, limit: int) -> tuple[list[SettingChange], str | None]:
    """Return a page of changes, newest first."""
    return await page(session, select(SettingChange), SettingChange.id, cursor=cursor, limit=limit, descending=True)
