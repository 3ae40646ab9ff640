"""Chooses the node for a request: the fewest requests in flight per slot, among the nodes that may get it.

The count is this process's own, so it only chooses well; the node itself refuses what it has no slot for.
"""

import math
import random
import time
from collections.abc import Callable, Mapping, Sequence, Set
from typing import NamedTuple

import structlog

from control_api.router.breaker import FAILURES_TO_OPEN, Breaker, BreakerState, Cause
from control_api.router.table import RouteNode, RouteTable, RouteTarget

log = structlog.get_logger()

# Beyond so many candidates two drawn at random are compared instead of all.
COMPARE_ALL = 8
# How long a node that said it has no free slot is left alone.
BUSY_PAUSE_S = 0.25
# Smaller than any difference between two loads that matters.
TIE = 1e-6

type Route = tuple[str, str]  # node id, model id


class Lease(NamedTuple):
    """The right to send one request to a node; counts as in flight until it is given back."""

    node: RouteNode
    model: str

    @property
    def route(self) -> Route:
        """The node and model that it counts for."""
        return self.node.id, self.model


class Balancer:
    """In-flight counts, breakers and what nodes said of themselves since the last table."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._table: RouteTable | None = None
        self._tiers: dict[str, tuple[tuple[RouteTarget, ...], ...]] = {}
        self._in_flight: dict[Route, int] = {}
        self._breakers: dict[str, Breaker] = {}
        self._busy_until: dict[Route, float] = {}
        self._skipped: set[Route] = set()
        self._broken: dict[str, int] = {}

    @property
    def in_flight(self) -> Mapping[Route, int]:
        """Requests in flight by node and model; routes without any are absent."""
        return self._in_flight

    def out_of_rotation(self) -> list[BreakerState]:
        """Return the nodes whose breakers are not closed."""
        now = self._clock()
        states = [breaker.state(node_id, now) for node_id, breaker in self._breakers.items()]
        return [state for state in states if state]

    def adopt(self, table: RouteTable) -> None:
        """Choose from this table from now on. Nodes that were skipped get another chance."""
        self._table = table
        self._tiers.clear()
        self._skipped.clear()
        self._busy_until.clear()
        self._breakers = {node_id: breaker for node_id, breaker in self._breakers.items() if node_id in table.nodes}
        self._broken = {node_id: broken for node_id, broken in self._broken.items() if node_id in table.nodes}

    def take(self, model: str, excluded: Set[str] = frozenset()) -> Lease | None:
        """Lease the best node with a free slot, or return ``None``. Silent nodes count only when no other may be asked."""
        now = self._clock()
        for tier in self._tiers_of(model):
            if len(tier) > COMPARE_ALL and (lease := self._best(random.sample(tier, 2), model, excluded, now)[0]):
                return lease
            lease, may_be_asked = self._best(tier, model, excluded, now)
            if lease or may_be_asked:
                return lease
        return None

    def has_candidate(self, model: str, excluded: Set[str] = frozenset()) -> bool:
        """Tell whether some node may be asked, now or when it has a free slot."""
        now = self._clock()
        return any(self._is_candidate(target, model, excluded, now) for tier in self._tiers_of(model) for target in tier)

    def recovery_s(self, model: str) -> float | None:
        """Return in how many seconds a node taken out for failing is tried again; ``None`` if there is none."""
        now = self._clock()
        ids = [target.node_id for tier in self._tiers_of(model) for target in tier]
        return min((self._breakers[i].wait_s(now) for i in ids if i in self._breakers), default=None)

    def lease(self, node: RouteNode, model: str) -> Lease:
        """Lease a node whatever its state: for requests that are pinned to it, and by ``take``."""
        lease = Lease(node, model)
        self._in_flight[lease.route] = self._in_flight.get(lease.route, 0) + 1
        if breaker := self._breakers.get(node.id):
            breaker.begin(self._clock())
        return lease

    def give_back(self, lease: Lease) -> None:
        """End a lease; once per lease."""
        left = self._in_flight[lease.route] - 1
        if left:
            self._in_flight[lease.route] = left
        else:
            del self._in_flight[lease.route]
        if breaker := self._breakers.get(lease.node.id):
            breaker.abandon()

    def answered(self, lease: Lease) -> None:
        """The node gave a proper answer: its breaker closes."""
        if self._breakers.pop(lease.node.id, None):
            log.info("router.node_back", node=lease.node.name)

    def failed(self, lease: Lease, cause: Cause) -> None:
        """The node failed the request."""
        log.warning("router.node_failed", node=lease.node.name, model=lease.model, cause=cause)
        self._breakers.setdefault(lease.node.id, Breaker()).fail(self._clock(), cause)

    def broke(self, lease: Lease) -> None:
        """A stream of the node broke off after it had begun; several in a row take it out like failures."""
        broken = self._broken[lease.node.id] = self._broken.get(lease.node.id, 0) + 1
        if broken >= FAILURES_TO_OPEN:
            self.failed(lease, Cause.BREAKS_STREAMS)

    def completed(self, lease: Lease) -> None:
        """The node brought an answer to its end."""
        if self._broken:
            self._broken.pop(lease.node.id, None)

    def busy(self, lease: Lease) -> None:
        """The node has no free slot or is draining: leave it alone for a moment."""
        self._busy_until[lease.route] = self._clock() + BUSY_PAUSE_S

    def skip(self, lease: Lease) -> None:
        """The node cannot serve the model in spite of the table: leave it out until the next one."""
        log.warning("router.node_skipped", node=lease.node.name, model=lease.model)
        self._skipped.add(lease.route)

    def _tiers_of(self, model: str) -> tuple[tuple[RouteTarget, ...], ...]:
        """Return the targets of nodes that report, those that have it loaded first, then of silent ones; once per table."""
        if self._table is None:
            return ()
        tiers = self._tiers.get(model)
        if tiers is None and (targets := self._table.models.get(model)):
            nodes = self._table.nodes
            serving = [target for target in targets if self._table.serves(target)]
            loud = tuple(target for target in serving if not nodes[target.node_id].silent)
            silent = tuple(target for target in serving if nodes[target.node_id].silent)
            loaded = tuple(target for target in loud if target.ready)
            unloaded = tuple(target for target in loud if not target.ready)
            tiers = self._tiers[model] = (loaded, unloaded, silent)
        return tiers or ()

    def _is_candidate(self, target: RouteTarget, model: str, excluded: Set[str], now: float) -> bool:
        breaker = self._breakers.get(target.node_id)
        return (
            target.node_id not in excluded
            and (target.node_id, model) not in self._skipped
            and (breaker is None or not breaker.is_open(now))
        )

    def _is_free(self, route: Route, slots: int, now: float) -> bool:
        breaker = self._breakers.get(route[0])
        return (
            self._in_flight.get(route, 0) < slots
            and self._busy_until.get(route, 0.0) <= now
            and (breaker is None or breaker.allows(now))
        )

    def _best(self, targets: Sequence[RouteTarget], model: str, excluded: Set[str], now: float) -> tuple[Lease | None, bool]:
        """Return a lease of the best node with a free slot, and whether any node may be asked, now or later."""
        best, best_load, may_be_asked = None, math.inf, False
        for target in targets:
            if not self._is_candidate(target, model, excluded, now):
                continue
            may_be_asked = True
            route, slots = (target.node_id, model), max(target.slots, 1)
            if self._is_free(route, slots, now):
                # The random part only breaks ties, so that equal nodes share the work.
                load = self._in_flight.get(route, 0) / slots + random.random() * TIE
                if load < best_load:
                    best, best_load = target, load
        if best is None or self._table is None:
            return None, may_be_asked
        return self.lease(self._table.nodes[best.node_id], model), True
