"""Placement, as a question without a store: never over budget, always the same, every refusal with both figures."""

import re
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_api.distribution.placement import Decision, Policy, decide, place
from control_api.distribution.room import Device, Held, Need, Room, room_of

GIB = 1 << 30
POLICIES: tuple[Policy, ...] = ("registered", "best-fit", "all", "off")
FIGURE = re.compile(r"[\d.]+ (bytes|KiB|MiB|GiB|TiB)")
MODELS = "abcdefghij"


def room(*memory: int, disk: int = 500 * GIB, disk_reserve: int = GIB, reserve: int = 0, tags: Sequence[str] = ()) -> Room:
    """Return an empty node with GPUs of these sizes."""
    gpus = [{"uuid": f"GPU-{index}", "memory_total": size} for index, size in enumerate(memory or (24 * GIB,))]
    hardware = {"gpus": gpus, "disk_free": disk}
    return room_of(hardware, None, reserve_bytes=reserve, disk_reserve_bytes=disk_reserve, tags=tags)


def need(model_id: str, memory: int, disk: int = 0, order: int = 0, **fields: object) -> Need:
    return replace(Need(model_id, memory, disk, order), **fields)


sizes = st.integers(min_value=0, max_value=64 * GIB)
orders = st.integers(0, 5)
need_values = st.builds(
    Need, st.sampled_from(MODELS), sizes, sizes, orders, st.integers(0, GIB), st.frozensets(st.sampled_from("xyz"), max_size=1)
)
needs = st.lists(need_values, max_size=8, unique_by=lambda n: n.model_id)
rooms = st.builds(
    lambda memory, **rest: room(*memory, **rest),
    st.lists(st.integers(1, 64 * GIB), min_size=1, max_size=4),
    disk=st.integers(0, 400 * GIB),
    disk_reserve=st.integers(0, 4 * GIB),
    reserve=st.integers(0, 2 * GIB),
    tags=st.lists(st.sampled_from("xyz"), max_size=3),
)
policies = st.sampled_from(POLICIES)


def placed(decisions: list[Decision]) -> list[Held]:
    return [decision.held for decision in decisions if decision.held]


def used_by_device(held: Sequence[Held], node: Room) -> dict[str, int]:
    left = {device.uuid: device.free_bytes for device in node.without(held).devices}
    return {device.uuid: device.free_bytes - left[device.uuid] for device in node.devices}


@given(policies, rooms, needs)
def test_nothing_is_ever_over_its_budget(policy: Policy, node: Room, candidates: list[Need]) -> None:
    held = placed(place(policy, node, [], candidates, set("abcde")))
    resident = [h for h in held if h.residency == "resident"]

    # Those that fit on one GPU are there with all they need; the others take their need and the price of being spread.
    asked = sum(h.need.memory_bytes + max(0, len(h.gpu_uuids) - 1) * h.need.spread_bytes for h in resident)
    used = used_by_device(resident, node)
    assert asked <= sum(used.values()) <= node.memory_free_bytes
    assert all(used[device.uuid] <= device.free_bytes for device in node.devices)
    coming = sum(h.need.disk_bytes for h in held)
    assert not coming or coming <= node.disk_free_bytes - node.disk_reserve_bytes
    for each in held:
        # What is loaded on demand fits when everything else has left.
        assert node.seat(each.need) is not None
        assert each.need.tags <= node.tags


@given(policies, rooms, needs, needs)
def test_what_is_added_fits_beside_what_is_held(policy: Policy, node: Room, there: list[Need], more: list[Need]) -> None:
    held = placed(place("registered", node, [], there, set()))
    ids = {h.need.model_id for h in held}
    added = placed(place(policy, node, held, [c for c in more if c.model_id not in ids], set("abcde")))

    left = node.without(held)
    asked = sum(h.need.memory_bytes for h in added if h.residency == "resident")
    assert asked <= left.memory_free_bytes
    assert sum(h.need.disk_bytes for h in added) <= max(0, left.disk_free_bytes - node.disk_reserve_bytes)


@given(policies, rooms, needs, needs, st.randoms())
def test_the_order_of_the_question_does_not_matter(policy, node, there, candidates, random) -> None:
    held = placed(place("registered", node, [], there, set()))
    shuffled_held, shuffled = list(held), list(candidates)
    random.shuffle(shuffled_held)
    random.shuffle(shuffled)

    assert place(policy, node, held, candidates, set("abc")) == place(policy, node, shuffled_held, shuffled, set("abc"))


@given(policies, rooms, needs)
def test_every_refusal_has_a_reason_with_both_figures(policy: Policy, node: Room, candidates: list[Need]) -> None:
    for decision in place(policy, node, [], candidates, set("abc")):
        if not decision.wanted:
            assert "tagged" in str(decision.reason)
        elif decision.residency != "resident":
            assert len(FIGURE.findall(str(decision.reason))) >= 2


