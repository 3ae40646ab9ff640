"""What the router answers: who may call which path by which method."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from control_api.router.auth import Authenticator, Caller
from control_api.router.client import Request
from control_api.router.cors import Cors
from control_api.router.errors import InternalError, NotReady, RouterError, UnknownUrl, WrongMethod
from control_api.router.inference import Inference
from control_api.router.listing import MODELS_PATH, Listing
from control_api.router.metrics import CONTENT_TYPE, Metrics
from control_api.router.reply import Reply
from control_api.router.source import TablePoller

log = structlog.get_logger()

READ = ("GET", "HEAD")
HEALTH_PATH = "/healthz"
INFERENCE_PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses")

type Handler = Callable[[Request, Caller, Reply], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Route:
    """A path: its handler, its methods and the scope that a caller needs; ``None``: any that is known."""

    handler: Handler
    methods: tuple[str, ...]
    scope: str | None


class RouterApp:
    """The handler of all requests."""

    def __init__(self, poller: TablePoller, inference: Inference, listing: Listing, metrics: Metrics, cors: Cors) -> None:
        self._poller = poller
        self._cors = cors
        self._authenticator = Authenticator(poller)
        self._metrics = metrics
        self._model = Route(listing.one, READ, "inference")
        self._routes = {
            **{path: Route(inference, ("POST",), "inference") for path in INFERENCE_PATHS},
            MODELS_PATH: Route(listing.many, READ, "inference"),
            "/readyz": Route(self._readyz, READ, None),
            "/metrics": Route(self._figures, READ, "read"),
        }

    def listed(self) -> dict[str, tuple[str, ...]]:
        """Return the methods of each path that is answered."""
        paths = {path: route.methods for path, route in self._routes.items()}
        return {HEALTH_PATH: READ, **paths, f"{MODELS_PATH}/{{model}}": self._model.methods}

    async def __call__(self, request: Request, reply: Reply) -> None:
        """Answer one request; whatever goes wrong, in OpenAI's error shape."""
        try:
            if request.fault:
                raise request.fault
            reply.common = self._cors.headers(request)
            if request.path == HEALTH_PATH:
                await self._healthz(request, reply)
            elif reply.common and (preflight := self._preflight(request)):
                reply.empty(preflight)
            else:
                await self._serve(request, reply)
        except RouterError as error:
            reply.fail(error)
        except asyncio.CancelledError:
            if not request.gone:  # the process was told to stop and has waited long enough
                reply.fail(NotReady("The router is shutting down.", code="no_ready_node", retry_after_s=1))
            raise
        except Exception:
            log.exception("router.mistake", request_id=request.id, path=request.path)
            reply.fail(InternalError("The router made a mistake; its log says more under this request id."))

    async def _serve(self, request: Request, reply: Reply) -> None:
        caller = await self._authenticator.caller(request.headers.get(b"authorization"))
        route = self._route(request)
        if request.method == "OPTIONS":
            reply.empty(f"allow: {_allow(route.methods)}\r\n".encode())
            return
        _check_method(request, route.methods)
        if route.scope:
            caller.require(route.scope)
        await route.handler(request, caller, reply)

    def _preflight(self, request: Request) -> bytes | None:
        return self._cors.preflight(request, _allow(self._route(request).methods))

    def _route(self, request: Request) -> Route:
        if route := self._routes.get(request.path):
            return route
        if request.path.startswith(MODELS_PATH + "/") and len(request.path) > len(MODELS_PATH) + 1:
            return self._model
        raise UnknownUrl(f"Invalid URL ({request.method} {request.path}).")

    async def _healthz(self, request: Request, reply: Reply) -> None:
        """Say that the process answers, to anybody, and whether it has routes."""
        _check_method(request, READ)
        state = {"status": "ok", "ready": self._poller.loaded}
        reply.whole(200, json.dumps(state).encode())

    async def _readyz(self, _request: Request, _caller: Caller, reply: Reply) -> None:
        reply.whole(200, json.dumps({"status": "ready", "revision": self._poller.table.revision}).encode())

    async def _figures(self, _request: Request, _caller: Caller, reply: Reply) -> None:
        reply.whole(200, self._metrics.text(), CONTENT_TYPE.encode())


def _check_method(request: Request, methods: tuple[str, ...]) -> None:
    if request.method not in methods:
        allow = _allow(methods)
        raise WrongMethod(f"{request.path} does not take {request.method}, but {allow}.", headers={"allow": allow})


def _allow(methods: tuple[str, ...]) -> str:
    return ", ".join((*methods, "OPTIONS"))
