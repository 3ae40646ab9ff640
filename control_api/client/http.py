"""One HTTP connection pool to the control API: authentication, errors and pages, and nothing that knows an endpoint."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import quote

import httpx2
from pydantic import BaseModel, TypeAdapter

from control_api.client.errors import ApiError, ApiUnreachable, from_response
from control_api.kit.tls import trusted
from control_api.kit.wire import Page

type TokenProvider = Callable[[], Awaitable[str]]

PAGE_SIZE = 500


def part(name: str) -> str:
    """Return a name as one part of a path, whatever it is. Raises ApiError for one that no path can hold."""
    if not name:
        raise ApiError("invalid_request", "A name is empty.")
    try:
        quoted = quote(name, safe=":")
    except UnicodeEncodeError as error:
        raise ApiError("invalid_request", f"{name!r} is not text.") from error
    # As they are, these two would lead to another path.
    return quoted.replace(".", "%2E") if name in (".", "..") else quoted


class Http:
    """Sends requests to one control API.

    Parameters
    ----------
    base_url: where the API is, without ``/v0``.
    token: bearer credential; a function when it changes, asked before each call.
    timeout_s: for connecting, and for each wait for bytes.
    transport: what carries the requests instead of the network.
    """

    def __init__(
        self,
        base_url: str,
        token: str | TokenProvider | None,
        timeout_s: float,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self._token = token
        self._client = httpx2.AsyncClient(base_url=self.base_url, timeout=timeout_s, transport=transport, verify=trusted())

    async def aclose(self) -> None:
        """Close the pool."""
        await self._client.aclose()

    async def headers(self) -> dict[str, str]:
        """Return the headers that authenticate a call."""
        token = await self._token() if callable(self._token) else self._token
        return {"authorization": f"Bearer {token}"} if token else {}

    async def send(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        params: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> httpx2.Response:
        """Send one request and return its answer.

        ``json`` may be a wire schema: only what was set is sent. Raises ApiUnreachable without an answer, ApiError
        for a status of 400 or more and for what cannot be sent.
        """
        body = json.model_dump(mode="json", exclude_unset=True) if isinstance(json, BaseModel) else json
        query = {key: value for key, value in (params or {}).items() if value is not None}
        try:
            all_headers = await self.headers() | (headers or {})
            response = await self._client.request(method, path, json=body, params=query, headers=all_headers)
        except httpx2.TransportError as error:
            raise ApiUnreachable(self.base_url, error) from error
        except UnicodeEncodeError as error:
            raise ApiError("invalid_request", "What was given holds bytes that are not text in UTF-8.") from error
        if response.status_code >= 400:
            raise from_response(response)
        return response

    async def get[Answer](self, answer: type[Answer], path: str, **params: Any) -> Answer:
        """GET ``path`` and return the answer as ``answer``."""
        return TypeAdapter(answer).validate_json((await self.send("GET", path, params=params)).content)

    async def post[Answer](self, answer: type[Answer], path: str, json: Any = None, **params: Any) -> Answer:
        """POST to ``path`` and return the answer as ``answer``."""
        return TypeAdapter(answer).validate_json((await self.send("POST", path, json=json, params=params)).content)

    async def items[Item](self, item: type[Item], path: str, **params: Any) -> AsyncIterator[Item]:
        """Yield every item of a paged list, page after page."""
        cursor: str | None = None
        while True:
            page = await self.get(Page[item], path, limit=PAGE_SIZE, cursor=cursor, **params)  # type: ignore[valid-type]
            for entry in page.items:
                yield entry
            cursor = page.next_cursor
            if cursor is None:
                return