@given(
    st.sampled_from(["registered", "all"]),
    rooms,
    needs,
    st.builds(replace, need_values, model_id=st.just("z"), order=st.just(99)),
)
def test_a_model_that_is_added_takes_the_place_of_none(policy: Policy, node: Room, candidates: list[Need], late: Need) -> None:
    """Neither when all are placed at once, nor when it comes to a node that holds the others."""
    before = place(policy, node, [], candidates, {*MODELS, "z"})

    assert place(policy, node, [], [*candidates, late], {*MODELS, "z"})[: len(before)] == before
    held = placed(before)
    resident = [h for h in held if h.residency == "resident"]
    after = decide(node, held, late)
    assert after.residency != "resident" or asked_of([*resident, Held(late)]) <= node.memory_free_bytes


def asked_of(held: Sequence[Held]) -> int:
    return sum(h.need.memory_bytes for h in held)


def test_registered_takes_models_in_the_order_in_which_they_came_and_the_rest_on_demand() -> None:
    candidates = [need("late", 20 * GIB, order=2), need("early", 10 * GIB, order=1), need("small", 4 * GIB, order=3)]

    decisions = place("registered", room(), [], [*candidates, need("huge", 30 * GIB, order=4)], set())

    assert [(d.model_id, d.residency) for d in decisions] == [
        *[("early", "resident"), ("late", "on_demand")],
        *[("small", "resident"), ("huge", None)],
    ]
    assert decisions[1].reason == "needs 20.0 GiB of GPU memory, but 14.0 GiB of 24.0 GiB are free"
    assert decisions[3].reason == "needs 30.0 GiB of GPU memory, but 24.0 GiB of 24.0 GiB are free"


@pytest.mark.parametrize(
    ("memory_gib", "expected"),
    [(80, "20b"), (24, "20b"), (16, "20b"), (15.9, "7b"), (8, "7b"), (7.9, "3b"), (4.5, "3b"), (4.4, "1b"), (1, "1b")],
)
@pytest.mark.parametrize("kind", ["gpu", "ram"])
def test_the_memory_tiers_come_out_of_best_fit(memory_gib: float, expected: str, kind: str) -> None:
    """From 16 GB: 20b; from 8: 7b; from 4.5: 3b; below: 1b."""
    tiers = [need("1b", GIB), need("3b", int(4.5 * GIB)), need("7b", 8 * GIB), need("20b", 16 * GIB)]
    size = int(memory_gib * GIB)
    hardware = {"gpus": [{"uuid": "GPU-0", "memory_total": size}]} if kind == "gpu" else {"memory_total": size}
    node = room_of(hardware, None, reserve_bytes=0, disk_reserve_bytes=0)

    [decision] = place("best-fit", node, [], tiers, set())

    assert (decision.model_id, decision.residency) == (expected, "resident")


def test_best_fit_leaves_a_node_alone_that_holds_something() -> None:
    assert place("best-fit", room(), [Held(need("1b", GIB))], [need("20b", 16 * GIB)], set()) == []


def test_best_fit_says_why_when_not_even_the_smallest_fits() -> None:
    [decision] = place("best-fit", room(GIB), [], [need("a", 3 * GIB), need("b", 2 * GIB)], set())

    assert (decision.model_id, decision.residency) == ("b", None)
    assert "2.0 GiB" in str(decision.reason)


def test_best_fit_passes_over_what_asks_for_other_tags() -> None:
    wanted = need("20b", 16 * GIB, tags=frozenset({"gpu-a"}))

    assert [d.model_id for d in place("best-fit", room(), [], [wanted, need("1b", GIB)], set())] == ["1b"]
    assert [d.model_id for d in place("best-fit", room(tags=["gpu-a"]), [], [wanted, need("1b", GIB)], set())] == ["20b"]


def test_all_keeps_to_the_fixed_list_and_says_what_does_not_fit() -> None:
    candidates = [need("official", 30 * GIB), need("other", GIB)]

    [decision] = place("all", room(), [], candidates, {"official"})

    assert (decision.model_id, decision.residency) == ("official", None)
    assert decision.reason


def test_off_places_nothing() -> None:
    assert place("off", room(), [], [need("a", 1)], {"a"}) == []


def test_a_model_lives_on_one_gpu_if_one_has_room_and_on_the_fullest_that_has() -> None:
    node = room(24 * GIB, 48 * GIB, 16 * GIB)

    assert node.seat(need("a", 14 * GIB)) == ("GPU-2",)
    assert node.seat(need("a", 20 * GIB)) == ("GPU-0",)
    assert node.seat(need("a", 40 * GIB)) == ("GPU-1",)


