"""The routes that our applications really have, read from what they serve by."""

from collections.abc import Iterable, Iterator

from panel.io.asgi import PanelASGI
from starlette.routing import BaseRoute, Route, WebSocketRoute

from control_api.router.app import RouterApp


def of_starlette(routes: Iterable[BaseRoute]) -> Iterator[str]:
    """Yield ``METHOD path`` for each route, ``WS path`` for a WebSocket. An included router is a branch of the tree."""
    for route in routes:
        if branch := getattr(route, "original_router", None):
            yield from of_starlette(branch.routes)
        elif isinstance(route, Route):
            yield from (f"{method} {route.path}" for method in _distinct(route.methods or ()))
        elif isinstance(route, WebSocketRoute):
            yield f"WS {route.path}"
        else:
            raise TypeError(f"{route!r} is a kind of route that the matrix does not know: teach it here")


def of_router(app: RouterApp) -> Iterator[str]:
    """Yield the routes of the router, which has a dispatcher of its own."""
    for path, methods in app.listed().items():
        yield from (f"{method} {path}" for method in _distinct(methods))


def of_panel(asgi: PanelASGI) -> Iterator[str]:
    """Yield what Panel and Bokeh would serve: patterns of their own, and those of each application."""
    yield from (pattern.pattern.replace(page, "/{page}") for pattern, page in asgi._app_routes)
    yield from (pattern.pattern for pattern, _ in asgi._extra_routes)


def named(route: str) -> tuple[str, str]:
    """Return the method and the path of a route with an id in the place of each parameter."""
    method, path = route.split(" ")
    parts = ["0198c0de-0000-7000-8000-000000000000" if part.startswith("{") else part for part in path.split("/")]
    return method, "/".join(parts)


def _distinct(methods: Iterable[str]) -> list[str]:
    """Leave out HEAD where it is what comes with GET."""
    return sorted(set(methods) - ({"HEAD"} if "GET" in methods else set()))
