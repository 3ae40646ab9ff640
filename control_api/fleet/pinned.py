"""The pinned host key of a host. Loads nothing of the web: supervisors pin keys, too."""

import base64
import hashlib

from control_api.errors import BadInput
from control_api.fleet.models import Host
from control_api.fleet.schemas import HostKeyOut


def host_key(host: Host) -> HostKeyOut | None:
    """Return the pinned key of a host with its fingerprint."""
    if not host.host_key or not host.host_key_type:
        return None
    shown = fingerprint(host.host_key)
    return HostKeyOut(type=host.host_key_type, key=host.host_key, fingerprint=shown, pinned_at=host.host_key_pinned_at)


def fingerprint(key: str) -> str:
    """Return the fingerprint of a key as ssh shows it. Raises ``BadInput`` if it is none."""
    try:
        digest = hashlib.sha256(base64.b64decode(key, validate=True)).digest()
    except ValueError as error:
        raise BadInput("The host key is not valid base64.", code="bad_host_key") from error
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")
