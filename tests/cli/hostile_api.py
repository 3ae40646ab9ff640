"""A control API whose every answer tries to act on the terminal: the real routes and shapes, foreign text in each of them."""

from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response, WebSocket
from fastapi.responses import JSONResponse

from control_api.app import create_app
from control_api.fleet.schemas import HostAccept
from control_api.settings import Settings

HOSTILE = "\x1b]0;t\x07\x1b[2J\x9b\x7f\u202e\u2066\u200b\u200f\u2028\x85\r[red]m[link=x]l\nerror: faked"
DEEP = 8
AT = "2026-11-30T12:00:00Z"


def create(state_dir: Path) -> FastAPI:
    """Return the API. ``app.state.refuse``: everything is answered with an error that is as hostile."""
    document = create_app(Settings(state_dir=state_dir)).openapi()
    schemas = document["components"]["schemas"]
    app = FastAPI()
    app.state.refuse = False

    def answering(schema: dict[str, Any], status: int) -> Any:
        async def answer(request: Request) -> Response:
            if app.state.refuse:
                problem = {"code": "conflict", "message": HOSTILE, "hint": HOSTILE, "request_id": HOSTILE, "details": HOSTILE}
                return JSONResponse({"error": problem}, 409)
            if status == 204:
                return Response(status_code=204)
            body = instance(schema, schemas)
            if isinstance(body, dict):
                # Sent back by `hosts accept` as they were shown, and valid therefore.
                body |= dict.fromkeys(set(HostAccept.model_fields) & set(body)) if "address" in body else {}
                body |= {"address": "10.0.0.1", "port": 22, "become": True} if "address" in body else {}
                body |= {key: None for key in ("next_cursor",) if key in body} | ({"final": True} if "final" in body else {})
            return JSONResponse(body, status)

        return answer

    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            status, good = next((int(code), good) for code, good in operation["responses"].items() if code[0] == "2")
            schema = good.get("content", {}).get("application/json", {}).get("schema", {})
            app.add_api_route(
                path.replace("{model_id}", "{model_id:path}"), answering(schema, status), methods=[method.upper()]
            )

    @app.websocket("/v0/events")
    async def events(socket: WebSocket) -> None:
        await socket.accept()
        async for _ in socket.iter_text():
            pass

    return app


def instance(schema: dict[str, Any], schemas: dict[str, Any], depth: int = 0) -> Any:
    """Return a value of a JSON schema in which every free text is hostile, and everything optional is there."""
    if "$ref" in schema:
        return instance(schemas[schema["$ref"].rpartition("/")[2]], schemas, depth + 1)
    if "const" in schema or "enum" in schema:
        return schema["const"] if "const" in schema else schema["enum"][-1]
    if options := schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf"):
        return instance(next(option for option in options if option.get("type") != "null"), schemas, depth)
    if schema.get("type") == "object":
        named = {name: instance(part, schemas, depth) for name, part in schema.get("properties", {}).items()}
        others = schema.get("additionalProperties")
        return named or {HOSTILE: instance(others, schemas, depth) if isinstance(others, dict) else HOSTILE}
    if schema.get("type") == "array":
        return [instance(schema.get("items", {}), schemas, depth)] if depth < DEEP else []
    return _scalar(schema)


def _scalar(schema: dict[str, Any]) -> Any:
    if "format" in schema or "pattern" in schema:
        return {"date-time": AT, None: "thing"}.get(schema.get("format"), "10.0.0.1")
    numbers = {"integer": schema.get("minimum", 3), "number": schema.get("minimum", 0.5), "boolean": True, "null": None}
    return numbers.get(schema.get("type", ""), HOSTILE[: schema.get("maxLength", len(HOSTILE))])
