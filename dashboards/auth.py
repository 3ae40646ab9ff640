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
# How often the API is asked whether a session lives that tabs are open in: once for all of them.
ASK_EVERY_S = 0.4
# A session that nobody used for so long is only forgotten here; its next request asks the API again.
FORGET_AFTER_S = 3600


@dataclass
class SignedIn:
    """A session that the control API knows. ``over``: set when it has ended."""

    session_id: str
    user_name: str
    scopes: frozenset[str]
    token: str
    expires_at_s: float
    asked_at_s: float = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    over: asyncio.Event = field(default_factory=asyncio.Event)

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
        self.asked_at_s = time.monotonic()
        self.expires_at_s = self.asked_at_s + answer.expires_in_s


class Sessions:
    """The sessions that this process has seen, and their tokens."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._known: dict[str, SignedIn] = {}

    def add(self, answer: SessionOut) -> SignedIn:
        """Remember a session that has just been opened."""
        session = self._known.get(answer.session_id) or SignedIn(answer.session_id, "", frozenset(), "", 0.0)
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

    async def ended(self, session_id: str) -> None:
        """Return when a session has ended, here or anywhere else."""
        while True:
            if await self._has_ended(session_id):
                return
            await asyncio.sleep(ASK_EVERY_S)

    async def _has_ended(self, session_id: str) -> bool:
        """Ask the API, if nobody has just done so. False while it cannot say."""
        try:
            await self._renew(await self.resolve(session_id), after_s=ASK_EVERY_S)
        except ApiError as error:
            return isinstance(error, NotSignedIn)
        return False

    async def close(self, session_id: str) -> None:
        """End a session here and in the API. Raises ApiError if the API could not be told."""
        self._forget(session_id)
        await self._client.auth.logout(session_id)

    def _forget(self, session_id: str) -> None:
        if session := self._known.pop(session_id, None):
            session.over.set()

    async def _renew(self, session: SignedIn, *, after_s: float | None = None) -> None:
        """Get a new token, if the old one is about to expire, or was given more than ``after_s`` ago."""
        async with session.lock:
            now = time.monotonic()
            left_s = session.expires_at_s - now
            if left_s >= RENEW_BEFORE_S and (after_s is None or now - session.asked_at_s < after_s):
                return
            try:
                session.take(await self._client.auth.refresh(session.session_id))
            except NotSignedIn:
                self._forget(session.session_id)
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
