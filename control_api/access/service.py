"""Rules of access: credentials in, principals out; first start, logins and keys."""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

import anyio.to_thread
from sqlmodel.ext.asyncio.session import AsyncSession

from control_api.access import repository
from control_api.access.models import ApiKey, User, UserSession
from control_api.access.principal import Principal, with_implied
from control_api.access.schemas import ApiKeyCreate, Scope
from control_api.access.tokens import INFERENCE_AUDIENCE, JOB_AUDIENCE, USER_AUDIENCE, Signer
from control_api.errors import Forbidden, NotFound, Unauthenticated
from control_api.kit import revision
from control_api.kit.clock import utcnow
from control_api.kit.secretbox import new_token, password_hash, password_matches, token_hash

ACCESS_TTL_S = 300
INFERENCE_TTL_S = 600
SESSION_TTL_S = 30 * 86400
SETUP_TTL_S = 3600
SETUP_SETTING = "setup_token"

# Verified when the user does not exist, so that the answer takes as long as for one who does.
_NOBODY = "$argon2id$v=19$m=65536,t=3,p=4$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

JobIsRunning = Callable[[AsyncSession, str, int], Awaitable[bool]]


class AccessService:
    """Authenticates callers and manages users, sessions, keys and tokens."""

    def __init__(self, signer: Signer, *, job_is_running: JobIsRunning) -> None:
        self._signer = signer
        self._job_is_running = job_is_running

    async def authenticate(self, session: AsyncSession, credential: str) -> Principal:
        """Return who holds a credential: an API key, a user's access token or a running job's token."""
        if credential.startswith("mk_"):
            return await self._api_key(session, credential)
        if credential.count(".") == 2:
            return await self._signed(session, credential)
        raise Unauthenticated("The credential is not valid.", code="invalid_api_key")

    async def _api_key(self, session: AsyncSession, credential: str) -> Principal:
        key = await repository.find_api_key(session, token_hash(credential))
        if not key:
            raise Unauthenticated("The API key is not valid or has expired.", code="invalid_api_key")
        return Principal("api_key", key.id, key.name, with_implied(key.scopes))

    async def _signed(self, session: AsyncSession, credential: str) -> Principal:
        claims = self._signer.verify(credential, [USER_AUDIENCE, JOB_AUDIENCE])
        if await repository.is_revoked(session, claims["jti"], claims.get("sid")):
            raise Unauthenticated("The token was revoked.", hint="Log in again.")
        if claims["aud"] == USER_AUDIENCE:
            scopes = with_implied(claims["scopes"])
            return Principal("user", claims["sub"], claims["name"], scopes, session=claims.get("sid"))
        job_id, attempt = claims["sub"], claims["attempt"]
        if not await self._job_is_running(session, job_id, attempt):
            raise Unauthenticated("The job of this token is not running any more.", code="job_ended")
        return Principal("job", job_id, job_id, frozenset(), attempt, frozenset(claims["hosts"]), claims.get("speaks_for"))

    def issue_job_token(
        self, job_id: str, attempt: int, host_ids: list[str], ttl_s: int, *, speaks_for: str | None = None
    ) -> str:
        """Return a token for one attempt of one job on these hosts; ``speaks_for``: in whose name it holds nodes."""
        claims = {"attempt": attempt, "hosts": host_ids, "speaks_for": speaks_for}
        return self._signer.sign(JOB_AUDIENCE, job_id, ttl_s, claims)[0]

    def issue_inference_token(self, principal: Principal, pin: list[str]) -> tuple[str, datetime]:
        """Return a token for the router that may pin these nodes, and when it expires."""
        claims = {"pin": pin, "sid": principal.session} if principal.session else {"pin": pin}
        return self._signer.sign(INFERENCE_AUDIENCE, principal.label, INFERENCE_TTL_S, claims)

    async def check_password(self, session: AsyncSession, name: str, password: str) -> User:
        """Return the user with this name and password. Raises ``Unauthenticated``."""
        user = await repository.find_user(session, name)
        hashed = user.password_hash if user else _NOBODY
        matches = await anyio.to_thread.run_sync(password_matches, password, hashed)
        if not user or not matches:
            raise Unauthenticated("The user name or the password is wrong.", code="login_failed")
        return user

    def start_session(self, session: AsyncSession, user: User) -> str:
        """Return the id of a new session of a user."""
        session_id = new_token("ms")
        expires_at = utcnow() + timedelta(seconds=SESSION_TTL_S)
        session.add(UserSession(id_hash=token_hash(session_id), user_id=user.id, expires_at=expires_at))
        return session_id

    async def resume_session(self, session: AsyncSession, session_id: str) -> User:
        """Return the user of a session and move its expiry. Raises ``Unauthenticated``."""
        id_hash = token_hash(session_id)
        found = await repository.find_session(session, id_hash)
        user = await repository.get_user(session, found.user_id) if found else None
        if not user:
            raise Unauthenticated("The session has ended; log in again.", code="session_ended")
        await repository.extend_session(session, id_hash, utcnow() + timedelta(seconds=SESSION_TTL_S))
        return user

    async def log_out(self, session: AsyncSession, session_id: str) -> None:
        """End a session, and with it every token that was given out in it, here at once and at the routers within a second."""
        if not await repository.find_session(session, token_hash(session_id)):
            return
        await repository.delete_session(session, token_hash(session_id))
        await repository.revoke(session, _token_session(session_id), utcnow() + timedelta(seconds=INFERENCE_TTL_S))
        await revision.bump(session, revision.ROUTES)

    def access_token(self, user: User, session_id: str) -> str:
        """Return a short-lived token for a user's calls in a session."""
        claims = {"name": user.name, "scopes": user.scopes, "sid": _token_session(session_id)}
        return self._signer.sign(USER_AUDIENCE, user.id, ACCESS_TTL_S, claims)[0]

    async def set_up(self, session: AsyncSession, token: str, name: str, password: str) -> tuple[str, User]:
        """Create the first admin with the one-time token of the first start. Raises ``Forbidden``."""
        setting = await repository.get_setting(session, SETUP_SETTING)
        valid = setting and setting["hash"] == token_hash(token) and datetime.fromisoformat(setting["expires_at"]) > utcnow()
        if not valid or await repository.count_users(session):
            raise Forbidden(
                "The set-up link is used up or has expired.", code="setup_closed", hint="Restart the control API for a new one."
            )
        hashed = await anyio.to_thread.run_sync(password_hash, password)
        user = User(name=name, password_hash=hashed, scopes=[Scope.ADMIN])
        session.add(user)
        await session.flush()
        await repository.delete_setting(session, SETUP_SETTING)
        return self.start_session(session, user), user

    async def create_key(self, session: AsyncSession, wanted: ApiKeyCreate, by: Principal) -> tuple[str, ApiKey]:
        """Make an API key and return its secret, which is not stored. Nobody gives more than they have."""
        missing = set(wanted.scopes) - by.scopes
        if missing:
            raise Forbidden(f"You cannot give scopes that you do not have: {', '.join(sorted(missing))}.")
        secret = new_token("mk")
        key = api_key_row(secret, wanted)
        session.add(key)
        await session.flush()
        await revision.bump(session, revision.ROUTES)
        return secret, key

    async def delete_key(self, session: AsyncSession, key_id: str) -> None:
        """Delete an API key; routers refuse it within a second."""
        key = await repository.get_api_key(session, key_id)
        if not key:
            raise NotFound(f"No API key {key_id!r}.", code="unknown_api_key")
        await session.delete(key)
        await revision.bump(session, revision.ROUTES)


def _token_session(session_id: str) -> str:
    """Return the id under which tokens name a session: it gives nothing away of the secret one."""
    return token_hash(f"tokens of {session_id}")[:32]


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
