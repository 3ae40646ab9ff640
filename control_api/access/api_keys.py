"""Rules of API keys: who may make which."""

from sqlmodel.ext.asyncio.session import AsyncSession

from control_api.access import repository
from control_api.access.models import ApiKey
from control_api.access.principal import Principal
from control_api.access.schemas import ApiKeyCreate
from control_api.errors import Forbidden, NotFound
from control_api.kit import revision
from control_api.kit.secretbox import new_token, token_hash


async def create_key(session: AsyncSession, wanted: ApiKeyCreate, by: Principal) -> tuple[str, ApiKey]:
    """Make an API key and return its secret, which is not stored. Nobody gives more than they have."""
    _check_within(wanted, by)
    secret = new_token("mk")
    key = api_key_row(secret, wanted)
    session.add(key)
    await session.flush()
    await revision.bump(session, revision.ROUTES)
    return secret, key


async def delete_key(session: AsyncSession, key_id: str) -> None:
    """Delete an API key; routers refuse it within a second."""
    key = await repository.get_api_key(session, key_id)
    if not key:
        raise NotFound(f"No API key {key_id!r}.", code="unknown_api_key")
    await session.delete(key)
    await revision.bump(session, revision.ROUTES)


def api_key_row(secret: str, wanted: ApiKeyCreate) -> ApiKey:
    """Return the row that stores an API key."""
    return ApiKey(
        name=wanted.name,
        key_hash=token_hash(secret),
        prefix=secret[:8],
        scopes=list(wanted.scopes),
        models=wanted.models,
        requests_per_minute=wanted.requests_per_minute,
        tokens_per_minute=wanted.tokens_per_minute,
        expires_at=wanted.expires_at,
    )


def _check_within(wanted: ApiKeyCreate, by: Principal) -> None:
    """Raise ``Forbidden`` for a key that would get further than its maker."""
    if missing := set(wanted.scopes) - by.scopes:
        raise Forbidden(f"You cannot give scopes that you do not have: {', '.join(sorted(missing))}.")
    if by.is_rate_limited:
        message = "Your key has a limit per minute, and a key that it made would count for itself."
        raise Forbidden(message, code="wider_than_maker", hint="Make keys with one that has no limit.")
    if by.models is not None and (wanted.models is None or not by.models.issuperset(wanted.models)):
        hint = f"Yours are: {', '.join(sorted(by.models)) or 'none'}."
        raise Forbidden("You cannot give models that your key may not use.", code="wider_than_maker", hint=hint)
    if by.kind == "api_key" and by.expires_at and (wanted.expires_at is None or wanted.expires_at > by.expires_at):
        message = f"You cannot make a key that lives longer than yours, which ends at {by.expires_at.isoformat()}."
        raise Forbidden(message, code="wider_than_maker", hint="Give expires_at.")
