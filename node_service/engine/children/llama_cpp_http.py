"""OpenAI endpoints over a `llama_cpp.Llama`, for the llama-cpp-python child."""

import asyncio
import base64
import contextlib
import hmac
import inspect
import json
import struct
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from node_service.engine.children.child import Orders

__all__ = ["make_app"]

_DONE = object()


class _Cancelled(Exception):
    """The client left: stop computing."""


class _Generation:
    """Runs one call of the library in a thread and hands over what it yields.

    The library asks it before each token: it counts them, and stops the call when the client
    has left.
    """

    def __init__(self, call: Callable[..., Any], arguments: dict[str, Any]) -> None:
        self._call = call
        self._arguments = arguments | {"logits_processor": [self._before_token]}
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[Any] = asyncio.Queue()
        self._cancelled = threading.Event()
        self.prompt_tokens = 0
        self.completion_tokens = 0

    async def run(self) -> AsyncGenerator[Any, None]:
        """Yield what the call yields; raises what it raises."""
        thread = asyncio.create_task(asyncio.to_thread(self._produce))
        try:
            while (item := await self._queue.get()) is not _DONE:
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            self.cancel()
            await asyncio.shield(thread)

    def cancel(self) -> None:
        """Stop before the next token."""
        self._cancelled.set()

    def _produce(self) -> None:
        try:
            result = self._call(**self._arguments)
            for item in result if isinstance(result, Iterator) else [result]:
                self._put(item)
            self._put(_DONE)
        except _Cancelled:
            self._put(_DONE)
        except Exception as error:  # noqa: BLE001 - it belongs to the request, in the other thread
            self._put(error)

    def _put(self, item: Any) -> None:
        self._loop.call_soon_threadsafe(self._queue.put_nowait, item)

    def _before_token(self, tokens: Any, scores: Any) -> Any:
        if self._cancelled.is_set():
            raise _Cancelled
        if self.prompt_tokens == 0:
            self.prompt_tokens = len(tokens)
        self.completion_tokens = len(tokens) - self.prompt_tokens
        return scores


class _Endpoints:
    """The handlers; `turn` lets one request compute at a time."""

    def __init__(self, llama: Any, orders: Orders) -> None:
        self._llama = llama
        self._model_id = orders["id"]
        self._embedding = orders["embedding"]
        self._key = f"Bearer {orders['api_key']}".encode()
        self._turn = asyncio.Lock()

    async def health(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def chat(self, request: Request) -> Response:
        return await self._generate(request, self._llama.create_chat_completion)

    async def complete(self, request: Request) -> Response:
        return await self._generate(request, self._llama.create_completion)

    async def embed(self, request: Request) -> Response:
        if (refusal := self._refuse(request)) is not None:
            return refusal
        if not self._embedding:
            return _error(501, "not_supported_error", "this model does not serve embeddings")
        body = await request.json()
        async with self._turn:
            answer = await asyncio.to_thread(self._llama.create_embedding, body["input"], model=self._model_id)
        if body.get("encoding_format") == "base64":
            for item in answer["data"]:
                packed = struct.pack(f"<{len(item['embedding'])}f", *item["embedding"])
                item["embedding"] = base64.b64encode(packed).decode()
        return JSONResponse(answer)

    async def _generate(self, request: Request, call: Callable[..., Any]) -> Response:
        if (refusal := self._refuse(request)) is not None:
            return refusal
        body = await request.json()
        known = inspect.signature(call).parameters
        arguments = {key: value for key, value in body.items() if key in known and key != "logits_processor"}
        generation = _Generation(call, arguments | {"model": self._model_id})
        items = self._in_turn(generation)
        try:
            first = await _first_item(request, generation, items)
        except (ValueError, TypeError, KeyError) as error:
            kind = "exceed_context_size_error" if "context window" in str(error) else "invalid_request_error"
            return _error(400, kind, str(error))
        if body.get("stream") and first is not None:
            wants_usage = (body.get("stream_options") or {}).get("include_usage", False)
            events = _events(first, items, generation, wants_usage=wants_usage)
            return StreamingResponse(events, media_type="text/event-stream")
        await items.aclose()
        return JSONResponse(first)

    async def _in_turn(self, generation: _Generation) -> AsyncGenerator[Any, None]:
        async with self._turn, contextlib.aclosing(generation.run()) as items:
            async for item in items:
                yield item

    def _refuse(self, request: Request) -> Response | None:
        given = request.headers.get("authorization", "").encode()
        if hmac.compare_digest(given, self._key):
            return None
        return _error(401, "authentication_error", "wrong key")


async def _first_item(request: Request, generation: _Generation, items: AsyncGenerator[Any, None]) -> Any:
    """Wait for the first item, or for the client to leave, which ends the generation."""

    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        generation.cancel()

    watcher = asyncio.create_task(watch())
    try:
        return await anext(items, None)
    finally:
        watcher.cancel()
        await asyncio.gather(watcher, return_exceptions=True)


async def _events(
    first: Any, items: AsyncGenerator[Any, None], generation: _Generation, *, wants_usage: bool
) -> AsyncGenerator[str, None]:
    async with contextlib.aclosing(items):
        chunk = first
        while chunk is not None:
            last, chunk = chunk, await anext(items, None)
            yield f"data: {json.dumps(last)}\n\n"
    if wants_usage:
        prompt, completion = generation.prompt_tokens, generation.completion_tokens
        usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
        yield f"data: {json.dumps(last | {'choices': [], 'usage': usage})}\n\n"
    yield "data: [DONE]\n\n"


def _error(status: int, kind: str, message: str) -> JSONResponse:
    return JSONResponse({"error": {"message": message, "type": kind, "code": status}}, status)


def make_app(llama: Any, orders: Orders) -> Starlette:
    """Return the application that serves `llama` as the model `orders["id"]`."""
    endpoints = _Endpoints(llama, orders)
    return Starlette(
        routes=[
            Route("/health", endpoints.health),
            Route("/v1/chat/completions", endpoints.chat, methods=["POST"]),
            Route("/v1/completions", endpoints.complete, methods=["POST"]),
            Route("/v1/embeddings", endpoints.embed, methods=["POST"]),
        ]
    )
