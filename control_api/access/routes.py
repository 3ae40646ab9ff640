"""HTTP of logins, sessions, inference tokens and API keys."""

from fastapi import APIRouter, Request, Response

from control_api.access import api_keys, repository
from control_api.access.logins import Logins
from control_api.access.principal import Admin, InferenceOrJob, Reader
from control_api.access.schemas import (
    ApiKeyCreate,
    ApiKeyCreated,
    ApiKeyOut,
    InferenceTokenOut,
    InferenceTokenRequest,
    LoginRequest,
    Scope,
    SessionOut,
    SessionRequest,
    SetupRequest,
    UserOut,
)
from control_api.access.service import ACCESS_TTL_S, AccessService, OpenSession
from control_api.errors import Forbidden
from control_api.kit.http import ReadSession, WriteSession
from control_api.kit.paging import Cursor, Limit
from control_api.kit.wire import Page

router = APIRouter(prefix="/v0", tags=["access"])


def _access(request: Request) -> AccessService:
    access: AccessService = request.state.access
    return access


def _logins(request: Request) -> Logins:
    logins: Logins = request.state.logins
    return logins


def _first_out(access: AccessService, opened: OpenSession) -> SessionOut:
    """Return a session that was opened with a password; its browser is known from now on."""
    return _session_out(access, opened).model_copy(update={"device": access.device_token(opened.user)})


def _session_out(access: AccessService, opened: OpenSession) -> SessionOut:
    return SessionOut(
        session_id=opened.session_id,
        access_token=access.access_token(opened),
        expires_in_s=ACCESS_TTL_S,
        user=UserOut.model_validate(opened.user),
    )


@router.post("/auth/login")
async def log_in(request: Request, body: LoginRequest) -> SessionOut:
    """Log in with a user name and a password. After some failures 429 says when to try again."""
    opened = await _logins(request).log_in(body, await _logins(request).address_of(request))
    return _first_out(_access(request), opened)


@router.post("/auth/setup", status_code=201)
async def set_up(request: Request, body: SetupRequest) -> SessionOut:
    """Create the first admin with the one-time token that the first start printed."""
    return _first_out(_access(request), await _logins(request).set_up(body))


@router.post("/auth/refresh")
async def refresh(request: Request, body: SessionRequest) -> SessionOut:
    """Exchange a session id for a new access token; the session lives on from now."""
    return _session_out(_access(request), await _logins(request).refresh(body.session_id))


@router.post("/auth/logout", status_code=204)
async def log_out(request: Request, body: SessionRequest) -> Response:
    """End a session; its tokens are refused from now on."""
    await _logins(request).log_out(body.session_id)
    return Response(status_code=204)


@router.get("/auth/me")
async def me(principal: Reader) -> dict[str, object]:
    """Tell who the caller is."""
    return {"kind": principal.kind, "id": principal.id, "name": principal.name, "scopes": sorted(principal.scopes)}


@router.post("/auth/inference-token", status_code=201)
async def inference_token(
    request: Request, body: InferenceTokenRequest, principal: InferenceOrJob, session: ReadSession
) -> InferenceTokenOut:
    """Return a token of ten minutes for the router; ``node_ids``: nodes that it may pin."""
    pin = body.node_ids or []
    if principal.kind == "job":
        for node_id in pin:
            principal.check_host(await request.state.node_host(session, node_id))
    elif pin and Scope.OPERATE not in principal.scopes:
        raise Forbidden("Pinning nodes needs the scope 'operate'.")
    token, expires_at = _access(request).issue_inference_token(principal, pin)
    return InferenceTokenOut(token=token, expires_at=expires_at, router_url=request.state.settings.public_router_url)


@router.get("/api-keys")
async def list_api_keys(_: Admin, session: ReadSession, cursor: Cursor = None, limit: Limit = 100) -> Page[ApiKeyOut]:
    """List API keys, without their secrets."""
    rows, following = await repository.page_api_keys(session, cursor, limit)
    return Page(items=[ApiKeyOut.model_validate(row) for row in rows], next_cursor=following)


@router.post("/api-keys", status_code=201)
async def create_api_key(body: ApiKeyCreate, principal: Admin, session: WriteSession) -> ApiKeyCreated:
    """Make an API key. Its secret is in this answer and nowhere else."""
    secret, key = await api_keys.create_key(session, body, principal)
    return ApiKeyCreated(**ApiKeyOut.model_validate(key).model_dump(), key=secret)


@router.delete("/api-keys/{key_id}", status_code=204)
async def delete_api_key(key_id: str, _: Admin, session: WriteSession) -> Response:
    """Delete an API key; routers refuse it within a second."""
    await api_keys.delete_key(session, key_id)
    return Response(status_code=204)
