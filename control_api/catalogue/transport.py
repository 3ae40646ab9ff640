"""How a hub is asked. It is not believed: only redirects that are allowed are followed, and answers are read up to a bound."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import httpx2

from control_api.errors import BadAnswer, Unavailable
from control_api.kit.redirects import NameUnresolved, RedirectingClient, RedirectRefused
from control_api.kit.tls import trusted
from control_api.settings import Settings

_MAX_REDIRECTS = 5


class HubTransport:
    """Sends requests to one hub."""

    def __init__(self, settings: Settings) -> None:
        self._endpoint = settings.hub_url
        self._token = settings.hub_token.get_secret_value() if settings.hub_token else None
        self._http = RedirectingClient(trusted(), settings.hub_timeout_s)

    async def aclose(self) -> None:
        """Break off what is being read."""
        await self._http.aclose()

    @asynccontextmanager
    async def open(self, path: str, headers: Mapping[str, str]) -> AsyncIterator[httpx2.Response]:
        """Ask for a path of the hub and yield its answer, of whatever status, before the body is read.

        Our token goes to the hub alone. Raises ``BadAnswer`` for a redirect that is not allowed, ``Unavailable`` if a name does
        not resolve, or ``httpx2.HTTPError``.
        """
        credentials = {"authorization": f"Bearer {self._token}"} if self._token else {}
        asking = self._http.get(
            f"{self._endpoint}{path}", headers=headers, credentials=credentials, max_redirects=_MAX_REDIRECTS
        )
        try:
            async with asking as response:
                yield response
        except RedirectRefused as error:
            raise _refused(str(error)) from error
        except NameUnresolved as error:
            raise Unavailable(f"The hub cannot be asked: {error}", code="hub_unreachable") from error

    async def read(self, path: str, *, limit_bytes: int) -> httpx2.Response:
        """Return a whole answer, without the body where it is an error. Raises ``BadAnswer`` if it is longer; as ``open``."""
        async with self.open(path, {"accept": "application/json"}) as response:
            body = bytearray()
            if response.is_success:
                if (encoding := response.headers.get("content-encoding", "identity")) != "identity":
                    raise _refused(f"it is encoded as {encoding[:40]!r}, which nobody asked for")
                async for piece in response.aiter_raw():
                    body += piece
                    if len(body) > limit_bytes:
                        raise _refused(f"it is longer than {limit_bytes} bytes")
            return httpx2.Response(
                response.status_code, headers=response.headers, content=bytes(body), request=response.request
            )


def _refused(reason: str) -> BadAnswer:
    return BadAnswer(f"The hub's answer cannot be used: {reason}.", code="hub_answer")
