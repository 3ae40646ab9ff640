"""The WebSocket of a tab lives as long as the session that it was opened in, whatever the browser does."""

import asyncio
import contextlib

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from dashboards.auth import SESSION_COOKIE, Sessions

CLOSE_REFUSED = 1008
# For the tab to be told where to go, and for one that does not read to be told that it is over.
LAST_WORDS_S = 0.2


class SessionSockets:
    """ASGI middleware: ends a socket within a second of its session, here or anywhere else."""

    def __init__(self, app: ASGIApp, sessions: Sessions) -> None:
        self._app = app
        self._sessions = sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection. A socket without a cookie is none that would be opened."""
        session_id = HTTPConnection(scope).cookies.get(SESSION_COOKIE) if scope["type"] == "websocket" else None
        if session_id:
            await self._socket(session_id, scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _socket(self, session_id: str, scope: Scope, receive: Receive, send: Send) -> None:
        tab = asyncio.ensure_future(self._app(scope, receive, send))
        ended = asyncio.create_task(self._sessions.ended(session_id), name="session-ended")
        try:
            await asyncio.wait((tab, ended), return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait((tab,), timeout=LAST_WORDS_S)
        finally:
            tab.cancel()
            ended.cancel()
            await asyncio.gather(tab, ended, return_exceptions=True)
        if not tab.cancelled():
            return tab.result()
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(LAST_WORDS_S):
                await send({"type": "websocket.close", "code": CLOSE_REFUSED, "reason": "The session has ended."})
