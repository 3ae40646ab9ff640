"""Cross-origin requests of browsers, for the origins that are configured."""

from collections.abc import Sequence

from control_api.router.client import Request

_EXPOSED = b"access-control-expose-headers: *\r\n"
_VARY = b"vary: origin\r\n"
_AGE = b"access-control-max-age: 600\r\n"


class Cors:
    """Which pages may call. ``*`` among the origins means all."""

    def __init__(self, origins: Sequence[str]) -> None:
        self._origins = frozenset(origin.encode() for origin in origins)

    def headers(self, request: Request) -> bytes:
        """Return what every answer to a page of another origin needs; nothing if its origin is not allowed."""
        origin = request.headers.get(b"origin") if self._origins else None
        if origin is None or (origin not in self._origins and b"*" not in self._origins):
            return b""
        return b"access-control-allow-origin: %b\r\n%b%b" % (origin, _EXPOSED, _VARY)

    def preflight(self, request: Request, allow: str) -> bytes | None:
        """Return the answer to the question whether a page may call; ``None`` if that is not asked or not allowed."""
        asked = request.method == "OPTIONS" and b"access-control-request-method" in request.headers
        if not asked or not self.headers(request):
            return None
        # Whatever the page sends: none of our rights depends on a header that a browser adds by itself.
        wanted = request.headers.get(b"access-control-request-headers", b"")
        return b"access-control-allow-methods: %b\r\naccess-control-allow-headers: %b\r\n%b" % (allow.encode(), wanted, _AGE)
