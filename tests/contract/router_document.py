"""What the router takes, as an OpenAPI document: as much of OpenAI's as decides what the router does with a request."""

from typing import Any

from tests.router.fleet import MODEL

_TEXT = {"type": "string"}
_PARTS = {"type": "array", "items": {"type": "object", "properties": {"type": _TEXT, "text": _TEXT}}}
_MESSAGE = {
    "type": "object",
    "required": ["role"],
    "properties": {
        "role": {"enum": ["system", "developer", "user", "assistant", "tool"]},
        "content": {"anyOf": [_TEXT, _PARTS, {"type": "null"}]},
        "tool_calls": {"type": "array", "items": {"type": "object"}},
    },
}
_SHARED = {
    "model": {"anyOf": [{"const": MODEL}, _TEXT]},
    "stream": {"type": ["boolean", "null"]},
    "stream_options": {"type": ["object", "null"], "properties": {"include_usage": {"type": "boolean"}}},
    "n": {"type": ["integer", "null"]},
    "temperature": {"type": ["number", "null"]},
    "metadata": {"type": "object"},
}


def _post(**fields: Any) -> dict[str, Any]:
    schema = {"type": "object", "required": ["model"], "properties": {**_SHARED, **fields}}
    content = {"application/json": {"schema": schema}}
    answer = {"description": "The node's answer, or an error."}
    return {"post": {"requestBody": {"required": True, "content": content}, "responses": {"default": answer}}}


def _get(*parameters: dict[str, Any]) -> dict[str, Any]:
    responses = {"default": {"description": "What was asked for, or an error."}}
    return {"get": {"parameters": list(parameters), "responses": responses}}


DOCUMENT: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "The router", "version": "1"},
    "paths": {
        "/v1/models": _get(),
        "/v1/models/{model}": _get({"name": "model", "in": "path", "required": True, "schema": _TEXT}),
        "/v1/chat/completions": _post(messages={"type": "array", "items": _MESSAGE}, tools={"type": "array"}),
        "/v1/completions": _post(prompt={"anyOf": [_TEXT, {"type": "array"}]}),
        "/v1/embeddings": _post(input={"anyOf": [_TEXT, {"type": "array"}]}, encoding_format={"enum": ["float", "base64"]}),
        "/v1/responses": _post(input={"anyOf": [_TEXT, {"type": "array"}]}, previous_response_id={"type": ["string", "null"]}),
        "/healthz": _get(),
        "/readyz": _get(),
        "/metrics": _get(),
    },
}
