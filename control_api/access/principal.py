"""Who is calling, and what they may do. The only place that turns a credential into rights."""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Literal

from fastapi import Depends, Request

from control_api.access.schemas import Scope
from control_api.errors import Forbidden, Unauthenticated

if TYPE_CHECKING:
    from control_api.access.service import AccessService

_IMPLIED = {Scope.ADMIN: {Scope.OPERATE, Scope.READ, Scope.INFERENCE}, Scope.OPERATE: {Scope.READ}}


def with_implied(scopes: Iterable[str]) -> frozenset[Scope]:
    """Return the scopes with those that they include."""
    given = {Scope(s) for s in scopes}
    return frozenset(given.union(*(_IMPLIED.get(s, set()) for s in given)))


@dataclass(frozen=True)
class Principal:
    """An authenticated caller.

    Parameters
    ----------
    session: the user's, as tokens name it.
    lent: what a job may do on its own hosts, where a path lets jobs in at all: no more than who asked for it may do now.
    speaks_for: whose wishes a job carries out: what it holds is held by them.
    asked_by: by whose id the rights of a job are looked up.
    models, is_rate_limited, expires_at: the limits of the credential; what is derived from it has no wider ones.
    """

    kind: Literal["api_key", "user", "job", "schedule"]
    id: str
    name: str
    scopes: frozenset[Scope]
    session: str | None = None
    attempt: int = 0
    host_ids: frozenset[str] = field(default_factory=frozenset)
    lent: frozenset[Scope] = field(default_factory=frozenset)
    speaks_for: str | None = None
    asked_by: str | None = None
    models: frozenset[str] | None = None
    is_rate_limited: bool = False
    expires_at: datetime | None = None

    @property
    def asker(self) -> str | None:
        """Return by whose id to look up the rights of what this caller leaves behind: jobs, tickets. None: Muster's own."""
        if self.kind == "job":
            return self.asked_by
        return None if self.kind == "schedule" else f"{self.kind}:{self.id}"

    @property
    def parent(self) -> str:
        """Return what a token of this caller is derived from and dies with, as routers know it."""
        if self.kind == "job":
            return job_parent(self.id, self.attempt)
        return session_parent(self.session or "") if self.kind == "user" else f"{self.kind}:{self.id}"

    @property
    def holder(self) -> str:
        """Return in whose name this caller holds a node drained."""
        return self.speaks_for or self.label

    @property
    def label(self) -> str:
        """Return how this caller is named in jobs, holds and logs, e.g. ``user:alice``."""
        return f"job:{self.id}" if self.kind == "job" else f"{self.kind}:{self.name}"

    def check_host(self, host_id: str | None) -> None:
        """Raise ``Forbidden`` if a job reaches for a host that is not its own."""
        if self.kind == "job" and host_id not in self.host_ids:
            raise Forbidden("This job's token does not cover that host.", code="other_host")


# Muster itself, where it asks for jobs by the clock.
SCHEDULE = Principal("schedule", "drift", "drift", with_implied([Scope.OPERATE]))


def session_parent(token_id: str) -> str:
    """Return how tokens name the browser session that they are derived from."""
    return f"session:{token_id}"


def job_parent(job_id: str, attempt: int) -> str:
    """Return how tokens name the attempt of a job that they are derived from."""
    return f"job:{job_id}/{attempt}"


def bearer(request: Request) -> str:
    """Return the bearer credential of a request. Raises ``Unauthenticated`` if there is none."""
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not value.strip():
        raise Unauthenticated(
            "No credential was given.",
            hint="Send `Authorization: Bearer <API key>`.",
            headers={"www-authenticate": "Bearer"},
        )
    return value.strip()


def check_scope(principal: Principal, scope: Scope, *, job: bool = False) -> None:
    """Raise ``Forbidden`` unless a caller has a scope; ``job``: what is lent to a running job counts, too."""
    scopes = principal.scopes | principal.lent if job else principal.scopes
    if scope not in scopes:
        raise Forbidden(f"This needs the scope '{scope}'.", details={"scopes": sorted(scopes)})


def require(scope: Scope, *, job: bool = False) -> Callable[..., Awaitable[Principal]]:
    """Return a dependency that lets callers with a scope in; ``job``: also the token of a running job.

    It has a session of its own: a handler that waits for the writer, or for another reader, holds no connection meanwhile.
    """

    async def check(request: Request) -> Principal:
        access: AccessService = request.state.access
        async with request.state.database.control.read() as session:
            principal = await access.authenticate(session, bearer(request))
        check_scope(principal, scope, job=job)
        return principal

    return check


Bearer = Annotated[str, Depends(bearer, scope="function")]
Reader = Annotated[Principal, Depends(require(Scope.READ), scope="function")]
Operator = Annotated[Principal, Depends(require(Scope.OPERATE), scope="function")]
Admin = Annotated[Principal, Depends(require(Scope.ADMIN), scope="function")]
ReaderOrJob = Annotated[Principal, Depends(require(Scope.READ, job=True), scope="function")]
OperatorOrJob = Annotated[Principal, Depends(require(Scope.OPERATE, job=True), scope="function")]
InferenceOrJob = Annotated[Principal, Depends(require(Scope.INFERENCE, job=True), scope="function")]
