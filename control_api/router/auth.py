"""Who is calling: API keys and inference tokens, checked from the route table alone."""

import hashlib
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import jwt

from control_api.router.errors import InvalidKey, PermissionDenied
from control_api.router.source import TablePoller
from control_api.router.table import RouteTable

AUDIENCE = "muster-inference"
TOKEN_LIFE_S = 600
LEEWAY_S = 5


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who may call. ``models``, ``pins``: ids that it is limited to; ``None`` means all."""

    id: str
    scopes: frozenset[str]
    models: frozenset[str] | None
    pins: frozenset[str] | None

    def require(self, scope: str) -> None:
        """Raise ``PermissionDenied`` unless the caller has the scope."""
        if scope not in self.scopes:
            raise PermissionDenied(f"This key does not have the scope {scope!r}.")

    def require_model(self, model: str) -> None:
        """Raise ``PermissionDenied`` unless the caller may use the model."""
        if self.models is not None and model not in self.models:
            raise PermissionDenied(f"This key may not use the model {model!r}.")

    def require_pin(self, node_id: str) -> None:
        """Raise ``PermissionDenied`` unless the caller may choose this node."""
        if self.pins is not None and node_id not in self.pins:
            raise PermissionDenied("This key may not pin requests to that node.")


async def authenticate(authorization: str | None, poller: TablePoller) -> Caller:
    """Return the caller behind an ``authorization`` header. One that is unknown is looked up again after a refresh.

    Raises ``InvalidKey``, or ``NotReady`` before there is a table.
    """
    table = poller.table
    scheme, _, secret = (authorization or "").partition(" ")
    secret = secret.strip()
    if scheme.lower() != "bearer" or not secret:
        raise InvalidKey("Give an API key in the header 'Authorization: Bearer <key>'.")
    check = _by_token if secret.count(".") == 2 else _by_key
    if caller := check(secret, table):
        return caller
    await poller.wait_for_refresh()
    if caller := check(secret, poller.table):
        return caller
    raise InvalidKey("The API key or token is not known.")


def _by_key(key: str, table: RouteTable) -> Caller | None:
    entry = table.keys.get(hashlib.sha256(key.encode()).hexdigest())
    if entry is None:
        return None
    if entry.expires_at and entry.expires_at <= datetime.now(UTC):
        raise InvalidKey("The API key has expired.")
    pins = None if "operate" in entry.scopes else frozenset[str]()
    return Caller(f"key:{entry.id}", entry.scopes, entry.models, pins)


def _by_token(token: str, table: RouteTable) -> Caller | None:
    """Return who a token was signed for, or ``None`` if the table does not have its key."""
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
            options={"require": ["exp", "aud", "sub", "jti"], "strict_aud": True},
        )
    except jwt.PyJWTError as error:
        raise InvalidKey(f"The token is not valid: {error}.") from error
    if claims["jti"] in table.revoked_jti:
        raise InvalidKey("The token was revoked.")
    if claims["exp"] > time.time() + TOKEN_LIFE_S + LEEWAY_S:
        raise InvalidKey("The token is valid for longer than a token may be.")
    return _token_caller(claims)


def _token_caller(claims: dict[str, Any]) -> Caller:
    pin = claims.get("pin") or []
    models = claims.get("models")
    if not (pin == "*" or _is_ids(pin)) or not (models is None or _is_ids(models)):
        raise InvalidKey("The token's claims are malformed.")
    return Caller(
        f"token:{claims['sub']}",
        frozenset({"inference"}),
        None if models is None else frozenset(models),
        pins=None if pin == "*" else frozenset(pin),
    )


def _is_ids(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
