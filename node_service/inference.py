"""The OpenAI endpoints: admits a request, then forwards its bytes to the model's engine."""

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any

import httpx2
import structlog
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.types import Message, Receive, Scope, Send

from node_service.engine_errors import engine_error
from node_service.errors import BadRequest, EngineCrashed, RequestTooLarge, ServiceError
from node_service.gate import Gate
from node_service.identity import IdentityStore
from node_service.metrics import Metrics
from node_service.models.manager import ModelManager
from node_service.models.record import ModelRecord
from node_service.renaming import renamed, renamed_events

__all__ = ["Inference", "engine_client"]

_BODY_LIMIT_BYTES = 100 * 2**20
_PIN_HEADER = "x-muster-pin-node"
_SSE_HEADERS = [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]
# Whatever an engine says its answer is, a browser takes it for no more.
_AS_IT_SAYS = (b"x-content-type-options", b"nosniff")

log = structlog.get_logger(__name__)


def engine_client(tls: ssl.SSLContext) -> httpx2.AsyncClient:
    """Return the client for requests to engines on this machine."""
    return httpx2.AsyncClient(
        verify=tls,
        # An engine may think for minutes before its first byte; a dead one closes the connection.
        timeout=httpx2.Timeout(None, connect=5.0),
        # No connection is kept: an engine that closes an idle one would look like a crash.
        limits=httpx2.Limits(max_keepalive_connections=0),
        trust_env=False,
    )


class Inference:
    """ASGI application behind every OpenAI endpoint; the path is the engine's own."""

    def __init__(
        self,
        *,
        models: ModelManager,
        gate: Gate,
        identities: IdentityStore,
        metrics: Metrics,
        http: httpx2.AsyncClient,
    ) -> None:
        self._models = models
        self._gate = gate
        self._identities = identities
        self._metrics = metrics
        self._http = http

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            body = await _read_body(Request(scope, receive))
            request = _parse(body)
            record = self._models.find(_model_of(request))
            with self._let_in(Headers(scope=scope)):
                self._models.prepare(record)
                relay = self._relay(record, scope["path"], request, body, send)
                await _while_connected(receive, relay)
        except ClientDisconnect:
            log.debug("client left", path=scope["path"])
        except ServiceError as error:
            answer = JSONResponse(error.body(), error.status, error.headers())
            await answer(scope, receive, send)

    @contextlib.contextmanager
    def _let_in(self, headers: Headers) -> Iterator[None]:
        """Hold a place in the node, to the last byte of the answer."""
        own = self._identities.current.node_id
        self._gate.enter(pinned=own is not None and headers.get(_PIN_HEADER) == own)
        try:
            yield
        finally:
            self._gate.leave()

    async def _relay(self, record: ModelRecord, path: str, request: dict[str, Any], body: bytes, send: Send) -> None:
        """Send the request to the engine and its answer to the client.

        The slot is free before the client can tell that its answer is complete: its next request must not find it taken.
        """
        with record.slot() as endpoint:
            name = None if endpoint.model == record.spec.id else record.spec.id
            if name is not None:
                body = json.dumps(request | {"model": endpoint.model}).encode()
            headers = {"content-type": "application/json", "accept-encoding": "identity", **endpoint.headers}
            try:
                async with self._http.stream("POST", f"{endpoint.url}{path}", content=body, headers=headers) as answer:
                    self._metrics.answered(record.spec.id, answer.status_code)
                    last = await _pass_on(answer, record, name, send)
            except httpx2.HTTPError as error:
                self._metrics.answered(record.spec.id, EngineCrashed.status)
                raise _crash(record, error) from error
        for message in last:
            await send(message)


async def _pass_on(answer: httpx2.Response, record: ModelRecord, name: str | None, send: Send) -> list[Message]:
    """Read the engine's answer to its end, forwarding a stream as it comes; return what is still to be sent."""
    if answer.status_code >= 400:
        raise engine_error(answer.status_code, await answer.aread())
    if answer.headers.get("content-type", "").startswith("text/event-stream"):
        await _send_stream(answer, record, name, send)
        return [{"type": "http.response.body", "body": b""}]
    # Read to its end first: an engine that dies meanwhile is then still a clean 502.
    content = await answer.aread()
    if name is not None:
        content = renamed(content, name)
    kind = answer.headers.get("content-type", "application/json").encode()
    headers = [(b"content-type", kind), (b"content-length", str(len(content)).encode()), _AS_IT_SAYS]
    head = {"type": "http.response.start", "status": answer.status_code, "headers": headers}
    return [head, {"type": "http.response.body", "body": content}]


async def _send_stream(answer: httpx2.Response, record: ModelRecord, name: str | None, send: Send) -> None:
    """Forward a stream, all but its end."""
    chunks: AsyncIterator[bytes] = answer.aiter_raw()
    if name is not None:
        chunks = renamed_events(chunks, name)
    first = await anext(chunks, b"")
    headers = [(b"content-type", b"text/event-stream"), _AS_IT_SAYS, *_SSE_HEADERS]
    await send({"type": "http.response.start", "status": answer.status_code, "headers": headers})
    await send({"type": "http.response.body", "body": first, "more_body": True})
    try:
        async for chunk in chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
    except httpx2.HTTPError as error:
        # The status is out: the client learns it from an error frame, and gets no [DONE].
        frame = f"\n\ndata: {json.dumps(_crash(record, error).body())}\n\n".encode()
        await send({"type": "http.response.body", "body": frame, "more_body": True})


def _crash(record: ModelRecord, error: httpx2.HTTPError) -> EngineCrashed:
    reason = str(error) or type(error).__name__
    return EngineCrashed(f"{record.spec.id}: the engine ended during the request: {reason}")


async def _while_connected(receive: Receive, work: Coroutine[Any, Any, None]) -> None:
    """Do `work`, but stop it as soon as the client is gone, also before its first byte."""
    worker = asyncio.create_task(work)
    watcher = asyncio.create_task(_disconnected(receive))
    try:
        await asyncio.wait({worker, watcher}, return_when=asyncio.FIRST_COMPLETED)
        if not worker.done():
            raise ClientDisconnect
        worker.result()
    finally:
        worker.cancel()
        watcher.cancel()
        await asyncio.gather(worker, watcher, return_exceptions=True)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _read_body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _BODY_LIMIT_BYTES:
            raise RequestTooLarge(f"the body is larger than {_BODY_LIMIT_BYTES} bytes")
    return bytes(body)


def _parse(body: bytes) -> dict[str, Any]:
    try:
        request = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"the body is not JSON: {error}") from error
    return request if isinstance(request, dict) else {}


def _model_of(request: dict[str, Any]) -> str:
    model = request.get("model")
    if not isinstance(model, str) or not model:
        raise BadRequest("the body must be a JSON object that names a model", param="model")
    return model
