"""Choosing among nodes: properties that hold whatever happens, and who comes first."""

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from control_api.router.balance import BUSY_PAUSE_S, Balancer, Lease
from control_api.router.breaker import FIRST_PAUSE_S, LONGEST_PAUSE_S, PROBE_S, Cause
from control_api.router.table import RouteNode, RouteTable, RouteTarget

MODEL = "test:1b"


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def table_of(*nodes: tuple[str, str, bool, bool, int], revision: int = 1) -> RouteTable:
    """Return a table of nodes given as (state, admission, silent, ready, slots)."""
    routes, targets = {}, []
    for number, (state, admission, silent, ready, slots) in enumerate(nodes):
        node_id = f"n{number}"
        routes[node_id] = RouteNode(node_id, node_id, "http://x", "k", state, admission, silent)
        targets.append(RouteTarget(node_id, ready, slots, "ready" if ready else "loading", 0, 0))
    return RouteTable(revision, routes, {MODEL: tuple(targets)}, {}, {}, {}, {})


ONLINE = ("online", "open", False, True)

node_facts = st.tuples(
    st.sampled_from(["online", "registering", "draining", "offline"]),
    st.sampled_from(["open", "open", "drained", "pending"]),
    st.booleans(),
    st.booleans(),
    st.integers(0, 4),
)


class Balancing(RuleBasedStateMachine):
    """Any sequence of leases, answers, failures and new tables."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.balancer = Balancer(self.clock)
        self.table = table_of()
        self.leases: list[Lease] = []
        self.skipped: set[str] = set()
        self.busy_until: dict[str, float] = {}
        self.balancer.adopt(self.table)

    @rule(nodes=st.lists(node_facts, max_size=14))
    def new_table(self, nodes: list[tuple[str, str, bool, bool, int]]) -> None:
        self.table = table_of(*nodes, revision=self.table.revision + 1)
        self.balancer.adopt(self.table)
        self.skipped.clear()
        self.busy_until.clear()

    @rule(excluded=st.sets(st.sampled_from([f"n{n}" for n in range(14)]), max_size=5))
    def take(self, excluded: set[str]) -> None:
        before = dict(self.balancer.in_flight)
        lease = self.balancer.take(MODEL, excluded)
        if lease is None:
            assert dict(self.balancer.in_flight) == before
            return
        self.leases.append(lease)
        targets = {target.node_id: target for target in self.table.models[MODEL]}
        target, node = targets[lease.node.id], self.table.nodes[lease.node.id]
        assert node == lease.node
        assert target.ready
        assert node.admission == "open"
        assert node.state == "online" or node.silent
        assert node.id not in excluded | self.skipped
        assert self.busy_until.get(node.id, 0) <= self.clock.now
        assert before.get(lease.route, 0) < max(target.slots, 1), "never beyond its slots"
        assert self.balancer.in_flight[lease.route] == before.get(lease.route, 0) + 1

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), outcome=st.sampled_from(["answered", "unreachable", "lost", "busy", "skip", "left"]))
    def end(self, data: st.DataObject, outcome: str) -> None:
        lease = self.leases.pop(data.draw(st.integers(0, len(self.leases) - 1)))
        match outcome:
            case "answered":
                self.balancer.answered(lease)
            case "busy":
                self.balancer.busy(lease)
                self.busy_until[lease.node.id] = self.clock.now + BUSY_PAUSE_S
            case "skip":
                self.balancer.skip(lease)
                self.skipped.add(lease.node.id)
            case "unreachable" | "lost":
                self.balancer.failed(lease, Cause(outcome))
        self.balancer.give_back(lease)

    @rule(seconds=st.sampled_from([0.01, BUSY_PAUSE_S, FIRST_PAUSE_S, PROBE_S, LONGEST_PAUSE_S]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @invariant()
    def every_lease_is_counted(self) -> None:
        assert sum(self.balancer.in_flight.values()) == len(self.leases)
        assert all(count > 0 for count in self.balancer.in_flight.values())

    @invariant()
    def a_free_slot_means_a_candidate(self) -> None:
        if lease := self.balancer.take(MODEL):
            assert self.balancer.has_candidate(MODEL)
            self.balancer.give_back(lease)

    def teardown(self) -> None:
        for lease in self.leases:
            self.balancer.give_back(lease)
        assert not self.balancer.in_flight


TestBalancing = Balancing.TestCase
TestBalancing.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def balancer_of(*nodes: tuple[str, str, bool, bool, int]) -> tuple[Balancer, Clock]:
    clock = Clock()
    balancer = Balancer(clock)
    balancer.adopt(table_of(*nodes))
    return balancer, clock


def taken(balancer: Balancer, count: int) -> list[str]:
    return [lease.node.id for _ in range(count) if (lease := balancer.take(MODEL))]


def test_the_fewest_in_flight_per_slot_comes_first() -> None:
    balancer, _ = balancer_of((*ONLINE, 1), (*ONLINE, 4), (*ONLINE, 8))

    assert sorted(taken(balancer, 20)) == ["n0"] + ["n1"] * 4 + ["n2"] * 8, "all slots are used, and not one more"

    balancer, _ = balancer_of((*ONLINE, 4), (*ONLINE, 8))
    assert sorted(taken(balancer, 6)) == ["n0"] * 2 + ["n1"] * 4


def test_among_many_all_slots_are_found() -> None:
    """Two drawn at random may both be full; the others are looked at then."""
    balancer, _ = balancer_of(*[(*ONLINE, 2)] * 40)

    assert sorted(taken(balancer, 100)) == sorted(f"n{number}" for number in range(40) for _ in range(2))


def test_a_refused_connection_takes_the_node_out_at_once_for_a_growing_pause() -> None:
    balancer, clock = balancer_of((*ONLINE, 4))
    for pause_s in (FIRST_PAUSE_S, 2 * FIRST_PAUSE_S, 4 * FIRST_PAUSE_S, 8 * FIRST_PAUSE_S, LONGEST_PAUSE_S, LONGEST_PAUSE_S):
        lease = balancer.take(MODEL)
        assert lease
        balancer.failed(lease, Cause.UNREACHABLE)
        balancer.give_back(lease)
        clock.now += pause_s - 0.01
        assert not balancer.has_candidate(MODEL)
        assert 0 < (balancer.recovery_s(MODEL) or 0) < 0.02
        clock.now += 0.02


def test_one_probe_at_a_time_finds_out_whether_a_node_is_back() -> None:
    balancer, clock = balancer_of((*ONLINE, 4))
    lease = balancer.take(MODEL)
    assert lease
    balancer.failed(lease, Cause.UNREACHABLE)
    balancer.give_back(lease)
    clock.now += FIRST_PAUSE_S
    probe = balancer.take(MODEL)

    assert probe
    assert balancer.take(MODEL) is None
    assert balancer.has_candidate(MODEL), "others wait for the probe"

    balancer.answered(probe)
    assert balancer.take(MODEL)


def test_a_probe_that_takes_long_has_at_least_connected() -> None:
    balancer, clock = balancer_of((*ONLINE, 4))
    lease = balancer.take(MODEL)
    assert lease
    balancer.failed(lease, Cause.UNREACHABLE)
    balancer.give_back(lease)
    clock.now += FIRST_PAUSE_S
    assert balancer.take(MODEL)
    clock.now += PROBE_S

    assert balancer.take(MODEL)
