"""First start: what must exist before the first request, made once and kept."""

from datetime import datetime, timedelta

from sqlmodel.ext.asyncio.session import AsyncSession

from control_api.access import repository
from control_api.access.api_keys import api_key_row
from control_api.access.models import KeyCheck
from control_api.access.schemas import ApiKeyCreate
from control_api.access.service import SETUP_SETTING, SETUP_TTL_S
from control_api.access.tokens import Signer, new_signing_key
from control_api.errors import StartupError
from control_api.kit import revision
from control_api.kit.clock import utcnow
from control_api.kit.ids import new_id
from control_api.kit.secretbox import SecretBox, new_token, token_hash

STORE_ID_SETTING = "store_id"


async def check_key(session: AsyncSession, box: SecretBox) -> None:
    """Remember a check value of a key, or raise ``StartupError`` if the store was made with another key."""
    if not await verify_key(session, box):
        session.add(KeyCheck(name=box.name, value=box.check_value()))
        await session.flush()


async def verify_key(session: AsyncSession, box: SecretBox) -> bool:
    """Raise ``StartupError`` if the store was made with another key; False if no process has made anything with one yet."""
    known = await session.get(KeyCheck, box.name)
    if known:
        box.verify(known.value)
    return known is not None


async def store_id(session: AsyncSession) -> str:
    """Return the id of this store; nodes refuse manifests of another."""
    known = await repository.get_setting(session, STORE_ID_SETTING)
    if not known:
        known = new_id()
        await repository.put_setting(session, STORE_ID_SETTING, known)
    return str(known)


async def signer(session: AsyncSession, box: SecretBox) -> Signer:
    """Return the pair that signs tokens; make it at the first start."""
    key = await repository.newest_signing_key(session)
    if not key:
        key = new_signing_key(box)
        session.add(key)
        await session.flush()
        await revision.bump(session, revision.ROUTES)
    return Signer(key.kid, box.decrypt(key.private_encrypted), key.public_pem)


async def given_key(session: AsyncSession, variable: str, secret: str | None, wanted: ApiKeyCreate) -> None:
    """Store an API key that a setting gives, unless it is there already. Raises ``StartupError`` for one that is too weak.

    Parameters
    ----------
    variable: where the secret comes from.
    """
    if not secret:
        return
    if not secret.startswith("mk_") or len(secret) < 24:
        raise StartupError(
            f"{variable} must begin with 'mk_' and have at least 24 characters.",
            code="weak_bootstrap_key",
            hint="Make one with `muster keys secret --api-key`.",
        )
    if not await repository.find_api_key(session, token_hash(secret)):
        session.add(api_key_row(secret, wanted))
        await session.flush()
        await revision.bump(session, revision.ROUTES)


async def setup_token(session: AsyncSession) -> str | None:
    """Return a fresh one-time token for the first admin; None while the last one is still good: it may be in use."""
    known = await repository.get_setting(session, SETUP_SETTING)
    if known and datetime.fromisoformat(known["expires_at"]) > utcnow():
        return None
    token = new_token("setup")
    expires_at = (utcnow() + timedelta(seconds=SETUP_TTL_S)).isoformat()
    await repository.put_setting(session, SETUP_SETTING, {"hash": token_hash(token), "expires_at": expires_at})
    return token
