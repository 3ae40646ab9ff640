"""Which models go on a node. Pure: the same question always has the same answer, and every refusal has a reason in figures."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

Policy = Literal["registered", "best-fit", "all", "off"]


@dataclass(frozen=True)
class Need:
    """What a model needs of a node: memory to run, and disk for the bytes that are not there yet."""

    model_id: str
    memory_bytes: int
    disk_bytes: int
    # Earlier first: a model that is added never takes the place of one that was there before.
    order: int = 0


@dataclass(frozen=True)
class Room:
    """What a node has left, and of how much. On a node with GPUs the models live in their memory, else in RAM."""

    memory_kind: Literal["GPU memory", "RAM"]
    memory_total_bytes: int
    memory_free_bytes: int
    disk_free_bytes: int
    disk_reserve_bytes: int

    def without(self, needs: Iterable[Need]) -> "Room":
        """Return the room that is left beside these models."""
        needs = list(needs)
        return replace(
            self,
            memory_free_bytes=self.memory_free_bytes - sum(n.memory_bytes for n in needs),
            disk_free_bytes=self.disk_free_bytes - sum(n.disk_bytes for n in needs),
        )

    def refusal(self, need: Need) -> str | None:
        """Return why a model does not fit, with both figures; None if it fits."""
        if need.memory_bytes > self.memory_free_bytes:
            free, total = _bytes(self.memory_free_bytes), _bytes(self.memory_total_bytes)
            return f"needs {_bytes(need.memory_bytes)} of {self.memory_kind}, but {free} of {total} are free"
        usable_bytes = self.disk_free_bytes - self.disk_reserve_bytes
        if need.disk_bytes and need.disk_bytes > usable_bytes:
            kept = _bytes(self.disk_reserve_bytes)
            return f"needs {_bytes(need.disk_bytes)} of disk, but {_bytes(usable_bytes)} are free beside a reserve of {kept}"
        return None


@dataclass(frozen=True)
class Decision:
    """Whether a model goes on a node; if not, why."""

    model_id: str
    refusal: str | None = None


def room_of(hardware: dict[str, Any], disk: dict[str, Any] | None, *, disk_reserve_bytes: int) -> Room:
    """Return the room of an empty node. What it did not report counts as nothing.

    Parameters
    ----------
    hardware: as registered.
    disk: as reported last, ``{"total", "free"}`` in bytes; None: not yet, then the registered figure counts.
    """
    gpu_bytes = sum(_count(gpu.get("memory_total")) for gpu in hardware.get("gpus") or [])
    memory_bytes = gpu_bytes or _count(hardware.get("memory_total"))
    reported = (disk or {}).get("free")
    free_bytes = _count(hardware.get("disk_free") if reported is None else reported)
    return Room("GPU memory" if gpu_bytes else "RAM", memory_bytes, memory_bytes, free_bytes, disk_reserve_bytes)


def place(
    policy: Policy, room: Room, held: Collection[Need], candidates: Collection[Need], official: Collection[str]
) -> list[Decision]:
    """Decide which candidates go on a node.

    Parameters
    ----------
    room: of the empty node.
    held: models that are on it by assignment already; they stay.
    candidates: models that may be added.
    official: ids of the fixed list, to which the policy ``all`` keeps.
    """
    left = room.without(held)
    if policy == "off":
        return []
    if policy == "best-fit":
        return [] if held else _largest(left, candidates)
    wanted = [c for c in candidates if policy == "registered" or c.model_id in official]
    return _in_order(left, wanted)


def _in_order(room: Room, candidates: Iterable[Need]) -> list[Decision]:
    decisions = []
    for need in sorted(candidates, key=lambda n: (n.order, n.model_id)):
        refusal = room.refusal(need)
        decisions.append(Decision(need.model_id, refusal))
        if refusal is None:
            room = room.without([need])
    return decisions


def _largest(room: Room, candidates: Collection[Need]) -> list[Decision]:
    """Return the largest that fits; if none does, the smallest with the reason, so that somebody is told."""
    by_size = sorted(candidates, key=lambda n: (-n.memory_bytes, n.order, n.model_id))
    for need in by_size:
        if room.refusal(need) is None:
            return [Decision(need.model_id)]
    return [Decision(need.model_id, room.refusal(need)) for need in by_size[-1:]]


def _count(value: Any) -> int:
    return max(0, int(value)) if isinstance(value, int | float) else 0


def _bytes(count: int) -> str:
    """Return a number of bytes for people; never below zero, which would only say that the node is overbooked."""
    amount = float(max(0, count))
    if amount < 1024:
        return f"{amount:.0f} bytes"
    for unit in ("KiB", "MiB", "GiB"):
        amount /= 1024
        if amount < 1024:
            return f"{amount:.1f} {unit}"
    return f"{amount / 1024:.1f} TiB"
