"""HTTP plumbing: sessions as dependencies, request ids, a body limit, and errors in one shape."""

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Annotated, Any

import structlog
from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlmodel.ext.asyncio.session import AsyncSession
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from control_api.errors import BadInput, Conflict, Forbidden, MusterError, NotFound, TooLarge, Unauthenticated, Unavailable
from control_api.kit.database import Database
from control_api.kit.ids import new_id

log = structlog.get_logger()

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")


async def _read(request: Request) -> AsyncIterator[AsyncSession]:
    async with _database(request).control.read() as session:
        yield session


async def _write(request: Request) -> AsyncIterator[AsyncSession]:
    async with _database(request).control.write() as session:
        yield session


async def _telemetry_read(request: Request) -> AsyncIterator[AsyncSession]:
    async with _database(request).telemetry.read() as session:
        yield session


async def _telemetry_write(request: Request) -> AsyncIterator[AsyncSession]:
    async with _database(request).telemetry.write() as session:
        yield session


def _database(request: Request) -> Database:
    database: Database = request.state.database
    return database


# Function scope: the transaction is committed before the answer leaves.
ReadSession = Annotated[AsyncSession, Depends(_read, scope="function")]
WriteSession = Annotated[AsyncSession, Depends(_write, scope="function")]
TelemetryRead = Annotated[AsyncSession, Depends(_telemetry_read, scope="function")]
TelemetryWrite = Annotated[AsyncSession, Depends(_telemetry_write, scope="function")]


# Of the fields of a request that are not valid, so many are named.
FIELDS_NAMED = 20
# So much is read of anybody, for a body is read before the endpoint looks at the credential.
ANONYMOUS_BODY_BYTES = 1 << 16

type Knows = Callable[[Mapping[str, Any], str], Awaitable[bool]]


class RequestContext:
    """Gives each request an id, puts it in logs and the answer, and refuses bodies that are too large.

    Parameters
    ----------
    knows: given the state of the application and a credential, whether it is a valid one.
    smaller_limits: of the bodies of paths that begin so.
    """

    def __init__(
        self, app: ASGIApp, *, body_limit_bytes: int, knows: Knows, smaller_limits: Mapping[str, int] | None = None
    ) -> None:
        self._app = app
        self._body_limit_bytes = body_limit_bytes
        self._smaller_limits = smaller_limits or {}
        self._knows = knows

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"")
        request_id = given.decode() if _REQUEST_ID.fullmatch(given) else new_id()
        scope.setdefault("state", {})["request_id"] = request_id
        structlog.contextvars.bind_contextvars(request_id=request_id)
        limit_bytes = self._limit_bytes(scope["path"])
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > limit_bytes:
            refused = _too_large(limit_bytes)
            body = _problem(refused.code, refused.message, request_id)
            await JSONResponse(body, refused.status, {"x-request-id": request_id})(scope, receive, send)
            return
        try:
            await self._app(scope, self._limited(scope, receive, limit_bytes), _with_header(send, request_id))
        finally:
            structlog.contextvars.unbind_contextvars("request_id")

    def _limit_bytes(self, path: str) -> int:
        smaller = (limit_bytes for start, limit_bytes in self._smaller_limits.items() if path.startswith(start))
        return min(smaller, default=self._body_limit_bytes)

    def _limited(self, scope: Scope, receive: Receive, limit_bytes: int) -> Receive:
        seen_bytes, is_known = 0, False

        async def limited() -> Message:
            nonlocal seen_bytes, is_known
            message = await receive()
            seen_bytes += len(message.get("body", b""))
            if seen_bytes > limit_bytes:
                raise _Refused(_too_large(limit_bytes))
            if seen_bytes > ANONYMOUS_BODY_BYTES and not is_known:
                await self._check_known(scope)
                is_known = True
            return message

        return limited

    async def _check_known(self, scope: Scope) -> None:
        given = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1").partition(" ")[2].strip()
        if not given:
            raise _Refused(_too_large(ANONYMOUS_BODY_BYTES, " without a credential"))
        if not await self._knows(scope["state"], given):
            raise _Refused(Unauthenticated("The credential is not valid."))


