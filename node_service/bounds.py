"""Bounds of an HTTP/1.1 connection: what a client may ask for before anybody has looked at who it is.

Control plane and node service, which are distributions of their own, have the same file.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

_HOST = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=%:\[\]-]*")
_VERSIONS = ("1.0", "1.1")


@dataclass(frozen=True)
class Bounds:
    """What one connection may ask for.

    Parameters
    ----------
    head_bytes: of a head; also between two pieces of a body, where there are sizes of chunks and trailers.
    head_lines: header lines of a head, and of its trailers.
    head_s: for a head to be complete, from its first byte; also for the first byte of a new connection.
    body_silence_s: longest time without a byte in a body that is wanted.
    body_s, body_bytes_per_s: a body may take ``body_s``, and as much longer as its bytes take at that rate.
    held_bytes: of requests that were sent before an earlier one was answered.
    unread_bytes: of a body that goes on after its request was answered.
    stuck_s: longest time in which a client reads nothing of its answer.
    linger_s: after a refusal, for the client to read it: closing at once would destroy it.
    tick_s: how often a connection is looked at.
    """

    head_bytes: int = 1 << 16
    head_lines: int = 128
    head_s: float = 10.0
    body_silence_s: float = 30.0
    body_s: float = 60.0
    body_bytes_per_s: int = 1024
    held_bytes: int = 1 << 19
    unread_bytes: int = 1 << 23
    stuck_s: float = 120.0
    linger_s: float = 2.0
    tick_s: float = 1.0


class Fault(NamedTuple):
    """Why a request is refused."""

    status: int
    code: str
    message: str


def too_large(bounds: Bounds) -> Fault:
    """Return what to say of a head without end."""
    most = f"{bounds.head_bytes} bytes or {bounds.head_lines} lines"
    return Fault(431, "request_header_fields_too_large", f"The request's headers are larger than {most}.")


def bad_http(message: str) -> Fault:
    """Return what to say of a request that could be read in more than one way, or in none."""
    return Fault(400, "bad_http", message)


def fault_of_head(version: str, target: bytes, headers: Iterable[tuple[bytes, bytes]]) -> Fault | None:
    """Return what is wrong with a head that the parser took."""
    hosts = [value for name, value in headers if name == b"host"]
    if version not in _VERSIONS:
        return bad_http(f"HTTP/{version} is not spoken here.")
    if len(hosts) > 1 or (version == "1.1" and not hosts):
        return bad_http("A request has exactly one Host header.")
    if not all(_HOST.fullmatch(host) for host in hosts):
        return bad_http("The Host header is no name or address.")
    if not target.isascii():
        return bad_http("The request's target is not ASCII.")
    return None


class BodyClock:
    """How long a body has taken to arrive, while it was wanted."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._bytes = 0
        self._taken_s = self._silent_s = 0.0

    def took(self, size_bytes: int) -> None:
        """A piece is here."""
        self._bytes += size_bytes
        self._silent_s = 0.0

    def tick(self) -> Fault | None:
        """Count a tick, and return what is wrong if it was one too many."""
        bounds = self._bounds
        self._taken_s += bounds.tick_s
        self._silent_s += bounds.tick_s
        if self._silent_s > bounds.body_silence_s:
            return Fault(408, "request_timeout", "The request's body stopped arriving.")
        if self._taken_s > bounds.body_s + self._bytes / bounds.body_bytes_per_s:
            return Fault(408, "request_timeout", "The request's body arrives too slowly.")
        return None
