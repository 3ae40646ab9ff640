"""Who makes room for whom: the rules by themselves, on any set of loaded models."""

from hypothesis import given
from hypothesis import strategies as st

from node_service.models.residency import Loaded, Memory, make_room, spread

_DEVICES = ("GPU-a", "GPU-b")
_MEMORY = st.dictionaries(st.sampled_from(_DEVICES), st.integers(0, 100))
_BUDGET = st.fixed_dictionaries(dict.fromkeys(_DEVICES, st.integers(0, 300)))


@st.composite
def _loaded(draw: st.DrawFn) -> list[Loaded]:
    shapes = st.tuples(_MEMORY, st.floats(0, 10), st.booleans())
    return [Loaded(f"m{i}", *shape) for i, shape in enumerate(draw(st.lists(shapes, max_size=8)))]


def fits(need: Memory, budget: Memory, loaded: list[Loaded]) -> bool:
    """Whether a model fits beside others. What needs nothing of an overbooked device fits."""
    free = {device: budget[device] - sum(m.memory.get(device, 0) for m in loaded) for device in _DEVICES}
    return all(count <= max(0, free[device]) for device, count in need.items())


@given(_MEMORY, _BUDGET, _loaded())
def test_what_is_unloaded_is_enough_and_may_go(need: Memory, budget: Memory, loaded: list[Loaded]) -> None:
    room = make_room(need, budget, loaded)
    gone = [m for m in loaded if m.model_id in room.unload]

    assert all(m.movable for m in gone)
    if room.short_bytes:
        assert gone == []  # nothing goes in vain
        assert not fits(need, budget, [m for m in loaded if not m.movable])
    else:
        assert fits(need, budget, [m for m in loaded if m not in gone])


@given(_MEMORY, _BUDGET, _loaded())
def test_the_least_recently_used_go_and_no_more_than_needed(need: Memory, budget: Memory, loaded: list[Loaded]) -> None:
    room = make_room(need, budget, loaded)
    by_id = {m.model_id: m for m in loaded}
    gone = [by_id[model_id] for model_id in room.unload]

    assert gone == sorted(gone, key=lambda m: (m.last_used, m.model_id))
    for i, model in enumerate(gone):
        before = [m for m in loaded if m not in gone[:i]]
        assert not fits(need, budget, before)
        # Whoever was used less recently and stays would not have helped when this one was chosen.
        for other in before:
            if other.movable and other not in gone and other.last_used < model.last_used:
                assert all(fits({device: need[device]}, budget, before) for device in need if other.memory.get(device, 0))


@given(_MEMORY, _BUDGET, _loaded())
def test_same_question_same_answer(need: Memory, budget: Memory, loaded: list[Loaded]) -> None:
    assert make_room(need, budget, loaded) == make_room(need, budget, list(reversed(loaded)))


def test_a_gpu_that_has_room_costs_the_models_of_another_one_nothing() -> None:
    here = Loaded("here", {"GPU-a": 90}, last_used=1, movable=True)
    there = Loaded("there", {"GPU-b": 90}, last_used=2, movable=True)

    room = make_room({"GPU-b": 50}, {"GPU-a": 100, "GPU-b": 100}, [here, there])

    assert (room.unload, room.short_bytes) == (("there",), 0)


def test_memory_spreads_over_the_named_gpus_by_their_size() -> None:
    budget = {"GPU-a": 100, "GPU-b": 300}
    assert spread(80, budget, ()) == {"GPU-a": 20, "GPU-b": 60}
    assert spread(80, budget, ("GPU-b",)) == {"GPU-b": 80}
    assert spread(80, budget, ("GPU-gone",)) == {"GPU-a": 20, "GPU-b": 60}
