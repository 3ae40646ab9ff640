"""The dashboard as an ASGI application: plain pages by FastAPI, everything else by Panel, both behind one cookie."""

import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import panel as pn
from fastapi import FastAPI
from panel import ui
from panel.io.fastapi import add_applications
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dashboards.auth import SESSION_COOKIE, CookiePolicy, current, document, request_of
from dashboards.door import Door, doors
from dashboards.i18n import Language, choose
from dashboards.pages import PAGES
from dashboards.runtime import Runtime
from dashboards.settings import DashboardSettings
from dashboards.shell import Shell
from dashboards.sockets import SessionSockets
from dashboards.templating import TEMPLATES, render
from dashboards.theme import component_theme, css_variables
from dashboards.web import DEVICE_COOKIE, LANGUAGE_COOKIE, Web

SCHEME_COOKIE = "muster_scheme"

# Nothing is ever loaded from another site. Bokeh compiles its callbacks in the browser, hence the two 'unsafe'.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' ws: wss: blob: data:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)


def create_app(settings: DashboardSettings) -> FastAPI:
    """Return the application of one dashboard process."""
    runtime = Runtime(settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        async with runtime.running():
            yield

    app = FastAPI(lifespan=lifespan, openapi_url=None)
    plain = Web(settings, runtime.entry, runtime.sessions).router()
    app.include_router(plain)

    def tab() -> ui.Page:
        return _tab(runtime)

    public_host = urlsplit(settings.public_url).netloc
    add_applications(
        {f"/{name}": tab for name in PAGES},
        app=app,
        title="Muster",
        location=False,
        auth_policy=CookiePolicy(runtime.sessions),
        # Bokeh writes what it includes into the page, where any script could read it: never the session cookie.
        include_headers=["Accept-Language"],
        include_cookies=[LANGUAGE_COOKIE, SCHEME_COOKIE],
        websocket_origin=[public_host] if public_host else None,
        # Whoever opens a socket proves that the page was given to it by this process.
        sign_sessions=True,
        secret_key=secrets.token_bytes(32),
    )
    cookies = (SESSION_COOKIE, DEVICE_COOKIE, LANGUAGE_COOKIE, SCHEME_COOKIE)
    app.add_middleware(SessionSockets, sessions=runtime.sessions)
    app.add_middleware(Door, paths=doors(plain.routes, PAGES), pages=PAGES, cookies=cookies)
    app.add_middleware(SecurityHeaders)
    return app


def _tab(runtime: Runtime) -> ui.Page:
    """Build what one browser tab shows. Panel calls it for each document."""
    doc = document()
    request = request_of(doc)
    words = choose(request.cookies.get(LANGUAGE_COOKIE), request.headers.get("Accept-Language"))
    shell = Shell(runtime, current(), words, request.uri, doc)
    pn.state.onload(shell.start)
    doc.on_session_destroyed(lambda _: runtime.spawn_soon(shell.stop, "tab-stop"))
    doc.template_variables.update(_document(words))
    others = _wakened_by_all()
    page = ui.Page(
        header=[shell.header],
        main=[shell.navigation, shell.main, shell.dialog],
        template=TEMPLATES / "page.html",
        theme_config=component_theme(),
        dark_theme=request.cookies.get(SCHEME_COOKIE) == "dark",
        theme_toggle=False,
        busy_indicator=None,
        title="",
        meta_title="Muster",
        stylesheets=[PAGE_CSS],
    )
    # Panel tells each page of each event in any other, to show it as busy, and so keeps the pages of closed tabs for ever.
    for watcher in _wakened_by_all():
        if watcher not in others:
            pn.state.param.unwatch(watcher)
    return page


def _wakened_by_all() -> list[Any]:
    return list(pn.state.param.watchers.get("busy", {}).get("value", []))


PAGE_CSS = (TEMPLATES.parent / "components" / "page.css").read_text(encoding="utf-8")


def _document(words: Language) -> dict[str, str]:
    _ = words.gettext
    return {
        "language": words.code,
        "head": render("_head.html", words),
        "logo": render("_logo.html", words),
        "variables": css_variables(),
        "loading_text": _("Loading the fleet…"),
        "lost_text": _("The connection to the dashboard is lost. Trying again…"),
        "noscript_text": _("The dashboard needs JavaScript."),
    }


class SecurityHeaders:
    """Adds the headers that keep foreign content and foreign frames out."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and add the headers to its answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *_HEADERS]
            await send(message)

        await self._app(scope, receive, sending)


_HEADERS = [
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
]
