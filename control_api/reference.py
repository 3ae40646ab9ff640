"""``/openapi.json`` and ``/docs``: the reference of this API, readable offline and only with a credential.

FastAPI's own pages load their scripts from a content network and let anybody in; this one is plain HTML, and a browser
asks for an API key (as the password) by HTTP Basic.
"""

import base64
import binascii
from html import escape
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse

from control_api.access.principal import check_scope
from control_api.access.schemas import Scope
from control_api.errors import Unauthenticated
from control_api.kit.http import ReadSession

router = APIRouter(include_in_schema=False)

_ASK = {"www-authenticate": 'Basic realm="Muster: an API key as the password", charset="UTF-8"'}


async def _reader(request: Request, session: ReadSession) -> None:
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    try:
        credential = base64.b64decode(value).decode().partition(":")[2] if scheme.lower() == "basic" else value.strip()
    except (binascii.Error, UnicodeDecodeError):
        credential = ""
    try:
        principal = await request.state.access.authenticate(session, credential)
    except Unauthenticated as error:
        raise Unauthenticated(error.message, code=error.code, headers=_ASK) from error
    check_scope(principal, Scope.READ)


Reading = Annotated[None, Depends(_reader, scope="function")]


@router.get("/openapi.json")
async def openapi(request: Request, _: Reading) -> dict[str, Any]:
    """Return the OpenAPI document."""
    document: dict[str, Any] = request.app.openapi()
    return document


@router.get("/docs")
async def docs(request: Request, _: Reading) -> HTMLResponse:
    """Return the reference as a page."""
    document = request.app.openapi()
    areas: dict[str, list[str]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            areas.setdefault(operation.get("tags", ["other"])[0], []).append(_operation(method, path, operation))
    sections = "".join(f"<h2>{escape(area)}</h2>{''.join(rows)}" for area, rows in areas.items())
    return HTMLResponse(
        _PAGE.format(title=escape(document["info"]["title"]), version=document["info"]["version"], body=sections)
    )


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    parameters = "".join(
        f"<li><code>{escape(p['name'])}</code> <small>{escape(p['in'])}</small> {escape(p.get('description', ''))}</li>"
        for p in operation.get("parameters", [])
    )
    answers = ", ".join(operation["responses"])
    return (
        f"<details><summary><b>{method.upper()}</b> <code>{escape(path)}</code> "
        f"{escape(operation.get('summary', ''))}</summary>"
        f"<p>{escape(operation.get('description', ''))}</p><ul>{parameters}</ul>"
        f"<p><small>Body: {_schema(operation.get('requestBody'))} · Answers: {answers}</small></p>"
        "</details>"
    )


def _schema(body: dict[str, Any] | None) -> str:
    if not body:
        return "none"
    schema = next(iter(body["content"].values()))["schema"]
    return f"<code>{escape(schema.get('$ref', 'inline').rsplit('/', 1)[-1])}</code> (see /openapi.json)"


_PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width">
<style>:root{{color-scheme:light dark}}
body{{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}}
details{{border-bottom:1px solid #8884;padding:.4rem 0}}summary{{cursor:pointer}}</style></head>
<body><h1>{title} {version}</h1><p>The machine-readable document is <a href="openapi.json">openapi.json</a>.</p>
{body}</body></html>"""
