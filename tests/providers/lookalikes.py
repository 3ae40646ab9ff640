"""Local look-alikes of the OpenAI-compatible endpoints of OpenAI, Anthropic and Google, with the quirks of each."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

PROVIDER_KEY = "sk-provider-0123456789"
PIECES = ("Hel", "lo", "!")


@dataclass
class Lookalike:
    """One provider. ``answer``: what it answers instead of completions, if anything; ``asked``: what came in."""

    prefix: str
    models: dict[str, Any]
    refusal: tuple[int, Any]
    lists_by_header: bool = False
    has_responses: bool = False
    answer: Response | None = None
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    @property
    def app(self) -> Starlette:
        """What it serves."""
        routes = [
            Route(f"{self.prefix}/models", self._list),
            Route(f"{self.prefix}/chat/completions", self._chat, methods=["POST"]),
        ]
        if self.has_responses:
            routes.append(Route(f"{self.prefix}/responses", self._respond, methods=["POST"]))
        return Starlette(routes=routes)

    async def _list(self, request: Request) -> Response:
        if self.lists_by_header:
            known = request.headers.get("x-api-key") == PROVIDER_KEY and "anthropic-version" in request.headers
        else:
            known = self._is_known(request)
        return JSONResponse(self.models) if known else self._refused()

    async def _chat(self, request: Request) -> Response:
        if not self._is_known(request):
            return self._refused()
        body = await request.json()
        self.asked.append((request.url.path, body))
        if self.answer:
            return self.answer
        if body.get("stream"):
            return StreamingResponse(self._chunks(body), media_type="text/event-stream")
        message = {"role": "assistant", "content": "".join(PIECES)}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 1, "completion_tokens": 3, "total_tokens": 4}
        common = {"id": "c1", "object": "chat.completion", "created": 1, "model": body["model"]}
        return JSONResponse({**common, "choices": [choice], "usage": usage})

    async def _respond(self, request: Request) -> Response:
        body = await request.json()
        self.asked.append((request.url.path, body))
        return JSONResponse({"id": "resp_2", "object": "response", "output": [], "previous": body["previous_response_id"]})

    async def _chunks(self, body: dict[str, Any]) -> AsyncIterator[str]:
        common = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": body["model"]}
        for piece in PIECES:
            choice = {"index": 0, "delta": {"content": piece}, "finish_reason": None}
            yield f"data: {json.dumps({**common, 'choices': [choice]})}\n\n"
        if body.get("stream_options", {}).get("include_usage"):
            usage = {"prompt_tokens": 1, "completion_tokens": 3, "total_tokens": 4}
            yield f"data: {json.dumps({**common, 'choices': [], 'usage': usage})}\n\n"
        yield "data: [DONE]\n\n"

    def _is_known(self, request: Request) -> bool:
        return request.headers.get("authorization") == f"Bearer {PROVIDER_KEY}"

    def _refused(self) -> Response:
        status, body = self.refusal
        return JSONResponse(body, status)


def lookalike(name: str) -> Lookalike:
    """Return a new look-alike of a provider."""
    if name == "openai":
        error = {"message": "Incorrect API key provided", "type": "invalid_request_error", "code": "invalid_api_key"}
        models = {"object": "list", "data": [{"id": "gpt-5", "object": "model"}, {"id": "o4-mini", "object": "model"}]}
        return Lookalike("/v1", models, (401, {"error": error}), has_responses=True)
    if name == "anthropic":
        refusal = {"type": "error", "error": {"type": "authentication_error", "message": "invalid x-api-key"}}
        data = [{"type": "model", "id": "claude-sonnet-4-5", "display_name": "Claude"}]
        return Lookalike("/v1", {"data": data, "has_more": False}, (401, refusal), lists_by_header=True)
    google = [{"error": {"code": 400, "message": "API key not valid.", "status": "INVALID_ARGUMENT"}}]
    data = [{"id": "models/gemini-2.5-flash", "object": "model"}]
    return Lookalike("/v1beta/openai", {"object": "list", "data": data}, (400, google))
