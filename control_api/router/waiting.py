"""The queue in front of the nodes: first come, first served per model, bounded in length and in time."""

import asyncio
from collections import deque
from collections.abc import Mapping, Set
from dataclasses import dataclass, field

from control_api.router.balance import Balancer, Lease
from control_api.router.errors import NotReady, QueueFull

# Slots that other routers free, pauses that end and breakers that half-open announce themselves to nobody.
TICK_S = 0.1


@dataclass(slots=True, eq=False)
class Ticket:
    """One caller's place. It keeps its deadline when a node sends it back, and returns to the head of the queue."""

    model: str
    excluded: Set[str]
    give_up_at: float
    waited_s: float = 0.0
    returning: bool = False
    lease: asyncio.Future[Lease] | None = field(default=None, repr=False)


class WaitingRoom:
    """Hands out leases in order of arrival. All times are those of the event loop."""

    def __init__(self, balancer: Balancer, *, size: int, deadline_s: float) -> None:
        self._balancer = balancer
        self._size = size
        self._deadline_s = deadline_s
        self._queues: dict[str, deque[Ticket]] = {}
        self._tick: asyncio.TimerHandle | None = None

    def waiting(self) -> Mapping[str, int]:
        """Return the number of waiting callers by model."""
        return {model: len(queue) for model, queue in self._queues.items()}

    def ticket(self, model: str, excluded: Set[str]) -> Ticket:
        """Return a place for a new caller. ``excluded`` is read anew whenever it is the caller's turn."""
        return Ticket(model, excluded, give_up_at=asyncio.get_running_loop().time() + self._deadline_s)

    async def enter(self, ticket: Ticket) -> Lease | None:
        """Return a lease, at once or when it is the caller's turn; ``None`` if there is no node to wait for.

        Raises ``QueueFull``, or ``NotReady`` (``queue_timeout``) when the ticket's time is over.
        """
        queue = self._queues.get(ticket.model, ())
        if not queue and (lease := self._balancer.take(ticket.model, ticket.excluded)):
            ticket.returning = True
            return lease
        if not self._balancer.has_candidate(ticket.model, ticket.excluded):
            return None
        if len(queue) >= self._size:
            raise QueueFull(f"{len(queue)} requests already wait for {ticket.model}.", headers={"retry-after": "1"})
        return await self._wait(ticket)

    def leave(self, lease: Lease) -> None:
        """Give a lease back and call the next caller of its model."""
        self._balancer.give_back(lease)
        if lease.model in self._queues:
            self._call(lease.model)

    def call_all(self) -> None:
        """Look whether somebody's turn has come; for when the routes have changed."""
        for model in list(self._queues):
            self._call(model)

    async def _wait(self, ticket: Ticket) -> Lease:
        loop = asyncio.get_running_loop()
        began = loop.time()
        ticket.lease = loop.create_future()
        self._line_up(ticket)
        try:
            async with asyncio.timeout_at(ticket.give_up_at):
                return await ticket.lease
        except BaseException as error:
            self._remove(ticket)
            if isinstance(error, TimeoutError):
                waited_s = ticket.waited_s + loop.time() - began
                message = f"No node with {ticket.model} had a free slot for {waited_s:.0f} s."
                raise NotReady(message, code="queue_timeout", retry_after_s=1) from None
            raise
        finally:
            ticket.waited_s += loop.time() - began

    def _line_up(self, ticket: Ticket) -> None:
        queue = self._queues.setdefault(ticket.model, deque())
        if ticket.returning:
            queue.appendleft(ticket)
        else:
            queue.append(ticket)
        ticket.returning = True
        if self._tick is None:
            self._tick = asyncio.get_running_loop().call_later(TICK_S, self._on_tick)

    def _remove(self, ticket: Ticket) -> None:
        """Take out a caller that waits no longer, also when its turn came in the same moment."""
        if ticket.lease and ticket.lease.done() and not ticket.lease.cancelled():
            self.leave(ticket.lease.result())
        elif (queue := self._queues.get(ticket.model)) and ticket in queue:
            queue.remove(ticket)
            if not queue:
                del self._queues[ticket.model]

    def _call(self, model: str) -> None:
        queue = self._queues[model]
        for ticket in list(queue):
            lease = self._balancer.take(model, ticket.excluded)
            if lease and ticket.lease and not ticket.lease.done():
                queue.remove(ticket)
                ticket.lease.set_result(lease)
            elif lease:
                self._balancer.give_back(lease)
            elif not ticket.excluded:
                break  # nobody behind it may ask more nodes
        if not queue:
            del self._queues[model]

    def _on_tick(self) -> None:
        self._tick = None
        self.call_all()
        if self._queues:
            self._tick = asyncio.get_running_loop().call_later(TICK_S, self._on_tick)
