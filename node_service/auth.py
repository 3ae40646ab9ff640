"""Who may call: the node's inference key, and tickets for single artifacts."""

import base64
import binascii
import hashlib
import hmac
import json
import time

from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from node_service.errors import InvalidKey

__all__ = ["KeyRequired", "bearer", "check_ticket"]

_OPEN_PATHS = frozenset({"/healthz"})
_TICKET_PATHS = "/v0/artifacts/"  # their handler checks the ticket


class KeyRequired:
    """ASGI middleware: every path but `/healthz` needs the key."""

    def __init__(self, app: ASGIApp, key: str) -> None:
        self._app = app
        self._key = key.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 401."""
        if scope["type"] == "http" and not self._allowed(scope):
            error = InvalidKey("missing or wrong key: send Authorization: Bearer <key>")
            answer = JSONResponse(error.body(), error.status, error.headers())
            await answer(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _allowed(self, scope: Scope) -> bool:
        path = scope["path"]
        if path in _OPEN_PATHS or path.startswith(_TICKET_PATHS):
            return True
        return hmac.compare_digest(bearer(HTTPConnection(scope)).encode(), self._key)


def bearer(connection: HTTPConnection) -> str:
    """Return the bearer token of a request, or an empty string."""
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def check_ticket(key: str, ticket: str, *, sha256: str) -> str:
    """Return the asker named in a ticket.

    A ticket is `base64url(payload).base64url(HMAC-SHA256(key, payload))`, its payload the JSON
    object `{"sha256", "asker", "exp"}` with `exp` in Unix seconds.

    Raises:
        InvalidKey: the ticket is not ours, has expired, or is for another artifact.
    """
    payload_part, _, mac_part = ticket.partition(".")
    try:
        payload, mac = _decode(payload_part), _decode(mac_part)
        genuine = hmac.compare_digest(mac, _mac(key, payload))
        claims = json.loads(payload) if genuine else {}
        if claims.get("sha256") == sha256 and claims.get("exp", 0) > time.time():
            return str(claims["asker"])
    except (ValueError, TypeError, KeyError, AttributeError, binascii.Error):
        pass  # a ticket that cannot be read is as wrong as a forged one
    raise InvalidKey("missing, wrong or expired ticket for this artifact")


def _mac(key: str, payload: bytes) -> bytes:
    return hmac.digest(key.encode(), payload, hashlib.sha256)


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
