"""OpenAI endpoints over a `llama_cpp.Llama`, for the llama-cpp-python child."""

import asyncio
import base64
import contextlib
import hmac
import inspect
import json
import struct
import threading
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from node_service.engine.children.child import Orders

__all__ = ["Turn", "make_app"]

_DONE = object()
_NOT_JSON = {"stopping_criteria", "logits_processor", "grammar"}  # parameters that take objects


class Cancelled(Exception):
    """The client left: stop computing."""


class Turn:
    """Lets one thread compute at a time, and tells it when to stop; counts its tokens."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cancelled: threading.Event | None = None
        self.prompt_tokens = 0
        self.given_tokens = 0

    @contextlib.contextmanager
    def take(self, cancelled: threading.Event) -> Iterator[None]:
        """Wait for our turn and hold it."""
        with self._lock:
            self._cancelled = cancelled
            self.prompt_tokens = self.given_tokens = 0
            yield

    def watch(self, prompt: Sequence[int], tokens: Iterator[int]) -> Iterator[int]:
        """Pass tokens on, up to the cancellation; raises Cancelled then."""
        self.prompt_tokens = len(prompt)
        for token in tokens:
            if self._cancelled is not None and self._cancelled.is_set():
                raise Cancelled
            self.given_tokens += 1
            yield token

    def usage(self, finish_reason: str | None) -> dict[str, int]:
        """Return the tokens of the present generation; an end token is given, but not counted."""
        completion = self.given_tokens - (finish_reason == "stop")
        total = self.prompt_tokens + completion
        return {"prompt_tokens": self.prompt_tokens, "completion_tokens": completion, "total_tokens": total}


class _Generation:
    """Runs one call of the library in a thread and hands over what it yields.

    The thread holds its turn itself: however the request ends, no other one computes before
    this one has stopped.
    """

    def __init__(self, call: Callable[..., Any], arguments: dict[str, Any], turn: Turn) -> None:
        self._call = call
        self._arguments = arguments
        self._turn = turn
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[Any] = asyncio.Queue()
        self._cancelled = threading.Event()
        self.usage: dict[str, int] = {}

    async def run(self) -> AsyncGenerator[Any, None]:
        """Yield what the call yields; raises what it raises."""
        thread = threading.Thread(target=self._produce, daemon=True)
        thread.start()
        try:
            while (item := await self._queue.get()) is not _DONE:
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            self.cancel()

    def cancel(self) -> None:
        """Stop before the next token."""
        self._cancelled.set()

    def _produce(self) -> None:
        try:
            with self._turn.take(self._cancelled):
                self._hand_over()
            self._put(_DONE)
        except Cancelled:
            self._put(_DONE)
        except Exception as error:  # noqa: BLE001 - it belongs to the request, in the other thread
            self._put(error)

    def _hand_over(self) -> None:
        result = self._call(**self._arguments)
        finish_reason = None
        for item in result if isinstance(result, Iterator) else [result]:
            finish_reason = item["choices"][0]["finish_reason"]
            self._put(item)
        self.usage = self._turn.usage(finish_reason)

    def _put(self, item: Any) -> None:
        self._loop.call_soon_threadsafe(self._queue.put_nowait, item)


class _Endpoints:
    """The handlers of the application."""

    def __init__(self, llama: Any, orders: Orders, turn: Turn) -> None:
        self._llama = llama
        self._model_id = orders["id"]
        self._embedding = orders["embedding"]
        self._key = f"Bearer {orders['api_key']}".encode()
        self._turn = turn

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
        answer = await asyncio.to_thread(self._embed, body.get("input", ""))
        if body.get("encoding_format") == "base64":
            for item in answer["data"]:
                packed = struct.pack(f"<{len(item['embedding'])}f", *item["embedding"])
                item["embedding"] = base64.b64encode(packed).decode()
        return JSONResponse(answer)

    def _embed(self, text: Any) -> Any:
        with self._turn.take(threading.Event()):
            return self._llama.create_embedding(text, model=self._model_id)

    async def _generate(self, request: Request, call: Callable[..., Any]) -> Response:
        if (refusal := self._refuse(request)) is not None:
            return refusal
        body = await request.json()
        known = inspect.signature(call).parameters.keys() - _NOT_JSON
        arguments = {key: value for key, value in body.items() if key in known}
        generation = _Generation(call, arguments | {"model": self._model_id}, self._turn)
        items = generation.run()
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
        yield f"data: {json.dumps(last | {'choices': [], 'usage': generation.usage})}\n\n"
    yield "data: [DONE]\n\n"


def _error(status: int, kind: str, message: str) -> JSONResponse:
    return JSONResponse({"error": {"message": message, "type": kind, "code": status}}, status)


def make_app(llama: Any, orders: Orders, turn: Turn) -> Starlette:
    """Return the application that serves `llama` as the model `orders["id"]`.

    Parameters:
        turn: has been told to `watch` the tokens that `llama` generates.
    """
    endpoints = _Endpoints(llama, orders, turn)
    return Starlette(
        routes=[
            Route("/health", endpoints.health),
            Route("/v1/chat/completions", endpoints.chat, methods=["POST"]),
            Route("/v1/completions", endpoints.complete, methods=["POST"]),
            Route("/v1/embeddings", endpoints.embed, methods=["POST"]),
        ]
    )
