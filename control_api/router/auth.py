"""Who is calling: API keys and inference tokens, checked from the route table alone."""

import hashlib
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import jwt

from control_api.router.errors import InvalidKey, PermissionDenied
from control_api.router.source import TablePoller
from control_api.router.table import RouteTable, TokenParent

AUDIENCE = "muster-inference"
TOKEN_LIFE_S = 600
LEEWAY_S = 5
# Callers that are not looked up again until the table changes. By their headers, of which one can make any number with spaces.
REMEMBERED = 10_000
LONGEST_REMEMBERED_BYTES = 256


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who may call. ``models``, ``pins``: ids that it is limited to; ``None`` means all.

    ``only_pinned``: it calls the nodes that it may pin, and no others.
    ``is_lasting``: true as long as the table says so, for there is no other end to it. The limits count per router process
    and ``bucket``, which a key shares with its tokens; ``None``: no limit.
    """

    id: str
    scopes: frozenset[str]
    models: frozenset[str] | None
    pins: frozenset[str] | None
    is_lasting: bool = False
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    bucket: str = ""
    only_pinned: bool = False

    def require(self, scope: str) -> None:
        """Raise ``PermissionDenied`` unless the caller has the scope."""
        if scope not in self.scopes:
            raise PermissionDenied(f"This key does not have the scope {scope!r}.")

    def require_model(self, model: str) -> None:
        """Raise ``PermissionDenied`` unless the caller may use the model."""
        if self.models is not None and model not in self.models:
            raise PermissionDenied(f"This key may not use the model {model!r}.")

    def require_pin(self, node_id: str | None) -> None:
        """Raise ``PermissionDenied`` unless the caller may choose this node; ``None``: leave the choice to the router."""
        if node_id is None:
            if self.only_pinned:
                raise PermissionDenied("A token of a job may only call the nodes that it pins.")
        elif self.pins is not None and node_id not in self.pins:
            raise PermissionDenied("This key may not pin requests to that node.")


class Authenticator:
    """Knows callers by their ``authorization`` header."""

    def __init__(self, poller: TablePoller) -> None:
        self._poller = poller
        self._table: RouteTable | None = None
        self._callers: dict[bytes, Caller] = {}

    def known(self, header: bytes | None) -> Caller | None:
        """Return the caller if its API key was checked before against the table in force; this is the usual case.

        Raises ``NotReady`` before there is a table.
        """
        table = self._poller.table
        if table is not self._table:
            self._table = table
            self._callers.clear()
        return self._callers.get(header) if header else None

    async def caller(self, header: bytes | None) -> Caller:
        """Return the caller behind a header. One that is unknown is looked up again after a refresh.

        Raises ``InvalidKey``, or ``NotReady`` before there is a table.
        """
        if caller := self.known(header):
            return caller
        scheme, _, secret = (header or b"").decode("latin-1").partition(" ")
        secret = secret.strip()
        if scheme.lower() != "bearer" or not secret:
            raise InvalidKey("give one in the header 'Authorization: Bearer <key>'")
        if not (caller := self._check(secret)):
            await self._poller.wait_for_refresh()
            caller = self._check(secret)
        if not caller:
            raise InvalidKey("it is not known")
        if caller.is_lasting and header and len(header) <= LONGEST_REMEMBERED_BYTES and len(self._callers) < REMEMBERED:
            self.known(None)  # forget the callers of another table
            self._callers[header] = caller
        return caller

    def _check(self, secret: str) -> Caller | None:
        check = _by_token if secret.count(".") == 2 else _by_key
        return check(secret, self._poller.table)


def _by_key(key: str, table: RouteTable) -> Caller | None:
    entry = table.keys.get(hashlib.sha256(key.encode()).hexdigest())
    if entry is None:
        return None
    if entry.expires_at and entry.expires_at <= datetime.now(UTC):
        raise InvalidKey("it has expired")
    pins = None if "operate" in entry.scopes else frozenset[str]()
    return Caller(
        f"key:{entry.id}",
        entry.scopes,
        entry.models,
        pins,
        is_lasting=entry.expires_at is None,
        requests_per_minute=entry.requests_per_minute,
        tokens_per_minute=entry.tokens_per_minute,
        bucket=f"key:{entry.id}",
    )


def _by_token(token: str, table: RouteTable) -> Caller | None:
    """Return who a token was signed for, or ``None`` if the table does not have its key or what it was derived from."""
    try:
        signing_key = table.signing_keys.get(str(jwt.get_unverified_header(token).get("kid")))
        if signing_key is None:
            return None
        claims = jwt.decode(
            token,
            signing_key,
            algorithms=["EdDSA"],
            audience=AUDIENCE,
            leeway=LEEWAY_S,
            options={"require": ["exp", "aud", "sub", "jti", "parent"], "strict_aud": True},
        )
    except jwt.PyJWTError as error:
        raise InvalidKey(f"the token is not valid: {error}") from error
    if claims["exp"] > time.time() + TOKEN_LIFE_S + LEEWAY_S:
        raise InvalidKey("the token is valid for longer than a token may be")
    parent = table.parents.get(str(claims["parent"]))
    return _token_caller(claims, parent) if parent else None


def _token_caller(claims: dict[str, Any], parent: TokenParent) -> Caller:
    """Return the caller that a token makes: what it says narrows its parent's rights and widens none."""
    if parent.expires_at and parent.expires_at <= datetime.now(UTC):
        raise InvalidKey("what the token was derived from has expired")
    pins, models = _ids(claims.get("pin") or []), claims.get("models")
    return Caller(
        parent.caller_id,
        parent.scopes & {"inference"},
        parent.models if models is None else _within(_ids(models), parent.models),
        pins=_within(pins, parent.pins),
        requests_per_minute=parent.requests_per_minute,
        tokens_per_minute=parent.tokens_per_minute,
        bucket=parent.bucket,
        only_pinned=parent.only_pinned,
    )


def _within(wanted: frozenset[str], allowed: frozenset[str] | None) -> frozenset[str]:
    return wanted if allowed is None else wanted & allowed


def _ids(value: Any) -> frozenset[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise InvalidKey("the token's claims are malformed")
    return frozenset(value)
