"""How a request travels to a node: one method, so that the client behind it can be exchanged."""

from typing import NamedTuple, Protocol

from control_api.router.table import RouteNode


class NodeFailure(Exception):
    """A node did not answer properly. Never shown to a client as it is."""


class Unreachable(NodeFailure):
    """No connection came about, so the node has not seen the request."""


class AnswerLost(NodeFailure):
    """The connection broke, or what came over it was no HTTP."""


class AnswerTimeout(NodeFailure):
    """The node was silent for too long."""


class AnswerTooLarge(NodeFailure):
    """A whole answer was larger than the limit."""


class Timeouts(NamedTuple):
    """How long to wait, in seconds: for a connection, for the first data of an answer, and between two bytes after it."""

    connect_s: float
    first_byte_s: float
    stall_s: float


class UpstreamRequest(NamedTuple):
    """A request to a node. ``headers``: lines that end in CRLF, beside those that HTTP and the node's key need."""

    node: RouteNode
    path: str
    headers: bytes
    body: bytes


class UpstreamAnswer(Protocol):
    """A node's answer whose headers have arrived. Every method may raise ``AnswerLost`` or ``AnswerTimeout``."""

    status: int
    headers: dict[bytes, bytes]

    async def read(self, limit_bytes: int) -> bytes:
        """Return the whole body. Raises ``AnswerTooLarge``."""
        ...

    async def chunk(self) -> bytes:
        """Return what has arrived of the body, waiting for the first byte of it; empty at the end."""
        ...

    def begun(self) -> None:
        """The first data is here: from now on the limit between two bytes holds, not that of the first one."""
        ...

    def close(self) -> None:
        """End the exchange at once. The connection is kept only if the answer was complete."""
        ...


class Upstream(Protocol):
    """A client for nodes."""

    async def send(self, request: UpstreamRequest) -> UpstreamAnswer:
        """Send a request and wait for the headers of the answer; when cancelled it closes the connection.

        Raises ``Unreachable``, ``AnswerLost`` or ``AnswerTimeout``.
        """
        ...
