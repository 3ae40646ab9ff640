"""Reading from a hub that is not believed: its redirects lead out to public addresses by https, or back to the hub itself.

Control plane and node service, which are distributions of their own, have the same file.
"""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx2

_REDIRECTS = (301, 302, 303, 307, 308)
_LAST_PORT = 65535
_SHOWN_CHARS = 200
# Addresses that stand for one of IPv4, which is then the one that counts.
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
# What IPv6 has of public addresses; others that are not reserved either lead into sites, or stand for IPv4 in another way.
_UNICAST = ipaddress.ip_network("2000::/3")


class RedirectRefused(Exception):
    """A redirect leads where none may lead; the text says where."""


class NameUnresolved(Exception):
    """A name that is needed does not resolve; the text names it."""


@dataclass(frozen=True)
class _Route:
    """How to connect. An address that was looked at stands in the place of the name; the headers keep TLS and Host right."""

    url: httpx2.URL
    is_pinned: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    extensions: dict[str, str] = field(default_factory=dict)


class RedirectingClient:
    """Follows the redirects that are allowed, and no others.

    Parameters
    ----------
    verify: whose certificates are believed.
    timeout_s: of each step of a request that names no other.
    """

    def __init__(self, verify: ssl.SSLContext, timeout_s: float = 5.0) -> None:
        self._http = httpx2.AsyncClient(verify=verify, timeout=timeout_s)
        # What was looked at is where this one connects: it knows no proxies, and so no exceptions from them either.
        self._direct = httpx2.AsyncClient(verify=verify, timeout=timeout_s, trust_env=False)

    async def aclose(self) -> None:
        """Break off what is being read."""
        await self._http.aclose()
        await self._direct.aclose()

    @asynccontextmanager
    async def get(
        self,
        address: str,
        *,
        headers: Mapping[str, str],
        credentials: Mapping[str, str],
        max_redirects: int,
        timeout: httpx2.Timeout | None = None,
    ) -> AsyncIterator[httpx2.Response]:
        """Ask for an address and yield the answer, of whatever status, before its body is read.

        Parameters
        ----------
        headers: for every server on the way. What is compressed is not asked for: a few bytes could stand for any number.
        credentials: headers for the address itself alone; others have what they want in theirs.

        Raises ``RedirectRefused``, ``NameUnresolved`` or ``httpx2.HTTPError``.
        """
        origin = url = httpx2.URL(address)
        route = _Route(url)
        for _ in range(max_redirects + 1):
            own = credentials if _place(url) == _place(origin) else {}
            client = self._direct if route.is_pinned else self._http
            request = client.build_request(
                "GET",
                route.url,
                headers={"accept-encoding": "identity", **headers, **own, **route.headers},
                extensions=route.extensions,
                timeout=timeout or client.timeout,
            )
            response = await client.send(request, stream=True)
            try:
                if response.status_code not in _REDIRECTS:
                    yield response
                    return
                location = response.headers.get("location", "")
            finally:
                await response.aclose()
            url = _target(url, location)
            if self._is_proxied(url):
                _check_proxied(url, origin)
                route = _Route(url)
            else:
                route = await _pin(url, origin)
        raise RedirectRefused(f"it redirects more than {max_redirects} times")

    def _is_proxied(self, url: httpx2.URL) -> bool:
        """Whether a proxy connects for us: it resolves the name, which may not resolve here, and holds the site's policy.

        The client itself is asked. Whoever reads its variables another way sends into the site what it then connects directly.
        """
        return self._http._transport_for_url(url) is not self._http._transport


def _place(url: httpx2.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port or {"http": 80, "https": 443}.get(url.scheme)


def _target(url: httpx2.URL, location: str) -> httpx2.URL:
    """Return where a redirect leads, without a name and a password, which are for somebody else."""
    try:
        target = url.join(location).copy_with(username=None, password=None)
        target.host.encode("idna")
        is_address = (target.port or 0) <= _LAST_PORT
    except (httpx2.InvalidURL, ValueError, TypeError):
        is_address = False
    if not is_address:
        raise RedirectRefused(f"it redirects to {location[:_SHOWN_CHARS]!r}, which is no address")
    if target.scheme not in ("http", "https") or not target.host:
        raise RedirectRefused(f"it redirects to {str(target)[:_SHOWN_CHARS]!r}, which is not http")
    return target


def _check_proxied(target: httpx2.URL, origin: httpx2.URL) -> None:
    """Refuse what needs no resolver to be refused: a proxy may be let into the site. Names by https are its to judge."""
    try:
        leads_out = _is_public(target.host)
    except ValueError:
        leads_out = target.host != "localhost" and not target.host.endswith(".localhost")
    is_own = target.host == origin.host and _is_door_of(target, origin)
    if not is_own and not (target.scheme == "https" and leads_out):
        raise _leads_in(target)


def _is_door_of(target: httpx2.URL, origin: httpx2.URL) -> bool:
    """Whether the hub's own machine may be asked there: at the hub's port, or its https. Other ports are other services."""
    return _place(target)[::2] in (_place(origin)[::2], ("https", 443))


def _leads_in(target: httpx2.URL) -> RedirectRefused:
    named = target.netloc.decode("ascii")[:_SHOWN_CHARS]
    return RedirectRefused(f"it redirects to {named}, which is neither https to a public address nor its own address")


async def _pin(target: httpx2.URL, origin: httpx2.URL) -> _Route:
    """Resolve a redirect's target once, check it, and pin the connection to that address.

    A name that a hub controls must not lead into this site's network, neither now nor by resolving differently later.
    """
    own = await _resolve(origin.host) if _is_door_of(target, origin) else set()
    named = target.netloc.decode("ascii")
    for address in sorted(await _resolve(target.host)):
        if address in own or (target.scheme == "https" and _is_public(address)):
            return _Route(target.copy_with(host=address), True, {"host": named}, {"sni_hostname": target.host})
    raise _leads_in(target)


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
        raise NameUnresolved(f"{host[:_SHOWN_CHARS]}: {reason}") from error
    return {str(sockaddr[0]) for *_, sockaddr in found}