def test_a_model_too_large_for_one_gpu_is_spread_over_as_few_as_hold_it_and_what_that_costs() -> None:
    node, spread = room(24 * GIB, 24 * GIB, 8 * GIB), need("a", 47 * GIB, spread_bytes=GIB)

    assert node.seat(spread) == ("GPU-0", "GPU-1")
    assert node.seat(replace(spread, memory_bytes=48 * GIB)) == ("GPU-0", "GPU-1", "GPU-2")
    assert node.seat(replace(spread, memory_bytes=55 * GIB)) is None
    left = node.without([Held(spread, gpu_uuids=("GPU-0", "GPU-1"))])
    assert [device.free_bytes for device in left.devices] == [0, 0, 8 * GIB]


def test_the_sum_of_many_gpus_is_not_one_gpu_and_the_refusal_says_so() -> None:
    node = room(16 * GIB, 16 * GIB, reserve=GIB)
    held = [Held(need("a", 10 * GIB), gpu_uuids=("GPU-0",)), Held(need("b", 10 * GIB), gpu_uuids=("GPU-1",))]

    refused = decide(node, held, need("c", 31 * GIB, spread_bytes=GIB))
    waiting = decide(node, held, need("c", 12 * GIB, spread_bytes=GIB))

    assert refused.residency is None
    assert refused.reason == (
        "needs 31.0 GiB of GPU memory, but 30.0 GiB of 32.0 GiB are free beside a reserve of 2.0 GiB, "
        "at most 15.0 GiB on one of 2 GPUs"
    )
    assert (waiting.residency, "at most 5.0 GiB on one of 2 GPUs" in str(waiting.reason)) == ("on_demand", True)


def test_gpus_that_do_not_name_themselves_are_counted_together() -> None:
    node = room_of({"gpus": [{"memory_total": 8}, {"memory_total": 16}]}, None, reserve_bytes=0, disk_reserve_bytes=0)

    assert (node.seat(need("a", 24)), node.seat(need("a", 25))) == ((), None)


def test_a_gpu_that_is_gone_does_not_hide_what_the_model_needs() -> None:
    node = room(8 * GIB, 8 * GIB)

    assert node.without([Held(need("a", 4 * GIB), gpu_uuids=("GPU-9",))]).memory_free_bytes == 12 * GIB


def test_tags_are_asked_for_by_name() -> None:
    refused = decide(room(tags=["site:tokyo"]), [], need("a", 1, tags=frozenset({"gpu-a"})))

    assert refused.reason == "is not tagged gpu-a, which a needs; it is tagged site:tokyo"
    assert (refused.residency, refused.wanted) == (None, False)
    assert decide(room(tags=["gpu-a", "b"]), [], need("a", 1, tags=frozenset({"gpu-a"}))).residency == "resident"


def test_disk_counts_what_is_still_coming_and_the_reserve() -> None:
    node = room(disk=10 * GIB, disk_reserve=2 * GIB)

    assert node.without([Held(need("coming", 0, 5 * GIB))]).disk_refusal(need("a", 0, 3 * GIB)) is None
    refusal = node.without([Held(need("coming", 0, 6 * GIB), "on_demand")]).disk_refusal(need("a", 0, 3 * GIB))
    assert refusal == "needs 3.0 GiB of disk, but 2.0 GiB are free beside a reserve of 2.0 GiB"


def test_a_model_that_is_on_the_disk_already_needs_none() -> None:
    assert room(disk=0).disk_refusal(need("a", GIB, 0)) is None


@pytest.mark.parametrize(
    ("hardware", "disk", "kind", "devices", "disk_free"),
    [
        (
            {"gpus": [{"uuid": "G", "memory_total": 18}, {"memory_total": 5}], "memory_total": 64, "disk_free": 100},
            *(None, "GPU memory", (Device("G", 18, 11), Device("", 5, 0)), 100),
        ),
        ({"gpus": [], "memory_total": 64, "disk_free": 100}, {"free": 50}, "RAM", (Device("", 64, 57),), 50),
        ({"gpus": [{"memory_total": 0}], "memory_total": 64}, {"free": 0}, "RAM", (Device("", 64, 57),), 0),
        ({}, None, "RAM", (Device("", 0, 0),), 0),
        ({"memory_total": "{{ 1+1 }}", "disk_free": None}, {"free": "1"}, "RAM", (Device("", 0, 0),), 0),
    ],
)
def test_room_comes_from_what_a_node_reports(
    hardware: dict, disk: dict | None, kind: str, devices: tuple[Device, ...], disk_free: int
) -> None:
    found = room_of(hardware, disk, reserve_bytes=7, disk_reserve_bytes=1)

    assert (found.memory_kind, found.devices, found.disk_free_bytes) == (kind, devices, disk_free)
