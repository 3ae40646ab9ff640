"""Who is looking: browser sessions of the control API, and the short-lived tokens that go with them.

A browser holds an opaque session id in an HttpOnly cookie. This process exchanges it for an access token, keeps that in
memory only, and renews it before it expires. Rights are the API's business: every action carries the user's own token.
"""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import panel as pn
from bokeh.document import Document
from bokeh.server.auth import AuthPolicy
from bokeh.server.request import ServerRequest

from control_api.client import ApiError, Client, NotSignedIn
from control_api.client.schemas import SessionOut

SESSION_COOKIE = "muster_session"
RENEW_BEFORE_S = 60
# A session that nobody used for so long is only forgotten here; its next request asks the API again.
FORGET_AFTER_S = 3600


@dataclass
class SignedIn:
    """A session that the control API knows."""

    session_id: str
    user_name: str
    scopes: frozenset[str]
    token: str
    expires_at_s: float
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def may_operate(self) -> bool:
        """Whether to offer actions. Only what is shown: the API decides what is done."""
        return bool(self.scopes & {"operate", "admin"})

    @property
    def is_admin(self) -> bool:
        """Whether to offer keys and settings; as ``may_operate``."""
        return "admin" in self.scopes

    def take(self, answer: SessionOut) -> None:
        """Use a fresh token."""
        self.user_name = answer.user.name
        self.scopes = frozenset(answer.user.scopes)
        self.token = answer.access_token
        self.expires_at_s = time.monotonic() + answer.expires_in_s


class Sessions:
    """The sessions that this process has seen, and their tokens."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._known: dict[str, SignedIn] = {}

    def add(self, answer: SessionOut) -> SignedIn:
        """Remember a session that has just been opened."""
        session = SignedIn(answer.session_id, "", frozenset(), "", 0.0)
        session.take(answer)
        forget_before_s = time.monotonic() - FORGET_AFTER_S
        self._known = {key: known for key, known in self._known.items() if known.expires_at_s > forget_before_s}
        self._known[answer.session_id] = session
        return session

    async def resolve(self, session_id: str) -> SignedIn:
        """Return a session with a token that is good for a while.

        Raises NotSignedIn when the session has ended, ApiError when the API cannot say and nothing valid is known.
        """
        session = self._known.get(session_id)
        if session is None:
            session = self.add(await self._client.auth.refresh(session_id))
        if session.expires_at_s - time.monotonic() < RENEW_BEFORE_S:
            await self._renew(session)
        return session

    async def token(self, session_id: str) -> str:
        """Return an access token for a session. Raises as ``resolve``."""
        return (await self.resolve(session_id)).token

    async def check(self, session_id: str) -> None:
        """Ask the API whether a session still lives. Raises NotSignedIn if it does not, ApiError if it cannot say."""
        session = await self.resolve(session_id)
        await self._renew(session, at_once=True)

    async def close(self, session_id: str) -> None:
        """End a session here and in the API. Raises ApiError if the API could not be told."""
        self._known.pop(session_id, None)
        await self._client.auth.logout(session_id)

    def knows(self, session_id: str) -> bool:
        """Return whether a session has been seen and has not been ended."""
        return session_id in self._known

    async def _renew(self, session: SignedIn, *, at_once: bool = False) -> None:
        async with session.lock:
            left_s = session.expires_at_s - time.monotonic()
            if left_s >= RENEW_BEFORE_S and not at_once:
                return
            try:
                session.take(await self._client.auth.refresh(session.session_id))
            except NotSignedIn:
                self._known.pop(session.session_id, None)
                raise
            except ApiError:
                if left_s <= 0:
                    raise


class CookiePolicy(AuthPolicy):
    """Lets pages and their WebSockets in by the session cookie, and sends everybody else to the login page."""

    def __init__(self, sessions: Sessions) -> None:
        super().__init__(lambda request: None, login_url=_login_url)
        self._sessions = sessions

    async def authenticate(self, request: ServerRequest) -> SignedIn | None:
        """Return the session of a request, or None."""
        cookie = request.cookies.get(SESSION_COOKIE)
        if cookie is None or not cookie.value:
            return None
        try:
            return await self._sessions.resolve(cookie.value)
        except ApiError:
            return None


def _login_url(request: ServerRequest) -> str:
    target = request.path + (f"?{request.query}" if request.query else "")
    return "/login?" + urlencode({"next": target})


def document() -> Document:
    """Return the document of the Panel session that is being built. Raises RuntimeError outside of one."""
    if pn.state.curdoc is None:
        raise RuntimeError("There is no document here.")
    return pn.state.curdoc


def request_of(doc: Document) -> Any:
    """Return the request that a document was opened with: cookies, headers, uri, user. Raises RuntimeError without one."""
    context: Any = doc.session_context
    if context is None:
        raise RuntimeError("This document belongs to no browser.")
    return context.request


def current() -> SignedIn:
    """Return who is looking at the Panel session that is being built.

    This and nothing else says who the user is: ``pn.state.user`` believes a cookie that anybody can set.
    """
    user = request_of(document()).user
    if not isinstance(user, SignedIn):
        raise NotSignedIn("unauthenticated", "This page was opened without a session.", status=401)
    return user
