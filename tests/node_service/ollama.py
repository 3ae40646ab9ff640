"""A server that behaves like Ollama's OpenAI endpoints, and can be told to be busy or to lose its model."""

import json
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.serving import InThreads, OwnedServer

__all__ = ["Ollama"]

_LETTERS = "abcdefgh"


@dataclass
class Ollama(InThreads):
    """Lists `models`, answers letters, and keeps the requests it got."""

    models: list[str] = field(default_factory=lambda: ["tiny:latest"])
    busy: bool = False
    requests: list[dict[str, Any]] = field(default_factory=list)
    port: int = 0

    def handler(self) -> type[BaseHTTPRequestHandler]:
        """Return what answers the requests."""
        return _Handler


class _Handler(BaseHTTPRequestHandler):
    server: OwnedServer

    def do_GET(self) -> None:
        data = [{"id": name, "object": "model", "created": 0, "owned_by": "library"} for name in self.server.owner.models]
        self._json(200, {"object": "list", "data": data})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.owner.requests.append(body)
        if self.server.owner.busy:
            self._error(503, "server busy, please try again.  maximum pending requests exceeded")
        elif body["model"] not in self.server.owner.models:
            self._error(404, f"model {body['model']!r} not found")
        elif body.get("stream"):
            self._stream(body)
        else:
            message = {"role": "assistant", "content": _LETTERS[: body["max_tokens"]]}
            self._json(200, self._answer(body, {"message": message}) | {"usage": _usage(body)})

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def _answer(self, body: dict[str, Any], choice: dict[str, Any]) -> dict[str, Any]:
        return {"id": "chatcmpl-1", "model": body["model"], "choices": [{"index": 0, "finish_reason": None} | choice]}

    def _stream(self, body: dict[str, Any]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for letter in _LETTERS[: body["max_tokens"]]:
            self._event(self._answer(body, {"delta": {"content": letter}}))
        if body.get("stream_options", {}).get("include_usage"):
            self._event(self._answer(body, {}) | {"choices": [], "usage": _usage(body)})
        self.wfile.write(b"data: [DONE]\n\n")

    def _event(self, answer: dict[str, Any]) -> None:
        self.wfile.write(f"data: {json.dumps(answer)}\n\n".encode())

    def _error(self, status: int, message: str) -> None:
        self._json(status, {"error": {"message": message, "type": "api_error", "param": None, "code": None}})

    def _json(self, status: int, document: dict[str, Any]) -> None:
        content = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def _usage(body: dict[str, Any]) -> dict[str, int]:
    return {"prompt_tokens": 1, "completion_tokens": body["max_tokens"], "total_tokens": 1 + body["max_tokens"]}
