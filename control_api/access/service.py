"""Rules of access: credentials in, principals out; first start, logins and keys."""

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import anyio.to_thread
from sqlmodel.ext.asyncio.session import AsyncSession

from control_api.access import repository
from control_api.access.models import ApiKey, User, UserSession
from control_api.access.principal import SCHEDULE, Principal, with_implied
from control_api.access.schemas import ApiKeyCreate, Scope
from control_api.access.tokens import INFERENCE_AUDIENCE, JOB_AUDIENCE, USER_AUDIENCE, Signer
from control_api.errors import Forbidden, NotFound, Unauthenticated
from control_api.kit import revision
from control_api.kit.clock import utcnow
from control_api.kit.secretbox import new_token, password_hash, password_matches, token_hash

ACCESS_TTL_S = 300
INFERENCE_TTL_S = 600
SESSION_TTL_S = 30 * 86400
# A session is used every few minutes; its expiry need not move as often.
EXTEND_EVERY_S = 3600
SETUP_TTL_S = 3600
SETUP_SETTING = "setup_token"

# Verified when the user does not exist, so that the answer takes as long as for one who does.
_NOBODY = "$argon2id$v=19$m=65536,t=3,p=4$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"


@dataclass(frozen=True)
class OpenSession:
    """A browser's session: its secret id, how tokens name it, and whose it is."""

    session_id: str
    token_id: str
    user: User


class AskedFor(Protocol):
    """What is known here of a running job: by whose id to look up its rights; None: Muster's own."""

    asker: str | None


RunningJob = Callable[[AsyncSession, str, int], Awaitable[AskedFor | None]]


