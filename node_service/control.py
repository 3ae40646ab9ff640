"""HTTP client of the control API, for the four calls a node makes."""

import ssl
from pathlib import Path
from typing import Any, TypeVar

import httpx2
from pydantic import BaseModel, ValidationError

from node_service.errors import ControlRefused, ControlUnreachable, EnrolmentRequired
from node_service.identity import IdentityStore
from node_service.wire import (
    FetchGrant,
    FetchQueued,
    HeartbeatAnswer,
    Manifest,
    Registration,
)

__all__ = ["ControlClient", "tls_context"]

_Shape = TypeVar("_Shape", bound=BaseModel)

_MAX_FAILED = 64
_TIMEOUT = httpx2.Timeout(15.0, connect=5.0)  # seconds
# Longer than between two heartbeats, so that they share a connection.
_LIMITS = httpx2.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=30.0)


def tls_context(ca_bundle: Path | None) -> ssl.SSLContext:
    """Return a verifying context; raises OSError when the bundle cannot be read."""
    return ssl.create_default_context(cafile=None if ca_bundle is None else str(ca_bundle))


class ControlClient:
    """The node's side of the control API; every call carries the node's present token.

    All calls raise `ControlUnreachable` when no usable answer came, `EnrolmentRequired` on
    401 and 404, and `ControlRefused` on any other error.
    """

    def __init__(self, api_url: str, identities: IdentityStore, tls: ssl.SSLContext) -> None:
        self._identities = identities
        self._http = httpx2.AsyncClient(base_url=api_url, timeout=_TIMEOUT, limits=_LIMITS, verify=tls)

    async def register(self, ticket: str, facts: dict[str, Any]) -> Registration:
        """Exchange an enrolment ticket and the node's facts for an identity."""
        response = await self._send("POST", "/v0/nodes/register", ticket, facts)
        return _parse(Registration, response)

    async def heartbeat(self, report: dict[str, Any]) -> HeartbeatAnswer:
        """Report the node's state."""
        return _parse(HeartbeatAnswer, await self._call("POST", "heartbeat", report))

    async def manifest(self) -> Manifest:
        """Read what this node shall hold."""
        return _parse(Manifest, await self._call("GET", "manifest"))

    async def request_fetch(self, sha256: str, have_bytes: int, failed: list[dict[str, Any]]) -> FetchGrant | FetchQueued:
        """Ask where to fetch an artifact from, of which `have_bytes` are already here, and say which sources failed."""
        body = {"sha256": sha256, "have_bytes": have_bytes, "failed": failed[:_MAX_FAILED]}
        response = await self._call("POST", "fetches", body)
        if response.status_code == 202:
            return _parse(FetchQueued, response)
        return _parse(FetchGrant, response)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _call(self, method: str, what: str, body: Any = None) -> httpx2.Response:
        identity = self._identities.current
        if identity.node_id is None or identity.token is None:
            raise EnrolmentRequired("this node is not registered")
        return await self._send(method, f"/v0/nodes/{identity.node_id}/{what}", identity.token, body)

    async def _send(self, method: str, path: str, token: str, body: Any) -> httpx2.Response:
        headers = {"authorization": f"Bearer {token}"}
        try:
            response = await self._http.request(method, path, json=body, headers=headers)
        except httpx2.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise ControlUnreachable(f"{self._http.base_url}: {reason}") from error
        if response.is_success:
            return response
        text = f"{method} {path}: {response.status_code} {_reason(response)}"
        if response.status_code in (401, 404):
            raise EnrolmentRequired(text)
        # A gateway in front of a restarting API answers 502 or 503: nobody refused anything.
        if response.status_code >= 500:
            raise ControlUnreachable(text)
        raise ControlRefused(text)


def _reason(response: httpx2.Response) -> str:
    try:
        return str(response.json()["error"]["message"])[:500]
    except (ValueError, KeyError, TypeError):
        return response.reason_phrase


def _parse(shape: type[_Shape], response: httpx2.Response) -> _Shape:
    try:
        return shape.model_validate_json(response.content)
    except ValidationError as error:
        raise ControlRefused(f"{response.url}: not understood: {error.errors()[0]['msg']}") from error
