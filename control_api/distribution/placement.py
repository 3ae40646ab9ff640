"""Which models go on a node. Pure: the same question always has the same answer, and every refusal has a reason in figures."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal

from control_api.distribution.room import Held, Need, Residency, Room

Policy = Literal["registered", "best-fit", "all", "off"]


@dataclass(frozen=True)
class Decision:
    """Whether a model goes on a node, and how it lives there.

    ``residency`` is None for a refusal. ``reason`` tells why it is refused or, with ``on_demand``, why it is not resident.
    ``wanted`` is False if the policy passes the node over because the model asks for other tags.
    """

    need: Need
    residency: Residency | None
    gpu_uuids: tuple[str, ...] = ()
    reason: str | None = None
    wanted: bool = True

    @property
    def model_id(self) -> str:
        """The model."""
        return self.need.model_id

    @property
    def held(self) -> Held | None:
        """What the node then holds; None after a refusal."""
        return Held(self.need, self.residency, self.gpu_uuids) if self.residency else None


def decide(empty: Room, held: Collection[Held], need: Need) -> Decision:
    """Decide on one model: resident where there is room, on demand where it would fit alone, refused elsewhere.

    Parameters
    ----------
    empty: the node as if it held nothing.
    held: what it holds; that stays.
    """
    if refusal := empty.tags_refusal(need):
        return Decision(need, None, reason=refusal, wanted=False)
    left = empty.without(held)
    if refusal := left.disk_refusal(need):
        return Decision(need, None, reason=refusal)
    if (seat := left.seat(need)) is not None:
        return Decision(need, "resident", seat)
    if (seat := empty.seat(need)) is not None:
        return Decision(need, "on_demand", seat, left.memory_refusal(need))
    return Decision(need, None, reason=empty.memory_refusal(need))


def settle_anew(empty: Room, held: Collection[Held], need: Need, gpu_uuids: Collection[str]) -> Decision:
    """Decide how a model lives on a node that has it, after what it needs has changed: it stays, resident or on demand.

    On demand also where it would not even fit alone: the node then says so to whoever asks for it.

    Parameters
    ----------
    held: the other models of the node; they stay as they are.
    gpu_uuids: where it lives now; there it stays if there is room.
    """
    left = empty.without(held)
    seat = tuple(gpu_uuids) if left.has_room_on(gpu_uuids, need) else left.seat(need)
    if seat is not None:
        return Decision(need, "resident", seat)
    return Decision(need, "on_demand", empty.seat(need) or (), left.memory_refusal(need))


def place(
    policy: Policy, empty: Room, held: Collection[Held], candidates: Collection[Need], official: Collection[str]
) -> list[Decision]:
    """Decide which candidates go on a node.

    Parameters
    ----------
    empty: the node as if it held nothing.
    held: models that are on it by assignment already; they stay.
    candidates: models that may be added.
    official: ids of the fixed list, to which the policy ``all`` keeps.
    """
    if policy == "off":
        return []
    if policy == "best-fit":
        return [] if held else _largest(empty, candidates)
    wanted = [c for c in candidates if policy == "registered" or c.model_id in official]
    return _in_order(empty, held, wanted)


def _in_order(empty: Room, held: Collection[Held], candidates: Iterable[Need]) -> list[Decision]:
    decisions, now = [], list(held)
    for need in sorted(candidates, key=lambda n: (n.order, n.model_id)):
        decision = decide(empty, now, need)
        decisions.append(decision)
        if decision.held:
            now.append(decision.held)
    return decisions


def _largest(empty: Room, candidates: Collection[Need]) -> list[Decision]:
    """Return the largest that fits; if none does, the smallest with the reason, so that somebody is told."""
    by_size = sorted(candidates, key=lambda n: (-n.memory_bytes, n.order, n.model_id))
    decisions = [decision for need in by_size if (decision := decide(empty, (), need)).wanted]
    fitting = [decision for decision in decisions if decision.residency]
    return fitting[:1] or decisions[-1:]
