"""How a hub is asked. It is not believed: only redirects that are allowed are followed, and answers are read up to a bound."""

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.request import getproxies, proxy_bypass

import httpx2

from control_api.errors import BadAnswer, Unavailable
from control_api.kit.tls import trusted
from control_api.settings import Settings

_MAX_REDIRECTS = 5
_REDIRECTS = (301, 302, 303, 307, 308)
# Addresses that stand for one of IPv4, which is then the one that counts.
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
# What IPv6 has of public addresses; others that are not reserved either lead into sites, or stand for IPv4 in another way.
_UNICAST = ipaddress.ip_network("2000::/3")
_LAST_PORT = 65535


@dataclass(frozen=True)
class _Connection:
    """Where to connect: an address whose host may be an IP, and what keeps TLS and Host right."""

    url: httpx2.URL
    headers: dict[str, str] = field(default_factory=dict)
    extensions: dict[str, str] = field(default_factory=dict)


class HubTransport:
    """Sends requests to one hub."""

    def __init__(self, settings: Settings) -> None:
        self._endpoint = settings.hub_url
        self._token = settings.hub_token.get_secret_value() if settings.hub_token else None
        self._http = httpx2.AsyncClient(timeout=settings.hub_timeout_s, follow_redirects=False, verify=trusted())

    async def aclose(self) -> None:
        """Break off what is being read."""
        await self._http.aclose()

    @asynccontextmanager
    async def open(self, path: str, headers: Mapping[str, str]) -> AsyncIterator[httpx2.Response]:
        """Ask for a path of the hub and yield its answer, of whatever status, before the body is read.

        Our token goes to the hub alone. Raises ``BadAnswer`` for a redirect that is not allowed, ``Unavailable`` if a name does
        not resolve, or ``httpx2.HTTPError``.
        """
        origin = httpx2.URL(f"{self._endpoint}{path}")
        # What comes is counted as it comes: a few compressed bytes can stand for any number.
        wanted = {"accept-encoding": "identity", **headers}
        url, connection = origin, _Connection(origin)
        for _ in range(_MAX_REDIRECTS + 1):
            own = {"authorization": f"Bearer {self._token}"} if self._token and _place(url) == _place(origin) else {}
            request = self._http.build_request(
                "GET", connection.url, headers=wanted | own | connection.headers, extensions=connection.extensions
            )
            response = await self._http.send(request, stream=True)
            try:
                if response.status_code not in _REDIRECTS:
                    yield response
                    return
                location = response.headers.get("location", "")
            finally:
                await response.aclose()
            url = _target(url, location)
            connection = await _pin(url, origin)
        raise _refused(f"it sends from one address to the next, more than {_MAX_REDIRECTS} times")

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


def _place(url: httpx2.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port or {"http": 80, "https": 443}.get(url.scheme)


def _target(url: httpx2.URL, location: str) -> httpx2.URL:
    try:
        target = url.join(location)
        target.host.encode("idna")
        if (target.port or 0) > _LAST_PORT:
            raise ValueError(target.port)
        # Names and passwords in an address are for somebody else.
        return target.copy_with(username=None, password=None)
    except (httpx2.InvalidURL, ValueError, TypeError) as error:
        raise _refused(f"it sends to {location[:200]!r}, which is no address") from error


async def _pin(target: httpx2.URL, origin: httpx2.URL) -> _Connection:
    """Resolve a redirect's target once, check it, and pin the connection to that address.

    A name that a hub controls must not lead into this site's network, neither now nor by resolving differently later.
    """
    if target.scheme not in ("http", "https") or not target.host:
        raise _refused(f"it sends to {str(target)[:200]!r}, which is not http")
    if target.scheme in getproxies() and not (proxy_bypass(target.host) or proxy_bypass(f"{target.host}:{target.port}")):
        # The proxy resolves names and holds the site's policy; here they may not resolve.
        return _Connection(target)
    # The hub's own place is its address with its port: other ports of its machine are other services.
    same_door = _place(target)[::2] in (_place(origin)[::2], ("https", 443))
    own = await _resolve(origin.host) if same_door else set()
    for address in sorted(await _resolve(target.host)):
        if address in own or (target.scheme == "https" and _is_public(address)):
            headers = {"host": target.netloc.decode("ascii")}
            return _Connection(target.copy_with(host=address), headers, {"sni_hostname": target.host})
    raise _refused(
        f"it sends to {target.netloc.decode('ascii')[:200]}, which is neither https to a public address nor the hub's own"
    )


def _is_public(text: str) -> bool:
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is None and address not in _UNICAST:
            return False
        address = inner or address
    return address.is_global and not address.is_multicast


async def _resolve(host: str) -> set[str]:
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "its name does not resolve"
        raise Unavailable(f"{host[:253]} cannot be asked: {reason}", code="hub_unreachable") from error
    return {str(sockaddr[0]) for *_, sockaddr in found}


def _refused(reason: str) -> BadAnswer:
    return BadAnswer(f"The hub's answer cannot be used: {reason}.", code="hub_answer")
