"""How much room a node has, and whether a model fits in it: on one GPU, over several, in RAM, and on the disk. Pure."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

Residency = Literal["resident", "on_demand"]


@dataclass(frozen=True)
class Need:
    """What a model needs of a node: memory to run, disk for the bytes that are not there yet, and tags."""

    model_id: str
    memory_bytes: int
    disk_bytes: int
    # Earlier first: a model that is added never takes the place of one that was there before.
    order: int = 0
    # What each further GPU costs beside the first, if one is not enough: a context and a compute buffer of its own.
    spread_bytes: int = 0
    tags: frozenset[str] = frozenset()

    def bytes_on(self, gpus: int) -> int:
        """Return the memory that it takes on so many GPUs together; 0: wherever it lives, as on one."""
        return self.memory_bytes + max(0, gpus - 1) * self.spread_bytes


@dataclass(frozen=True)
class Held:
    """A model that is on a node by assignment, where it lives there, and whether it takes memory all the time."""

    need: Need
    residency: Residency = "resident"
    gpu_uuids: tuple[str, ...] = ()


@dataclass(frozen=True)
class Device:
    """A GPU, or a CPU node's RAM. ``free_bytes`` is what is left beside the reserve."""

    uuid: str
    total_bytes: int
    free_bytes: int


@dataclass(frozen=True)
class Room:
    """What a node has left, and of how much. On a node with GPUs the models live in their memory, else in RAM."""

    memory_kind: Literal["GPU memory", "RAM"]
    devices: tuple[Device, ...]
    reserve_bytes: int
    disk_free_bytes: int
    disk_reserve_bytes: int
    tags: frozenset[str] = frozenset()

    @property
    def memory_total_bytes(self) -> int:
        """The memory of all devices, with the reserve."""
        return sum(device.total_bytes for device in self.devices)

    @property
    def memory_free_bytes(self) -> int:
        """What is left on all devices."""
        return sum(device.free_bytes for device in self.devices)

    def without(self, held: Iterable[Held]) -> "Room":
        """Return the room that is left beside these models. They are taken in the order in which they came."""
        room = self
        for each in sorted(held, key=lambda h: (h.need.order, h.need.model_id)):
            room = replace(room, disk_free_bytes=room.disk_free_bytes - each.need.disk_bytes)
            if each.residency == "resident":
                room = replace(room, devices=_taken(room.devices, each))
        return room

    def seat(self, need: Need) -> tuple[str, ...] | None:
        """Return the GPUs on which a model shall live, none meaning all that there are; None if memory is too short.

        One GPU is best, the fullest that has room, so that a larger model finds the others empty. Otherwise as few as do.
        """
        if len(self.devices) == 1 or not all(device.uuid for device in self.devices):
            return () if need.memory_bytes <= self.memory_free_bytes else None
        fitting = [device for device in self.devices if device.free_bytes >= need.memory_bytes]
        if fitting:
            return (min(fitting, key=lambda device: device.free_bytes).uuid,)
        emptiest = sorted(self.devices, key=lambda device: -device.free_bytes)
        for count in range(2, len(emptiest) + 1):
            chosen = emptiest[:count]
            if need.bytes_on(count) <= sum(device.free_bytes for device in chosen):
                return tuple(device.uuid for device in self.devices if device in chosen)
        return None

    def has_room_on(self, gpu_uuids: Collection[str], need: Need) -> bool:
        """Whether a model has room on these GPUs, of which none means all that there are."""
        there = [device for device in self.devices if not gpu_uuids or device.uuid in gpu_uuids]
        return bool(there) and need.bytes_on(len(gpu_uuids)) <= sum(device.free_bytes for device in there)

    def memory_refusal(self, need: Need) -> str:
        """Say in words and figures why there is no seat."""
        free, total = human_bytes(self.memory_free_bytes), human_bytes(self.memory_total_bytes)
        said = f"needs {human_bytes(need.memory_bytes)} of {self.memory_kind}, but {free} of {total} are free"
        if self.reserve_bytes:
            said += f" beside a reserve of {human_bytes(self.reserve_bytes)}"
        if len(self.devices) > 1:
            said += f", at most {human_bytes(max(d.free_bytes for d in self.devices))} on one of {len(self.devices)} GPUs"
        return said

    def disk_refusal(self, need: Need) -> str | None:
        """Say why the bytes do not fit on the disk; None if they do."""
        usable_bytes = self.disk_free_bytes - self.disk_reserve_bytes
        if not need.disk_bytes or need.disk_bytes <= usable_bytes:
            return None
        kept = human_bytes(self.disk_reserve_bytes)
        return (
            f"needs {human_bytes(need.disk_bytes)} of disk, but {human_bytes(usable_bytes)} are free beside a reserve of {kept}"
        )

    def tags_refusal(self, need: Need) -> str | None:
        """Say which tags the node lacks; None if it has all that the model asks for."""
        if missing := need.tags - self.tags:
            has = f"is tagged {', '.join(sorted(self.tags))}" if self.tags else "has no tags"
            return f"is not tagged {', '.join(sorted(missing))}, which {need.model_id} needs; it {has}"
        return None


def room_of(
    hardware: dict[str, Any],
    disk: dict[str, Any] | None,
    *,
    reserve_bytes: int,
    disk_reserve_bytes: int,
    tags: Iterable[str] = (),
) -> Room:
    """Return the room of an empty node. What it did not report counts as nothing.

    Parameters
    ----------
    hardware: as registered.
    disk: as reported last, ``{"total", "free"}`` in bytes; None: not yet, then the registered figure counts.
    reserve_bytes: memory that stays free on each GPU, or of a CPU node's RAM.
    """
    gpus = [(str(gpu.get("uuid") or ""), _count(gpu.get("memory_total"))) for gpu in hardware.get("gpus") or []]
    gpus = [(uuid, total) for uuid, total in gpus if total]
    sizes = gpus or [("", _count(hardware.get("memory_total")))]
    devices = tuple(Device(uuid, total, max(0, total - reserve_bytes)) for uuid, total in sizes)
    reported = (disk or {}).get("free")
    return Room(
        memory_kind="GPU memory" if gpus else "RAM",
        devices=devices,
        reserve_bytes=reserve_bytes * len(devices),
        disk_free_bytes=_count(hardware.get("disk_free") if reported is None else reported),
        disk_reserve_bytes=disk_reserve_bytes,
        tags=frozenset(tags),
    )


def _taken(devices: tuple[Device, ...], held: Held) -> tuple[Device, ...]:
    """Take a model's memory from its devices, from each in proportion to what is free there, as llama.cpp splits layers."""
    there = {device.uuid for device in devices} & set(held.gpu_uuids)
    mine = [device for device in devices if not there or device.uuid in there]
    free_bytes = sum(device.free_bytes for device in mine)
    left_bytes = max(0, free_bytes - held.need.bytes_on(len(there)))
    return tuple(
        replace(device, free_bytes=left_bytes * device.free_bytes // free_bytes) if free_bytes and device in mine else device
        for device in devices
    )


def _count(value: Any) -> int:
    return max(0, int(value)) if isinstance(value, int | float) else 0


def human_bytes(count: int) -> str:
    """Return a number of bytes for people; never below zero, which would only say that the node is overbooked."""
    amount = float(max(0, count))
    if amount < 1024:
        return f"{amount:.0f} bytes"
    for unit in ("KiB", "MiB", "GiB"):
        amount /= 1024
        if amount < 1024:
            return f"{amount:.1f} {unit}"
    return f"{amount / 1024:.1f} TiB"
