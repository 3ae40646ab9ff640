"""Placement, as a question without a store: never over budget, always the same, every refusal with both figures."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_api.distribution.placement import Decision, Need, Policy, Room, place, room_of

GIB = 1 << 30
POLICIES: tuple[Policy, ...] = ("registered", "best-fit", "all", "off")
FIGURE = re.compile(r"[\d.]+ (bytes|KiB|MiB|GiB|TiB)")


def room(memory: int = 24 * GIB, disk: int = 500 * GIB, reserve: int = GIB) -> Room:
    return Room("GPU memory", memory, memory, disk, reserve)


def need(model_id: str, memory: int, disk: int = 0, order: int = 0) -> Need:
    return Need(model_id, memory, disk, order)


sizes = st.integers(min_value=0, max_value=64 * GIB)
needs = st.lists(
    st.builds(Need, st.sampled_from("abcdefghij"), sizes, sizes, st.integers(0, 5)),
    max_size=8,
    unique_by=lambda n: n.model_id,
)
rooms = st.builds(room, memory=sizes, disk=sizes, reserve=st.integers(0, 4 * GIB))


@given(st.sampled_from(POLICIES), rooms, needs, needs)
def test_what_is_placed_fits_beside_what_is_held(policy: Policy, node: Room, held: list[Need], candidates: list[Need]) -> None:
    held_ids = {h.model_id for h in held}
    candidates = [c for c in candidates if c.model_id not in held_ids]
    by_id = {c.model_id: c for c in candidates}

    placed = [by_id[d.model_id] for d in place(policy, node, held, candidates, set("abcde")) if d.refusal is None]

    left = node.without(held)
    assert not placed or sum(p.memory_bytes for p in placed) <= left.memory_free_bytes
    coming = sum(p.disk_bytes for p in placed)
    assert not coming or coming <= left.disk_free_bytes - node.disk_reserve_bytes


@given(st.sampled_from(POLICIES), rooms, needs, needs, st.randoms())
def test_the_order_of_the_question_does_not_matter(policy, node, held, candidates, random) -> None:
    shuffled_held, shuffled = list(held), list(candidates)
    random.shuffle(shuffled_held)
    random.shuffle(shuffled)

    assert place(policy, node, held, candidates, set("abc")) == place(policy, node, shuffled_held, shuffled, set("abc"))


@given(st.sampled_from(POLICIES), rooms, needs, needs)
def test_every_refusal_has_a_reason_with_both_figures(
    policy: Policy, node: Room, held: list[Need], candidates: list[Need]
) -> None:
    for decision in place(policy, node, held, candidates, set("abc")):
        assert decision.refusal is None or len(FIGURE.findall(decision.refusal)) >= 2


@given(rooms, needs, st.builds(Need, st.just("z"), sizes, sizes, st.just(99)))
def test_a_model_that_is_added_takes_the_place_of_none(node: Room, candidates: list[Need], late: Need) -> None:
    before = place("registered", node, [], candidates, set())

    assert place("registered", node, [], [*candidates, late], set())[: len(before)] == before


def test_registered_takes_models_in_the_order_in_which_they_came() -> None:
    candidates = [need("late", 20 * GIB, order=2), need("early", 10 * GIB, order=1), need("small", 4 * GIB, order=3)]

    decisions = place("registered", room(), [], candidates, set())

    assert [d.model_id for d in decisions if d.refusal is None] == ["early", "small"]
    assert decisions[1].refusal == "needs 20.0 GiB of GPU memory, but 14.0 GiB of 24.0 GiB are free"


@pytest.mark.parametrize(
    ("memory_gib", "expected"),
    [(24, "20b"), (16, "20b"), (15.9, "7b"), (8, "7b"), (7.9, "3b"), (4.5, "3b"), (4.4, "1b"), (2, "1b")],
)
def test_best_fit_takes_only_the_largest_that_fits(memory_gib: float, expected: str) -> None:
    tiers = [need("1b", GIB), need("3b", int(4.5 * GIB)), need("7b", 8 * GIB), need("20b", 16 * GIB)]

    assert place("best-fit", room(int(memory_gib * GIB)), [], tiers, set()) == [Decision(expected)]


def test_best_fit_leaves_a_node_alone_that_holds_something() -> None:
    assert place("best-fit", room(), [need("1b", GIB)], [need("20b", 16 * GIB)], set()) == []


def test_best_fit_says_why_when_not_even_the_smallest_fits() -> None:
    [decision] = place("best-fit", room(GIB), [], [need("a", 3 * GIB), need("b", 2 * GIB)], set())

    assert decision.model_id == "b"
    assert "2.0 GiB" in str(decision.refusal)


def test_all_keeps_to_the_fixed_list_and_says_what_does_not_fit() -> None:
    candidates = [need("official", 30 * GIB), need("other", GIB)]

    [decision] = place("all", room(), [], candidates, {"official"})

    assert decision.model_id == "official"
    assert decision.refusal


def test_off_places_nothing() -> None:
    assert place("off", room(), [], [need("a", 1)], {"a"}) == []


def test_disk_counts_what_is_still_coming_and_the_reserve() -> None:
    node = room(disk=10 * GIB, reserve=2 * GIB)

    assert node.without([need("coming", 0, 5 * GIB)]).refusal(need("a", 0, 3 * GIB)) is None
    refusal = node.without([need("coming", 0, 6 * GIB)]).refusal(need("a", 0, 3 * GIB))
    assert refusal == "needs 3.0 GiB of disk, but 2.0 GiB are free beside a reserve of 2.0 GiB"


def test_a_model_that_is_on_the_disk_already_needs_none() -> None:
    assert room(disk=0).refusal(need("a", GIB, 0)) is None


@pytest.mark.parametrize(
    ("hardware", "disk", "expected"),
    [
        (
            {"gpus": [{"memory_total": 8}, {"memory_total": 16}], "memory_total": 64, "disk_free": 100},
            None,
            Room("GPU memory", 24, 24, 100, 7),
        ),
        ({"gpus": [], "memory_total": 64, "disk_free": 100}, {"free": 50}, Room("RAM", 64, 64, 50, 7)),
        ({"gpus": [{"memory_total": 0}], "memory_total": 64}, {"free": 0}, Room("RAM", 64, 64, 0, 7)),
        ({}, None, Room("RAM", 0, 0, 0, 7)),
        ({"memory_total": "{{ 1+1 }}", "disk_free": None}, {"free": "1"}, Room("RAM", 0, 0, 0, 7)),
    ],
)
def test_room_comes_from_what_a_node_reports(hardware: dict, disk: dict | None, expected: Room) -> None:
    assert room_of(hardware, disk, disk_reserve_bytes=7) == expected
