"""The queue in front of the nodes: per model, fair between callers, bounded in length and in time.

Each caller's requests are served in order of arrival; callers take turns, so that one with many requests holds up no other.
"""

import asyncio
from bisect import insort
from collections.abc import Mapping, Set
from dataclasses import dataclass, field

from control_api.router.balance import Balancer, Lease
from control_api.router.errors import NotReady, QueueFull

# Slots that other routers free, pauses that end and breakers that half-open announce themselves to nobody.
TICK_S = 0.1
# What a caller that cannot wait is told as long as nobody knows better.
UNKNOWN_WAIT_S = 1.0


@dataclass(slots=True)
class Pace:
    """How often a slot becomes free while somebody waits: a moving average."""

    interval_s: float | None = None
    last_at: float | None = None

    def tick(self, now: float) -> None:
        """A slot became free."""
        if self.last_at is not None:
            interval_s = now - self.last_at
            self.interval_s = interval_s if self.interval_s is None else 0.8 * self.interval_s + 0.2 * interval_s
        self.last_at = now


@dataclass(slots=True, eq=False)
class Ticket:
    """One caller's place. It keeps its deadline when a node sends it back, and returns to the head of the queue.

    ``turn``: tickets with lower ones go first; ``position``: where it stood when it began to wait, from 1.
    """

    model: str
    excluded: Set[str]
    give_up_at: float
    caller_id: str = ""
    turn: int = 0
    position: int = 0
    waited_s: float = 0.0
    returning: bool = False
    lease: asyncio.Future[Lease] | None = field(default=None, repr=False)


@dataclass(slots=True)
class Queue:
    """Those who wait for one model, in the order in which they are served. ``now``: the turn that was served last."""

    tickets: list[Ticket] = field(default_factory=list)
    now: int = 0
    last_turns: dict[str, int] = field(default_factory=dict)

    def add(self, ticket: Ticket) -> None:
        """Line up a ticket: one turn behind its caller's last one, but not before the present turn."""
        if ticket.returning:
            ticket.turn = self.now
            self.tickets.insert(0, ticket)
            return
        ticket.turn = max(self.now, self.last_turns.get(ticket.caller_id, self.now)) + 1
        self.last_turns[ticket.caller_id] = ticket.turn
        insort(self.tickets, ticket, key=lambda other: other.turn)
        ticket.position = self.tickets.index(ticket) + 1

    def serve(self, ticket: Ticket) -> None:
        """Take out a ticket whose turn has come."""
        self.tickets.remove(ticket)
        self.now = max(self.now, ticket.turn)


class WaitingRoom:
    """Hands out leases in turn. All times are those of the event loop."""

    def __init__(self, balancer: Balancer, *, size: int, deadline_s: float) -> None:
        self._balancer = balancer
        self._size = size
        self._deadline_s = deadline_s
        self._queues: dict[str, Queue] = {}
        self._paces: dict[str, Pace] = {}
        self._tick: asyncio.TimerHandle | None = None

    def waiting(self) -> Mapping[str, int]:
        """Return the number of waiting callers by model."""
        return {model: len(queue.tickets) for model, queue in self._queues.items()}

    def ticket(self, model: str, excluded: Set[str], caller_id: str = "") -> Ticket:
        """Return a place for a new request. ``excluded`` is read anew whenever it is its turn."""
        return Ticket(model, excluded, asyncio.get_running_loop().time() + self._deadline_s, caller_id)

    async def enter(self, ticket: Ticket) -> Lease | None:
        """Return a lease, at once or when it is the caller's turn; ``None`` if there is no node to wait for.

        Raises ``QueueFull``, or ``NotReady`` (``queue_timeout``) when the ticket's time is over.
        """
        queue = self._queues.get(ticket.model)
        if queue is None and (lease := self._balancer.take(ticket.model, ticket.excluded)):
            ticket.returning = True
            return lease
        if not self._balancer.has_candidate(ticket.model, ticket.excluded):
            return None
        if queue and len(queue.tickets) >= self._size:
            message = f"{len(queue.tickets)} requests already wait for {ticket.model}."
            raise QueueFull(message, retry_after_s=self._wait_s(ticket.model))
        return await self._wait(ticket)

    def leave(self, lease: Lease) -> None:
        """Give a lease back and call the next caller of its model."""
        self._balancer.give_back(lease)
        if lease.model in self._queues:
            pace = self._paces.setdefault(lease.model, Pace())
            pace.tick(asyncio.get_running_loop().time())
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
                raise NotReady(message, code="queue_timeout", retry_after_s=self._wait_s(ticket.model)) from None
            raise
        finally:
            ticket.waited_s += loop.time() - began

    def _line_up(self, ticket: Ticket) -> None:
        self._queues.setdefault(ticket.model, Queue()).add(ticket)
        ticket.returning = True
        if self._tick is None:
            self._tick = asyncio.get_running_loop().call_later(TICK_S, self._on_tick)

    def _remove(self, ticket: Ticket) -> None:
        """Take out a caller that waits no longer, also when its turn came in the same moment."""
        if ticket.lease and ticket.lease.done() and not ticket.lease.cancelled():
            self.leave(ticket.lease.result())
        elif (queue := self._queues.get(ticket.model)) and ticket in queue.tickets:
            queue.tickets.remove(ticket)
            self._drop_if_empty(ticket.model)

    def _call(self, model: str) -> None:
        queue = self._queues[model]
        for ticket in list(queue.tickets):
            lease = self._balancer.take(model, ticket.excluded)
            if lease and ticket.lease and not ticket.lease.done():
                queue.serve(ticket)
                ticket.lease.set_result(lease)
            elif lease:
                self._balancer.give_back(lease)
            elif not ticket.excluded:
                break  # nobody behind it may ask more nodes
        self._drop_if_empty(model)

    def _drop_if_empty(self, model: str) -> None:
        if not self._queues[model].tickets:
            del self._queues[model]
            self._paces.pop(model, None)

    def _wait_s(self, model: str) -> float:
        """Return how long a new caller would probably wait for its turn."""
        queue, pace = self._queues.get(model), self._paces.get(model)
        if queue is None or pace is None or pace.interval_s is None:
            return UNKNOWN_WAIT_S
        return min(len(queue.tickets) * pace.interval_s, self._deadline_s)

    def _on_tick(self) -> None:
        self._tick = None
        self.call_all()
        if self._queues:
            self._tick = asyncio.get_running_loop().call_later(TICK_S, self._on_tick)
