"""Who is calling, and what they may do. The only place that turns a credential into rights."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Literal

from fastapi import Depends, Request

from control_api.access.schemas import Scope
from control_api.errors import Forbidden, Unauthenticated
from control_api.kit.http import ReadSession

if TYPE_CHECKING:
    from control_api.access.service import AccessService

_IMPLIED = {Scope.ADMIN: {Scope.OPERATE, Scope.READ, Scope.INFERENCE}, Scope.OPERATE: {Scope.READ}}


def with_implied(scopes: list[str]) -> frozenset[Scope]:
    """Return the scopes with those that they include."""
    given = {Scope(s) for s in scopes}
    return frozenset(given.union(*(_IMPLIED.get(s, set()) for s in given)))


@dataclass(frozen=True)
class Principal:
    """An authenticated caller. A job's rights end at its own hosts.

    ``speaks_for``: whose wishes a job carries out: what it holds is held by them. ``session``: the user's, as tokens name it.
    """

    kind: Literal["api_key", "user", "job"]
    id: str
    name: str
    scopes: frozenset[Scope]
    attempt: int = 0
    host_ids: frozenset[str] = field(default_factory=frozenset)
    speaks_for: str | None = None
    session: str | None = None

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


def require(scope: Scope, *, job: bool = False) -> Callable[..., Awaitable[Principal]]:
    """Return a dependency that lets callers with a scope in; ``job``: also the token of a running job."""

    async def check(request: Request, session: ReadSession) -> Principal:
        access: AccessService = request.state.access
        principal = await access.authenticate(session, bearer(request))
        if scope not in principal.scopes and not (job and principal.kind == "job"):
            raise Forbidden(f"This needs the scope {scope!r}.", details={"scopes": sorted(principal.scopes)})
        return principal

    return check


Bearer = Annotated[str, Depends(bearer, scope="function")]
Reader = Annotated[Principal, Depends(require(Scope.READ), scope="function")]
Operator = Annotated[Principal, Depends(require(Scope.OPERATE), scope="function")]
Admin = Annotated[Principal, Depends(require(Scope.ADMIN), scope="function")]
ReaderOrJob = Annotated[Principal, Depends(require(Scope.READ, job=True), scope="function")]
OperatorOrJob = Annotated[Principal, Depends(require(Scope.OPERATE, job=True), scope="function")]
InferenceOrJob = Annotated[Principal, Depends(require(Scope.INFERENCE, job=True), scope="function")]