class AccessService:
    """Authenticates callers and manages users, sessions, keys and tokens."""

    def __init__(self, signer: Signer, *, running_job: RunningJob) -> None:
        self._signer = signer
        self._running_job = running_job

    async def authenticate(self, session: AsyncSession, credential: str) -> Principal:
        """Return who holds a credential: an API key, a user's access token or a running job's token.

        Rights are looked up, never read from a token: they are those that its key, user or asker has now.
        """
        if credential.startswith("mk_"):
            return await self._api_key(session, credential)
        if credential.count(".") == 2:
            return await self._signed(session, credential)
        raise Unauthenticated("The credential is not valid.", code="invalid_api_key")

    async def _api_key(self, session: AsyncSession, credential: str) -> Principal:
        key = await repository.find_api_key(session, token_hash(credential))
        if not key:
            raise Unauthenticated("The API key is not valid or has expired.", code="invalid_api_key")
        return _of_key(key)

    async def _signed(self, session: AsyncSession, credential: str) -> Principal:
        claims = self._signer.verify(credential, [USER_AUDIENCE, JOB_AUDIENCE])
        if claims["aud"] == JOB_AUDIENCE:
            return await self._job(session, claims)
        found = await repository.live_session(session, str(claims.get("sid")))
        if not found:
            raise Unauthenticated("The session of this token has ended.", hint="Log in again.")
        browser, user = found
        scopes = with_implied(user.scopes)
        return Principal("user", user.id, user.name, scopes, session=browser.token_id, expires_at=browser.expires_at)

    async def _job(self, session: AsyncSession, claims: dict[str, Any]) -> Principal:
        job_id, attempt = claims["sub"], claims["attempt"]
        job = await self._running_job(session, job_id, attempt)
        if not job:
            raise Unauthenticated("The job of this token is not running any more.", code="job_ended")
        asker = await self.asker(session, job.asker)
        ends_at = datetime.fromtimestamp(claims["exp"], UTC)
        return replace(
            asker,
            kind="job",
            id=job_id,
            name=job_id,
            scopes=frozenset(),
            session=None,
            attempt=attempt,
            host_ids=frozenset(claims["hosts"]),
            lent=lent_to_jobs(asker.scopes),
            speaks_for=claims.get("speaks_for"),
            expires_at=min(ends_at, asker.expires_at or ends_at),
        )

    async def asker(self, session: AsyncSession, asker: str | None) -> Principal:
        """Return whoever asks for a job, with the rights that they have now. Raises ``Unauthenticated`` if they are gone."""
        if asker is None:
            return SCHEDULE
        kind, _, id_ = asker.partition(":")
        if kind == "api_key" and (key := await repository.get_api_key(session, id_)) and not _is_over(key.expires_at):
            return _of_key(key)
        if kind == "user" and (user := await repository.get_user(session, id_)):
            return Principal("user", user.id, user.name, with_implied(user.scopes))
        raise Unauthenticated("Whoever asked for this job has no access any more.", code="asker_gone")

    def issue_job_token(
        self, job_id: str, attempt: int, host_ids: list[str], ttl_s: int, *, speaks_for: str | None = None
    ) -> str:
        """Return a token for one attempt of one job on these hosts; ``speaks_for``: in whose name it holds nodes."""
        claims = {"attempt": attempt, "hosts": host_ids, "speaks_for": speaks_for}
        return self._signer.sign(JOB_AUDIENCE, job_id, ttl_s, claims)[0]

    def issue_inference_token(self, principal: Principal, pin: list[str]) -> tuple[str, datetime]:
        """Return a token for the router that may pin these nodes, and when it expires.

        Routers look its rights up by its parent, so that it never has more than that, and ends with it.
        """
        ttl_s = INFERENCE_TTL_S
        if principal.expires_at:
            ttl_s = min(ttl_s, max(1, math.floor((principal.expires_at - utcnow()).total_seconds())))
        return self._signer.sign(INFERENCE_AUDIENCE, principal.label, ttl_s, {"pin": pin, "parent": principal.parent})

    async def check_password(self, session: AsyncSession, name: str, password: str) -> User:
        """Return the user with this name and password. Raises ``Unauthenticated``."""
        user = await repository.find_user(session, name)
        hashed = user.password_hash if user else _NOBODY
        matches = await anyio.to_thread.run_sync(password_matches, password, hashed)
        if not user or not matches:
            raise Unauthenticated("The user name or the password is wrong.", code="login_failed")
        return user

    async def start_session(self, session: AsyncSession, user: User) -> OpenSession:
        """Return a new session of a user."""
        session_id = new_token("ms")
        expires_at = utcnow() + timedelta(seconds=SESSION_TTL_S)
        row = UserSession(id_hash=token_hash(session_id), user_id=user.id, expires_at=expires_at)
        session.add(row)
        await session.flush()
        await revision.bump(session, revision.ROUTES)
        return OpenSession(session_id, row.token_id, user)

    async def resume_session(self, session: AsyncSession, session_id: str) -> OpenSession:
        """Return a session and move its expiry. Raises ``Unauthenticated``."""
        found = await repository.find_session(session, token_hash(session_id))
        user = await repository.get_user(session, found.user_id) if found else None
        if not found or not user:
            raise Unauthenticated("The session has ended; log in again.", code="session_ended")
        expires_at = utcnow() + timedelta(seconds=SESSION_TTL_S)
        if expires_at - found.expires_at > timedelta(seconds=EXTEND_EVERY_S):
            await repository.extend_session(session, found.id_hash, expires_at)
            await revision.bump(session, revision.ROUTES)
        return OpenSession(session_id, found.token_id, user)

    async def log_out(self, session: AsyncSession, session_id: str) -> None:
        """End a session, and with it every token that was given out in it, here at once and at the routers within a second."""
        if not await repository.find_session(session, token_hash(session_id)):
            return
        await repository.delete_session(session, token_hash(session_id))
        await revision.bump(session, revision.ROUTES)

    def access_token(self, opened: OpenSession) -> str:
        """Return a short-lived token for a user's calls in a session."""
        return self._signer.sign(USER_AUDIENCE, opened.user.id, ACCESS_TTL_S, {"sid": opened.token_id})[0]

    async def set_up(self, session: AsyncSession, token: str, name: str, password: str) -> OpenSession:
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
        return await self.start_session(session, user)

    async def create_key(self, session: AsyncSession, wanted: ApiKeyCreate, by: Principal) -> tuple[str, ApiKey]:
        """Make an API key and return its secret, which is not stored. Nobody gives more than they have."""
        _check_within(wanted, by)
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


def lent_to_jobs(scopes: frozenset[Scope]) -> frozenset[Scope]:
    """Return what a job may do of what its asker may do now.

    Who operates may have a node of the job's own answer a test: inference tokens of jobs reach nodes that they pin, no others.
    """
    return (scopes & {Scope.OPERATE, Scope.READ}) | ({Scope.INFERENCE} if Scope.OPERATE in scopes else set())


def _of_key(key: ApiKey) -> Principal:
    limited = key.requests_per_minute is not None or key.tokens_per_minute is not None
    models = None if key.models is None else frozenset(key.models)
    scopes = with_implied(key.scopes)
    return Principal("api_key", key.id, key.name, scopes, models=models, is_rate_limited=limited, expires_at=key.expires_at)


def _is_over(expires_at: datetime | None) -> bool:
    return expires_at is not None and expires_at <= utcnow()


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
