"""One request of a client on its way to a node."""

from dataclasses import dataclass, field

from control_api.router.errors import RouterError
from control_api.router.table import RouteNode
from control_api.router.usage import Usage


@dataclass(slots=True, kw_only=True)
class Call:
    """What the client asked for, and what has happened to it so far.

    Parameters
    ----------
    path, body, content_type: forwarded as they came.
    model, stream: what the router reads of the body.
    hides_usage: the stream was asked for its usage by the router, not by the client.
    pin: id of the node that it must go to. ``provider``: who is asked instead of a node.
    excluded: nodes that failed it.
    attempts: nodes it was sent to.
    queue_position: its place when it had to wait; 1 is the head of the queue, 0: it did not wait.
    lost: how many of them failed after they had it; ``crashed``: how many engines it took down.
    cause: what the last failure was, in our words.
    usage: tokens, as the node counted them.
    """

    request_id: str
    path: str
    body: bytes = field(repr=False)
    content_type: bytes
    model: str
    stream: bool
    pin: str | None
    provider: RouteNode | None = None
    caller_id: str = ""
    hides_usage: bool = False
    excluded: set[str] = field(default_factory=set)
    attempts: int = 0
    lost: int = 0
    crashed: int = 0
    queue_s: float = 0.0
    queue_position: int = 0
    node: RouteNode | None = None
    cause: RouterError | None = None
    usage: Usage | None = None

    def headers(self) -> bytes:
        """Return what the client is told about the way, as lines of a head."""
        node = b"x-muster-node: %b\r\n" % self.node.id.encode() if self.node else b""
        queue_ms = round(self.queue_s * 1000)
        place = b"x-muster-queue-position: %d\r\n" % self.queue_position if self.queue_position else b""
        return b"%bx-muster-attempts: %d\r\nx-muster-queue-ms: %d\r\n%b" % (node, self.attempts, queue_ms, place)
