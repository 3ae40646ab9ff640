"""Getting in: with a password, or as the first admin. What costs time happens outside of transactions, a little at a time."""

import ipaddress
from collections.abc import Collection
from functools import partial

from starlette.requests import Request

from control_api.access import repository
from control_api.access.attempts import Attempts, PasswordDesk
from control_api.access.models import User
from control_api.access.schemas import LoginRequest, SetupRequest
from control_api.access.service import AccessService, OpenSession
from control_api.errors import TooMany, Unauthenticated
from control_api.kit.database import Store
from control_api.kit.secretbox import password_hash, token_hash

# How the dashboard tells for whom it asks.
CLIENT_HEADER = "x-muster-client"
# An address of version 6 is one of 2^64 that its owner may choose from.
_IPV6_PREFIX = 64


class Logins:
    """Lets people in.

    Parameters
    ----------
    dashboard_keys: hashes of the keys of dashboards; to nobody else's word is listened about who a client is.
    """

    def __init__(self, store: Store, access: AccessService, dashboard_keys: Collection[str]) -> None:
        self._store = store
        self._access = access
        self._dashboard_keys = frozenset(dashboard_keys)
        self._attempts = Attempts()
        self._desk = PasswordDesk()

    async def log_in(self, wanted: LoginRequest, address: str) -> OpenSession:
        """Open a session for a name and a password. Raises ``Unauthenticated``, or ``TooMany``.

        Parameters
        ----------
        address: of whoever asks.
        """
        device = self._access.known_device(wanted.device, wanted.username)
        pair = device or (wanted.username, address)
        self._attempts.begin(pair)
        try:
            async with self._desk.place(known=bool(device)):
                user = await self._find_user(wanted.username)
                hashed = user.password_hash if user else None
                is_right = await self._desk.matches(wanted.password, hashed, known=bool(device))
        except TooMany:
            self._attempts.not_made(pair)
            raise
        except BaseException:
            self._attempts.failed(pair)
            raise
        if not user or not is_right:
            self._attempts.failed(pair)
            raise Unauthenticated("The user name or the password is wrong.", code="login_failed")
        self._attempts.succeeded(pair)
        async with self._store.write() as session:
            return await self._access.start_session(session, user)

    async def set_up(self, wanted: SetupRequest) -> OpenSession:
        """Make the first admin and open a session. Raises ``Forbidden`` for a token that is not, or no longer, good."""
        async with self._store.read() as session:
            await self._access.check_setup(session, wanted.token)
        hashed = await self._desk.hash(partial(password_hash, wanted.password))
        async with self._store.write() as session:
            return await self._access.set_up(session, wanted.token, wanted.username, hashed)

    async def refresh(self, session_id: str) -> OpenSession:
        """Return a session, which lives on from now. Raises ``Unauthenticated``. Writes only when there is something to."""
        async with self._store.read() as session:
            opened = await self._access.find_session(session, session_id)
        if opened.is_due:
            async with self._store.write() as session:
                await self._access.extend_session(session, session_id)
        return opened

    async def log_out(self, session_id: str) -> None:
        """End a session, if it has not ended already."""
        try:
            async with self._store.read() as session:
                await self._access.find_session(session, session_id)
        except Unauthenticated:
            return
        async with self._store.write() as session:
            await self._access.log_out(session, session_id)

    async def address_of(self, request: Request) -> str:
        """Return the address of whoever asks; a dashboard says for whom it does."""
        told = request.headers.get(CLIENT_HEADER)
        if told is not None and await self._is_dashboard(request):
            return network_of(told)
        return network_of(request.client.host if request.client else "")

    async def _is_dashboard(self, request: Request) -> bool:
        given = token_hash(request.headers.get("authorization", "").partition(" ")[2].strip())
        if given not in self._dashboard_keys:
            return False
        async with self._store.read() as session:
            return await repository.find_api_key(session, given) is not None

    async def _find_user(self, name: str) -> User | None:
        async with self._store.read() as session:
            return await repository.find_user(session, name)


def network_of(address: str) -> str:
    """Return what is counted as one client: an address of version 4, a network of version 6, or ``?`` for what is neither."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return "?"
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((int(found), _IPV6_PREFIX), strict=False))
    return str(found)
