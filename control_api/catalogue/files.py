"""Files on the hub, read as streams: opened with a Range, following only redirects that are allowed. Nothing is kept."""

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import quote
from urllib.request import getproxies, proxy_bypass

import httpx2

from control_api.catalogue.gguf import MAX_HEADER_BYTES, BadHeader, GgufHeader, HeaderReader
from control_api.errors import Unavailable
from control_api.kit.tls import trusted
from control_api.settings import Settings

_MAX_REDIRECTS = 5
_REDIRECTS = (301, 302, 303, 307, 308)


@dataclass(frozen=True)
class _Connection:
    """Where to connect: an address whose host may be an IP, and what keeps TLS and Host right."""

    url: httpx2.URL
    headers: dict[str, str] = field(default_factory=dict)
    extensions: dict[str, str] = field(default_factory=dict)


class HubFiles:
    """Opens files of one hub."""

    def __init__(self, settings: Settings) -> None:
        self._endpoint = settings.hub_url
        self._token = settings.hub_token.get_secret_value() if settings.hub_token else None
        self._timeout_s = settings.hub_timeout_s
        self._http = httpx2.AsyncClient(timeout=settings.hub_timeout_s, follow_redirects=False, verify=trusted())

    async def aclose(self) -> None:
        """Break off what is being read."""
        await self._http.aclose()

    async def header(self, repo: str, revision: str, path: str) -> GgufHeader:
        """Read the header of a GGUF file and not a piece more.

        Raises ``BadHeader`` (not GGUF) or ``Unavailable`` (the file cannot be read, or not within the hub's time limit).
        """
        reader = HeaderReader()
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                self.open(repo, revision, path, byte_range=f"bytes=0-{MAX_HEADER_BYTES - 1}") as response,
            ):
                if response.status_code not in (200, 206):
                    raise _unreadable(path, f"the hub answered {response.status_code}")
                async for piece in response.aiter_raw():
                    if reader.feed(piece):
                        return reader.header
        except (TimeoutError, httpx2.HTTPError) as error:
            raise _unreadable(path, str(error) or f"no header within {self._timeout_s:g} s") from error
        raise BadHeader("it ends within its header")

    @asynccontextmanager
    async def open(self, repo: str, revision: str, path: str, *, byte_range: str | None) -> AsyncIterator[httpx2.Response]:
        """Ask the hub for a file and yield its answer, of whatever status, before the body is read.

        Our token goes to the hub alone. Raises ``Unavailable`` for a redirect that is not allowed, or ``httpx2.HTTPError``.
        """
        origin = httpx2.URL(f"{self._endpoint}/{repo}/resolve/{quote(revision, safe='')}/{quote(path)}")
        wanted = {"accept-encoding": "identity"} | ({"range": byte_range} if byte_range else {})
        url, connection = origin, _Connection(origin)
        for _ in range(_MAX_REDIRECTS + 1):
            own = {"authorization": f"Bearer {self._token}"} if self._token and url.netloc == origin.netloc else {}
            headers = wanted | own | connection.headers
            request = self._http.build_request("GET", connection.url, headers=headers, extensions=connection.extensions)
            response = await self._http.send(request, stream=True)
            try:
                if response.status_code not in _REDIRECTS:
                    yield response
                    return
                url = url.join(response.headers.get("location", ""))
            finally:
                await response.aclose()
            connection = await _pin(url, origin)
        raise _unreadable(path, f"more than {_MAX_REDIRECTS} redirects")


async def _pin(target: httpx2.URL, origin: httpx2.URL) -> _Connection:
    """Resolve a redirect's target once, check it, and pin the connection to that address.

    A name that a hub controls must not lead into this site's network, neither now nor by resolving differently later.
    """
    if target.scheme not in ("http", "https") or not target.host:
        raise _unreadable(origin.path, f"a redirect to {str(target)[:200]!r}, which is not http")
    if target.scheme in getproxies() and not proxy_bypass(target.host):
        # The proxy resolves names and holds the site's policy; here they may not resolve.
        return _Connection(target)
    own = await _resolve(origin.host)
    for address in sorted(await _resolve(target.host)):
        public = ipaddress.ip_address(address).is_global and target.scheme == "https"
        if public or address in own:
            headers = {"host": target.netloc.decode("ascii")}
            return _Connection(target.copy_with(host=address), headers, {"sni_hostname": target.host})
    raise _unreadable(origin.path, f"a redirect to {target.host}, which is neither https to a public address nor the hub's own")


async def _resolve(host: str) -> set[str]:
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise _unreadable(host, error.strerror or "its name does not resolve") from error
    return {str(sockaddr[0]) for *_, sockaddr in found}


def _unreadable(what: str, reason: str) -> Unavailable:
    return Unavailable(f"{what} cannot be read from the hub: {reason[:300]}", code="hub_unreachable")
