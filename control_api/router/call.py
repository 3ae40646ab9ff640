"""One request of a client on its way to a node."""

from dataclasses import dataclass, field

from control_api.router.errors import RouterError
from control_api.router.table import RouteNode


@dataclass(slots=True, kw_only=True)
class Call:
    """What the client asked for, and what has happened to it so far.

    Parameters
    ----------
    path, body, content_type: forwarded as they came.
    model, stream: all that the router reads of the body.
    pin: id of the node that it must go to.
    excluded: nodes that failed it.
    attempts: nodes it was sent to.
    lost: how many of them failed after they had it; ``crashed``: how many engines it took down.
    cause: what the last failure was, in our words.
    """

    request_id: str
    path: str
    body: bytes = field(repr=False)
    content_type: bytes
    model: str
    stream: bool
    pin: str | None
    excluded: set[str] = field(default_factory=set)
    attempts: int = 0
    lost: int = 0
    crashed: int = 0
    queue_s: float = 0.0
    node: RouteNode | None = None
    cause: RouterError | None = None

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Return what the client is told about the way."""
        about = [
            (b"x-muster-attempts", b"%d" % self.attempts),
            (b"x-muster-queue-ms", b"%d" % round(self.queue_s * 1000)),
        ]
        return [(b"x-muster-node", self.node.id.encode()), *about] if self.node else about
