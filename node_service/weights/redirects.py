"""Where a hub may send us: public addresses by https, or the hub's own."""

import asyncio
import ipaddress
import socket
from dataclasses import dataclass, field
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx2

from node_service.errors import SourceInterrupted, SourceRefused

__all__ = ["Pinned", "pin"]


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
    own = await _resolve(urlsplit(origin).hostname or "")
    for address in sorted(await _resolve(target.host)):
        public = ipaddress.ip_address(address).is_global and target.scheme == "https"
        if public or address in own:
            headers = {"host": target.netloc.decode("ascii")}
            return Pinned(target.copy_with(host=address), headers, {"sni_hostname": target.host})
    raise SourceRefused(f"redirect to {target.host} is neither https to a public address nor ours")


def _proxied(target: httpx2.URL) -> bool:
    return target.scheme in getproxies() and not proxy_bypass(target.host)


async def _resolve(host: str) -> set[str]:
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise SourceInterrupted(f"{host}: {error.strerror}") from error
    return {str(sockaddr[0]) for *_, sockaddr in found}
