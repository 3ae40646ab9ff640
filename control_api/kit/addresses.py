"""Which addresses are this machine's own."""

import asyncio
import ipaddress
import socket
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

RESOLVE_TIMEOUT_S = 2.0
RESOLVERS = 8

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


async def own_of(names: Iterable[str]) -> set[str]:
    """Return those of some addresses or DNS names at which this machine is reached, as they resolve now.

    A name that does not resolve in time is nobody's.
    """
    distinct = set(names)
    own = {name for name in distinct if _is_own(name, socket.AI_NUMERICHOST)}
    if not (unknown := sorted(distinct - own)):
        return own
    # Threads of its own: a name server that says nothing holds them for longer than is waited here.
    pool = ThreadPoolExecutor(RESOLVERS, thread_name_prefix="resolve")
    asked = {name: pool.submit(_is_own, name, 0) for name in unknown}
    await asyncio.wait([asyncio.wrap_future(one) for one in asked.values()], timeout=RESOLVE_TIMEOUT_S)
    pool.shutdown(wait=False, cancel_futures=True)
    return own | {name for name, one in asked.items() if one.done() and not one.cancelled() and one.result()}


def _is_own(name: str, flags: int) -> bool:
    try:
        # Not parsed here: `127.1`, `0x7f000001` and `0` are addresses to whoever connects.
        resolved = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM, flags=flags)
    except (OSError, UnicodeError):
        return False
    return any(_is_here(*address) for _, _, _, _, address in resolved)


def _is_here(text: str, _port: int, _flow: int = 0, scope: int = 0) -> bool:
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv6Address) and (mapped := address.ipv4_mapped):
        address = mapped
    return address.is_loopback or address.is_unspecified or _is_on_an_interface(address, scope if address.is_link_local else 0)


def _is_on_an_interface(address: Address, scope: int) -> bool:
    """Tell whether an interface of this machine has an address: others cannot be bound, unless the kernel is told so."""
    is_new = address.version == 6
    where = (str(address), 9, 0, scope) if is_new else (str(address), 9)
    try:
        with socket.socket(socket.AF_INET6 if is_new else socket.AF_INET, socket.SOCK_DGRAM) as probe:
            if not _binds_to_anything(address.version):
                probe.bind((where[0], 0, *where[2:]))
                return True
            # Nothing is sent. What is sent to an address of one's own comes from it.
            probe.connect(where)
            return bool(ipaddress.ip_address(probe.getsockname()[0]) == address)
    except OSError:
        return False


def _binds_to_anything(version: int) -> bool:
    setting = Path(f"/proc/sys/net/ipv{version}/ip_nonlocal_bind")
    return setting.is_file() and setting.read_text().strip() != "0"
