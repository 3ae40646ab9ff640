"""Where a hub may send us: public addresses by https, or the hub's own."""

import asyncio
import ipaddress
import socket
from dataclasses import dataclass, field
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx2

from node_service.errors import SourceInterrupted, SourceRefused

__all__ = ["Pinned", "follow", "pin", "same_place"]

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
# What IPv6 has of public addresses; others that are not reserved either lead into sites, or
# stand for IPv4 in another way.
_UNICAST = ipaddress.ip_network("2000::/3")


@dataclass(frozen=True)
class Pinned:
    """How to connect: an address whose host may be an IP, and what keeps TLS and Host right."""

    url: httpx2.URL
    headers: dict[str, str] = field(default_factory=dict)
    extensions: dict[str, str] = field(default_factory=dict)


async def pin(target: httpx2.URL, origin: str) -> Pinned:
    """Resolve a redirect's target once, check it, and pin the connection to that address.

    A name that a hub controls must not lead into this site's network, neither now nor by
    resolving differently a moment later.

    Parameters:
        target: where the redirect leads.
        origin: the address that was configured; its host may always be used.

    Raises:
        SourceRefused: the target is not allowed.
        SourceInterrupted: the name does not resolve.
    """
    if target.scheme not in ("http", "https") or not target.host:
        raise SourceRefused(f"redirect to {str(target)!r} is not http")
    if _proxied(target):
        # The proxy resolves names and holds the site's policy; here they may not resolve.
        return Pinned(target)
    # The origin's own place is its address with its port: other ports of its machine are other services.
    doors = (_place(httpx2.URL(origin))[::2], ("https", 443))
    own = await _resolve(urlsplit(origin).hostname or "") if _place(target)[::2] in doors else set()
    for address in sorted(await _resolve(target.host)):
        if address in own or (target.scheme == "https" and _is_public(address)):
            headers = {"host": target.netloc.decode("ascii")}
            return Pinned(target.copy_with(host=address), headers, {"sni_hostname": target.host})
    raise SourceRefused(f"redirect to {target.host} is neither https to a public address nor ours")


def follow(url: httpx2.URL, location: str) -> httpx2.URL:
    """Return where a redirect leads, without a name and a password; raises SourceRefused for what is no address."""
    try:
        target = url.join(location)
        target.host.encode("idna")
        return target.copy_with(username=None, password=None)
    except (httpx2.InvalidURL, ValueError, TypeError) as error:
        raise SourceRefused(f"redirect to {location[:200]!r}, which is no address") from error


def same_place(one: httpx2.URL, other: httpx2.URL) -> bool:
    """Whether two addresses are of the same server, reached the same way."""
    return _place(one) == _place(other)


def _place(url: httpx2.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port or {"http": 80, "https": 443}.get(url.scheme)


def _is_public(text: str) -> bool:
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv6Address):
        # Addresses that stand for one of IPv4, which is then the one that counts.
        inner = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is None and address not in _UNICAST:
            return False
        address = inner or address
    return address.is_global and not address.is_multicast


def _proxied(target: httpx2.URL) -> bool:
    # Exceptions may name a port, and are taken as such by whoever connects.
    excepted = proxy_bypass(target.host) or proxy_bypass(f"{target.host}:{target.port}")
    return target.scheme in getproxies() and not excepted


async def _resolve(host: str) -> set[str]:
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, ValueError) as error:
        raise SourceInterrupted(f"{host}: {getattr(error, 'strerror', None) or 'its name does not resolve'}") from error
    return {str(sockaddr[0]) for *_, sockaddr in found}