class _Problem(JSONResponse):
    """An error in plain ASCII: it may repeat what somebody sent, which need not be text that can be encoded."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, separators=(",", ":")).encode()


def _too_large(limit_bytes: int, why: str = "") -> TooLarge:
    return TooLarge(f"The body is larger than {limit_bytes} bytes{why}.")


class _Refused(HTTPException):
    """What a body is refused with while it is read; of all errors, the framework passes on only such."""

    def __init__(self, error: MusterError) -> None:
        super().__init__(error.status, error.message)
        self.error = error


def _with_header(send: Send, request_id: str) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            own = [(b"x-request-id", request_id.encode()), (b"x-content-type-options", b"nosniff")]
            message = {**message, "headers": [*message.get("headers", []), *own]}
        await send(message)

    return sending


def _problem(code: str, message: str, request_id: str, hint: str | None = None, details: Any = None) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "hint": hint, "request_id": request_id, "details": details}}


def _render(request: Request, error: MusterError) -> JSONResponse:
    request_id = getattr(request.state, "request_id", "")
    body = _problem(error.code, error.message, request_id, error.hint, error.details)
    return _Problem(body, error.status, error.headers)


async def _muster_error(request: Request, error: MusterError) -> JSONResponse:
    return _render(request, error)


async def _validation_error(request: Request, error: RequestValidationError) -> JSONResponse:
    errors = list(error.errors())[:FIELDS_NAMED]
    fields = [{"field": ".".join(str(p) for p in e["loc"]), "message": e["msg"]} for e in errors]
    named = "; ".join(f"{f['field']}: {f['message']}" for f in fields[:3])
    return _render(request, BadInput(f"The request is not valid: {named}", details=fields))


async def _http_error(request: Request, error: HTTPException) -> JSONResponse:
    if isinstance(error, _Refused):
        return _render(request, error.error)
    kinds: dict[int, type[MusterError]] = {401: Unauthenticated, 403: Forbidden, 404: NotFound, 503: Unavailable}
    message = f"No such path: {request.url.path}" if error.status_code == 404 else str(error.detail)
    rendered = kinds.get(error.status_code, MusterError)(message, headers=dict(error.headers or {}))
    if error.status_code not in kinds:
        rendered.code = "method_not_allowed" if error.status_code == 405 else "http_error"
    response = _render(request, rendered)
    response.status_code = error.status_code
    return response


async def _integrity_error(request: Request, error: IntegrityError) -> JSONResponse:
    log.info("http.conflict", error=str(error.orig))
    return _render(request, Conflict("Something with this name or reference exists already, or is still in use."))


async def _store_error(request: Request, error: OperationalError) -> JSONResponse:
    log.error("http.store_unavailable", error=str(error.orig))
    hint = "Try again; see /readyz."
    return _render(
        request, Unavailable("The store does not answer.", code="store_unavailable", hint=hint, headers={"retry-after": "1"})
    )


async def _store_busy(request: Request, error: PoolTimeout) -> JSONResponse:
    log.error("http.store_busy", error=str(error))
    hint = "Try again in a moment."
    return _render(request, Unavailable("The store is busy.", code="store_busy", hint=hint, headers={"retry-after": "1"}))


async def _unexpected(request: Request, error: Exception) -> JSONResponse:
    log.error("http.unexpected", path=request.url.path, exc_info=error)
    return _render(request, MusterError("Something unexpected went wrong; the log has the details under this request_id."))


def install(app: FastAPI, *, body_limit_bytes: int, knows: Knows, smaller_limits: Mapping[str, int] | None = None) -> None:
    """Add the request context and the error handlers to an app; for the options see ``RequestContext``."""
    app.add_middleware(RequestContext, body_limit_bytes=body_limit_bytes, knows=knows, smaller_limits=smaller_limits)
    handlers: dict[type[Exception], Any] = {
        MusterError: _muster_error,
        RequestValidationError: _validation_error,
        HTTPException: _http_error,
        IntegrityError: _integrity_error,
        OperationalError: _store_error,
        PoolTimeout: _store_busy,
        Exception: _unexpected,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)
