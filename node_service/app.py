"""The HTTP application: wires the parts, nothing else."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Route

from node_service import __version__
from node_service.auth import KeyRequired
from node_service.errors import BadRequest, ServiceError, openai_error
from node_service.inference import Inference
from node_service.logs import LogRing
from node_service.routes import make_router
from node_service.service import NodeService
from node_service.settings import Settings

__all__ = ["create_app"]

_INFERENCE_PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses")

log = structlog.get_logger(__name__)


def create_app(settings: Settings, logs: LogRing) -> FastAPI:
    """Return the application; its lifespan starts and ends the node's tasks and engines.

    `app.state.node` is the NodeService behind it.
    """
    node = NodeService(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await node.start()
        try:
            yield
        finally:
            await node.close()

    app = FastAPI(
        title="Muster node",
        version=__version__,
        lifespan=lifespan,
        openapi_url=None,
        redirect_slashes=False,
    )
    app.state.node = node
    inference = Inference(
        models=node.models,
        gate=node.gate,
        identities=node.identities,
        metrics=node.metrics,
        http=node.engine_http,
    )
    for path in _INFERENCE_PATHS:
        app.router.routes.append(Route(path, inference, methods=["POST"]))
    app.include_router(make_router(node, logs))
    app.add_middleware(KeyRequired, key=node.identities.current.inference_key)
    app.add_exception_handler(ServiceError, _service_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(Exception, _unexpected_error)
    return app


async def _service_error(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, ServiceError):
        raise error
    return JSONResponse(error.body(), error.status, error.headers())


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, HTTPException):
        raise error
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http_error")
    text = f"{request.method} {request.url.path}: {error.detail}"
    body = openai_error(text, type="invalid_request_error", code=code)
    return JSONResponse(body, error.status_code, error.headers)


async def _validation_error(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, RequestValidationError):
        raise error
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"][1:])
    bad = BadRequest(f"{name}: {first['msg']}", param=name)
    return JSONResponse(bad.body(), bad.status)


async def _unexpected_error(request: Request, error: Exception) -> JSONResponse:
    log.error("unexpected error", path=request.url.path, error=repr(error))
    body = openai_error("internal error", type="server_error", code="internal_error")
    return JSONResponse(body, 500)
