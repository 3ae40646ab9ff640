"""What the router can be told."""

from dataclasses import dataclass

from control_api.kit.bounds import Bounds

# A client that reads nothing for so long has left without saying so, and holds a node's slot.
SLOW_CLIENT_S = 60.0
# How often a connection is looked at; more often only where the times are shorter than usual.
TICK_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterSettings:
    """Settings of one router process.

    Parameters
    ----------
    host, port: where it listens.
    reuse_port: others of the same user may listen there too; the kernel divides clients among them.
    connection_limit: connections of clients at once; ``None``: half of the files that the process may open, as nodes need some.
    body_limit_bytes: largest request, and largest answer that is not a stream.
    head_timeout_s: for a request's head to be complete, from its first byte.
    body_timeout_s: longest silence of a client in the middle of its request.
    body_s: for a body to be complete while it is waited for, beside what its bytes take at the rate of ``Bounds``.
    queue_size: callers that may wait for a free slot, per model.
    queue_deadline_s: how long one of them may wait.
    connect_timeout_s: for a connection to a node.
    first_byte_timeout_s: longest silence of a node before its answer begins; ``stall_timeout_s``: afterwards.
    cloud_timeout_s: longest silence of a cloud provider, at any time.
    keep_alive_s: a stream that has not begun after so long gets a comment, and again after as long.
    poll_interval_s: between two looks at the route table's revision.
    cors_origins: origins whose pages may call, ``*``: all.
    history_content: keep what was asked and answered with the record of a request.
    shutdown_deadline_s: how long running answers may go on once the process was told to stop.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    reuse_port: bool = False
    connection_limit: int | None = None
    body_limit_bytes: int = 100_000_000
    head_timeout_s: float = 10.0
    body_timeout_s: float = 30.0
    body_s: float = Bounds.body_s
    queue_size: int = 256
    queue_deadline_s: float = 30.0
    connect_timeout_s: float = 2.0
    first_byte_timeout_s: float = 300.0
    stall_timeout_s: float = 60.0
    cloud_timeout_s: float = 120.0
    keep_alive_s: float = 15.0
    poll_interval_s: float = 0.4
    history_content: bool = False
    cors_origins: tuple[str, ...] = ()
    shutdown_deadline_s: float = 30.0

    def bounds(self) -> Bounds:
        """Return what these settings say of a client's connection."""
        return Bounds(
            head_s=self.head_timeout_s,
            body_silence_s=self.body_timeout_s,
            body_s=self.body_s,
            stuck_s=SLOW_CLIENT_S,
            tick_s=max(0.01, min(TICK_S, self.head_timeout_s / 2, self.body_timeout_s / 2, self.body_s / 2)),
        )
