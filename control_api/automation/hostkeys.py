"""Pinning the keys that hosts presented at first contact."""

from collections.abc import Mapping

from sqlmodel.ext.asyncio.session import AsyncSession

from control_api.fleet import repository
from control_api.fleet.pinned import host_key
from control_api.kit.clock import utcnow


async def pin(session: AsyncSession, lines: Mapping[str, str]) -> dict[str, str]:
    """Pin ``type base64`` by host id, unless the host is gone or has a key by now; return the fingerprints."""
    fingerprints = {}
    for host_id, line in lines.items():
        host = await repository.get_host(session, host_id)
        if not host or host.host_key:
            continue
        host.host_key_type, host.host_key = line.split()
        host.host_key_pinned_at = utcnow()
        session.add(host)
        if shown := host_key(host):
            fingerprints[host_id] = shown.fingerprint
    return fingerprints
