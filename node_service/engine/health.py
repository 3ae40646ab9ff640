"""Asking an engine whether it is well."""

import httpx2

from node_service.engine.protocol import Endpoint

__all__ = ["answers"]

_TIMEOUT_S = 10.0


async def answers(http: httpx2.AsyncClient, endpoint: Endpoint, path: str) -> bool:
    """Whether an engine answers a GET with success."""
    try:
        url = f"{endpoint.url}{path}"
        return (await http.get(url, headers=endpoint.headers, timeout=_TIMEOUT_S)).is_success
    except httpx2.HTTPError:
        return False
