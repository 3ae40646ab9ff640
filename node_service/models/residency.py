"""Which models give their memory to another one. Pure: the same question always has the same answer."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

__all__ = ["Loaded", "Memory", "Room", "make_room", "spread"]

# Bytes by device: the UUID of a GPU, or "" for a machine's RAM.
Memory = Mapping[str, int]


@dataclass(frozen=True)
class Loaded:
    """A model that holds memory.

    Parameters:
        last_used: monotonic seconds.
        movable: may be unloaded now: loaded on demand, nothing in flight, and of use to somebody already.
    """

    model_id: str
    memory: Memory
    last_used: float
    movable: bool


@dataclass(frozen=True)
class Room:
    """What has to be unloaded for a model to fit; `short_bytes` is what would be missing even then."""

    unload: tuple[str, ...]
    short_bytes: int


def spread(need_bytes: int, budget: Memory, devices: Collection[str]) -> Memory:
    """Return how a model's memory spreads over its devices, in proportion to their size as llama.cpp splits layers.

    Parameters:
        devices: those that it may use; none, or none that is here, means all.
    """
    mine = [device for device in budget if device in devices] or list(budget)
    total = sum(budget[device] for device in mine)
    return {device: need_bytes * budget[device] // total if total else need_bytes for device in mine}


def make_room(need: Memory, budget: Memory, loaded: Collection[Loaded]) -> Room:
    """Choose what makes room, least recently used first, and none that would not help.

    Nothing is chosen when it would not be enough.
    """
    free = {device: budget.get(device, 0) - sum(m.memory.get(device, 0) for m in loaded) for device in need}
    unload: list[str] = []
    for model in sorted((m for m in loaded if m.movable), key=lambda m: (m.last_used, m.model_id)):
        if any(model.memory.get(device, 0) and _short(need, free, device) for device in need):
            unload.append(model.model_id)
            free = {device: left + model.memory.get(device, 0) for device, left in free.items()}
    short_bytes = sum(_short(need, free, device) for device in need)
    return Room(() if short_bytes else tuple(unload), short_bytes)


def _short(need: Memory, free: Memory, device: str) -> int:
    """Return how many bytes are missing on a device; it may be overbooked already."""
    return max(0, need[device] - max(0, free[device]))
