"""Rules of access: credentials in, principals out; first start, logins and keys."""

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from sqlmodel.ext.asyncio.session import AsyncSession

from control_api.access import repository
from control_api.access.models import ApiKey, User, UserSession
from control_api.access.principal import SCHEDULE, Principal, with_implied
from control_api.access.schemas import Scope
from control_api.access.tokens import DEVICE_AUDIENCE, INFERENCE_AUDIENCE, JOB_AUDIENCE, USER_AUDIENCE, Signer
from control_api.errors import Forbidden, Unauthenticated
from control_api.kit import revision
from control_api.kit.clock import utcnow
from control_api.kit.secretbox import new_token, token_hash

ACCESS_TTL_S = 300
INFERENCE_TTL_S = 600
SESSION_TTL_S = 30 * 86400
# A session is used every few minutes; its expiry need not move as often.
EXTEND_EVERY_S = 3600
DEVICE_TTL_S = 365 * 86400
SETUP_TTL_S = 3600
SETUP_SETTING = "setup_token"


@dataclass(frozen=True)
class OpenSession:
    """A browser's session: its secret id, how tokens name it, whose it is, and whether its expiry is to be moved."""

    session_id: str
    token_id: str
    user: User
    is_due: bool = False


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
            asked_by=job.asker,
            expires_at=min(ends_at, asker.expires_at or ends_at),
        )

    async def asker(self, session: AsyncSession, asker: str | None) -> Principal:
        """Return whoever asked for something, with the rights that they have now. Raises ``Unauthenticated`` if gone."""
        if asker is None:
            return SCHEDULE
        kind, _, id_ = asker.partition(":")
        if kind == "api_key" and (key := await repository.get_api_key(session, id_)) and not _is_over(key.expires_at):
            return _of_key(key)
        if kind == "user" and (user := await repository.get_user(session, id_)):
            return Principal("user", user.id, user.name, with_implied(user.scopes))
        raise Unauthenticated("Whoever asked for this has no access any more.", code="asker_gone")

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

    async def start_session(self, session: AsyncSession, user: User) -> OpenSession:
        """Return a new session of a user."""
        session_id = new_token("ms")
        expires_at = utcnow() + timedelta(seconds=SESSION_TTL_S)
        row = UserSession(id_hash=token_hash(session_id), user_id=user.id, expires_at=expires_at)
        session.add(row)
        await session.flush()
        await revision.bump(session, revision.ROUTES)
        return OpenSession(session_id, row.token_id, user)

    async def find_session(self, session: AsyncSession, session_id: str) -> OpenSession:
        """Return a session. Raises ``Unauthenticated`` if it has ended."""
        found = await repository.find_session(session, token_hash(session_id))
        user = await repository.get_user(session, found.user_id) if found else None
        if not found or not user:
            raise Unauthenticated("The session has ended; log in again.", code="session_ended")
        is_due = utcnow() + timedelta(seconds=SESSION_TTL_S - EXTEND_EVERY_S) > found.expires_at
        return OpenSession(session_id, found.token_id, user, is_due=is_due)

    async def extend_session(self, session: AsyncSession, session_id: str) -> None:
        """Move a session's expiry."""
        expires_at = utcnow() + timedelta(seconds=SESSION_TTL_S)
        await repository.extend_session(session, token_hash(session_id), expires_at)
        await revision.bump(session, revision.ROUTES)

    async def log_out(self, session: AsyncSession, session_id: str) -> None:
        """End a session, and with it every token that was given out in it, here at once and at the routers within a second."""
        await repository.delete_session(session, token_hash(session_id))
        await revision.bump(session, revision.ROUTES)

    def access_token(self, opened: OpenSession) -> str:
        """Return a short-lived token for a user's calls in a session."""
        return self._signer.sign(USER_AUDIENCE, opened.user.id, ACCESS_TTL_S, {"sid": opened.token_id})[0]

    def device_token(self, user: User) -> str:
        """Return what a browser shows at its next login, so that the failures of others are none of its own."""
        return self._signer.sign(DEVICE_AUDIENCE, user.id, DEVICE_TTL_S, {"name": user.name})[0]

    def known_device(self, token: str | None, name: str) -> str | None:
        """Return the id of a browser that has logged in by this name before; None for any other."""
        try:
            claims = self._signer.verify(token or "", [DEVICE_AUDIENCE])
        except Unauthenticated:
            return None
        return str(claims["jti"]) if claims.get("name") == name else None

    async def check_setup(self, session: AsyncSession, token: str) -> None:
        """Raise ``Forbidden`` unless a token may make the first admin."""
        setting = await repository.get_setting(session, SETUP_SETTING)
        valid = setting and setting["hash"] == token_hash(token) and datetime.fromisoformat(setting["expires_at"]) > utcnow()
        if not valid or await repository.count_users(session):
            raise _setup_closed()

    async def set_up(self, session: AsyncSession, token: str, name: str, hashed: str) -> OpenSession:
        """Create the first admin with the one-time token of the first start. Raises ``Forbidden``."""
        await self.check_setup(session, token)
        if not await repository.delete_setting(session, SETUP_SETTING):
            raise _setup_closed()
        user = User(name=name, password_hash=hashed, scopes=[Scope.ADMIN])
        session.add(user)
        await session.flush()
        return await self.start_session(session, user)


def lent_to_jobs(scopes: frozenset[Scope]) -> frozenset[Scope]:
    """Return what a job may do of what its asker may do now.

    Who operates may have a node of the job's own answer a test: inference tokens of jobs reach nodes that they pin, no others.
    """
    return (scopes & {Scope.OPERATE, Scope.READ}) | ({Scope.INFERENCE} if Scope.OPERATE in scopes else set())


def _setup_closed() -> Forbidden:
    return Forbidden(
        "The set-up link is used up or has expired.", code="setup_closed", hint="Restart the control API for a new one."
    )


def _of_key(key: ApiKey) -> Principal:
    limited = key.requests_per_minute is not None or key.tokens_per_minute is not None
    models = None if key.models is None else frozenset(key.models)
    scopes = with_implied(key.scopes)
    return Principal("api_key", key.id, key.name, scopes, models=models, is_rate_limited=limited, expires_at=key.expires_at)


def _is_over(expires_at: datetime | None) -> bool:
    return expires_at is not None and expires_at <= utcnow()
