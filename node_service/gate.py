"""Whether the node takes new work, and how much is under way."""

import asyncio

from node_service.errors import NodeDraining

__all__ = ["Gate"]


class Gate:
    """Lets requests in, counts them, and closes when the node drains.

    The node drains because the control API said so (`admission`), or because it is stopping.
    """

    def __init__(self) -> None:
        self.admission = "open"
        self.stopping = False
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def draining(self) -> bool:
        """Whether new work is refused."""
        return self.stopping or self.admission == "drained"

    @property
    def in_flight(self) -> int:
        """Requests under way."""
        return self._in_flight

    def enter(self, *, pinned: bool) -> None:
        """Count a request in.

        Parameters:
            pinned: the router was told to use this node and no other: it is let in although
                the node is drained, because that is how a drained node is tried before it
                is opened again.

        Raises:
            NodeDraining: no new work is taken.
        """
        if self.stopping:
            raise NodeDraining("this node is stopping")
        if self.admission == "drained" and not pinned:
            raise NodeDraining("this node is drained")
        self._in_flight += 1
        self._idle.clear()

    def leave(self) -> None:
        """Count a request out."""
        self._in_flight -= 1
        if self._in_flight == 0:
            self._idle.set()

    async def wait_idle(self, timeout_s: float) -> bool:
        """Wait until nothing is under way; return False if `timeout_s` passed before."""
        try:
            await asyncio.wait_for(self._idle.wait(), timeout_s)
        except TimeoutError:
            return False
        return True
