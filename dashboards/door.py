"""What of the dashboard can be asked for at all. Panel and Bokeh serve more than we use, some of it to anybody.

Their `/components/` imports whatever module is named, for whoever asks; Bokeh takes the id of a session from the address, so
that a link could bring two users into one session. What is not named here does not exist, whoever asks.
"""

import re
from collections.abc import Iterable, Mapping
from urllib.parse import unquote_plus

from starlette.responses import PlainTextResponse
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

READ = frozenset({"GET", "HEAD"})
STATIC = "/static/"
FAVICON = "/favicon.ico"
SOCKET = "/ws"
# No empty segment, none that begins with a dot, nothing that means something to a file system or is still encoded.
_PLAIN_PATH = re.compile(r"/(?:[A-Za-z0-9_@^~+,=-][A-Za-z0-9_.@^~+,=-]*/)*(?:[A-Za-z0-9_@^~+,=-][A-Za-z0-9_.@^~+,=-]*)?")
_FOREIGN_PARAMETER = "bokeh-"
_FOREIGN_HEADER = b"bokeh-"


def doors(plain: Iterable[BaseRoute], pages: Iterable[str]) -> Mapping[str, frozenset[str]]:
    """Return the methods of each path that there is: of the plain pages, and of Panel's."""
    open_paths: dict[str, frozenset[str]] = {FAVICON: READ, **{f"/{name}": READ for name in pages}}
    for route in plain:
        if isinstance(route, Route):
            open_paths[route.path] = open_paths.get(route.path, frozenset()) | frozenset(route.methods or ())
    return open_paths


class Door:
    """ASGI middleware before everything else: lets through what there is, less what is nobody's to choose.

    Parameters
    ----------
    paths: methods by path.
    pages: names of Panel's pages; each has a WebSocket.
    cookies: names of those that we set; no other one is passed on.
    """

    def __init__(self, app: ASGIApp, paths: Mapping[str, frozenset[str]], pages: Iterable[str], cookies: Iterable[str]) -> None:
        self._app = app
        self._paths = paths
        self._sockets = {f"/{name}{SOCKET}" for name in pages}
        self._cookies = {name.encode() for name in cookies}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or say that there is no such thing."""
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] != "websocket":
            await self._app(scope, receive, send)
        elif scope["path"] in self._sockets:
            await self._app(self._cleaned(scope), receive, send)
        else:
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": "There is no such page."})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        methods = self._methods(scope["path"])
        if methods is None:
            await PlainTextResponse("There is no such page.", 404)(scope, receive, send)
        elif scope["method"] not in methods:
            allow = {"allow": ", ".join(sorted(methods))}
            await PlainTextResponse("This page does not take that.", 405, allow)(scope, receive, send)
        else:
            await self._app(self._cleaned(scope), receive, send)

    def _methods(self, path: str) -> frozenset[str] | None:
        if path.startswith(STATIC) and path != STATIC and _PLAIN_PATH.fullmatch(path):
            return READ
        return self._paths.get(path)

    def _cleaned(self, scope: Scope) -> Scope:
        headers = [
            (name, self._known(value) if name == b"cookie" else value)
            for name, value in scope["headers"]
            if not name.startswith(_FOREIGN_HEADER)
        ]
        parts = scope["query_string"].split(b"&")
        return {**scope, "headers": headers, "query_string": b"&".join(part for part in parts if not _is_foreign(part))}

    def _known(self, value: bytes) -> bytes:
        """Return the cookies of a header that are ours: the parser behind raises at some names."""
        pairs = (pair.strip() for pair in value.split(b";"))
        return b"; ".join(pair for pair in pairs if pair.partition(b"=")[0] in self._cookies)


def _is_foreign(part: bytes) -> bool:
    name = unquote_plus(part.partition(b"=")[0].decode("latin-1"), "latin-1")
    return name.strip().lower().startswith(_FOREIGN_PARAMETER)
