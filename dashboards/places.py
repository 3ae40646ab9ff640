"""What shall be where and what is: assignments, reports and downloads of one model on one node, side by side."""

from collections.abc import Iterator
from dataclasses import dataclass

from control_api.client.schemas import AssignmentOut, ModelState, NodeModelOut, NodeOut, NodeState, TaskOut, TaskStatus
from dashboards.components import status
from dashboards.components.status import Look
from dashboards.store import Snapshot


@dataclass(frozen=True)
class Place:
    """One model on one node: what we wish, what the node reports, and its latest download."""

    model_id: str
    node: NodeOut
    wish: AssignmentOut | None
    report: NodeModelOut | None
    task: TaskOut | None

    @property
    def wish_look(self) -> Look:
        """How the wish is shown."""
        if self.wish is None:
            return status.WISH["none"]
        if self.wish.unschedulable:
            return status.WISH["refused"]
        return status.WISH["paused" if self.wish.paused else self.wish.residency]

    @property
    def look(self) -> Look:
        """How the state is shown. A node that is offline reports nothing of now."""
        if self.node.state is NodeState.OFFLINE:
            return status.NODE[NodeState.OFFLINE]
        if self.open_task and self.open_task.status is TaskStatus.WAITING_FOR_NODE:
            return status.TASK[TaskStatus.WAITING_FOR_NODE]
        return status.MODEL[self.report.state if self.report else ModelState.ABSENT]

    @property
    def downloading(self) -> bool:
        """Whether bytes are on their way now."""
        return bool(self.report and self.report.state is ModelState.DOWNLOADING and self.node.state is not NodeState.OFFLINE)

    @property
    def serves(self) -> bool:
        """Whether the node reports now that it can be asked for the model."""
        return bool(self.report and self.report.state is ModelState.READY and self.node.state is not NodeState.OFFLINE)

    @property
    def why(self) -> str:
        """Why it is not as one would like it, in the words of the API or the node."""
        refused = self.wish and (self.wish.unschedulable or self.wish.residency_reason)
        why = (self.report and self.report.error) or refused or (self.open_task and self.open_task.error) or ""
        return why[:1].upper() + why[1:]

    @property
    def in_trouble(self) -> bool:
        """Whether it is not as it should be and will not become so by itself."""
        return self.may_retry or self.node.state is NodeState.OFFLINE

    @property
    def open_task(self) -> TaskOut | None:
        """The download that goes on, which can be cancelled."""
        return self.task if self.task and self.task.status.is_open else None

    @property
    def may_retry(self) -> bool:
        """Whether ordering it again may help: it failed, was refused or was cancelled."""
        failed = self.report is not None and self.report.state is ModelState.FAILED
        held = self.wish is not None and bool(self.wish.unschedulable or self.wish.paused)
        return (failed or held) and not self.open_task


def places(fleet: Snapshot, *, node_id: str | None = None, model_id: str | None = None) -> list[Place]:
    """Return the places of a node by model, or those of a model by the name of the node; what is in trouble comes first."""
    nodes = [node for node in fleet.nodes if node_id in (None, node.id)]
    found = [place for node in nodes for place in _on(fleet, node) if model_id in (None, place.model_id)]
    return sorted(found, key=lambda place: (not place.in_trouble, place.model_id, place.node.name))


def _on(fleet: Snapshot, node: NodeOut) -> Iterator[Place]:
    reports, wishes = {report.id: report for report in node.models}, fleet.wishes.get(node.id, {})
    for model_id in reports.keys() | wishes.keys():
        task = fleet.latest_tasks.get((node.id, model_id))
        yield Place(model_id, node, wishes.get(model_id), reports.get(model_id), task)


@dataclass(frozen=True)
class Memory:
    """Memory of a GPU, or of a node that has none. ``used_bytes`` is reported, ``promised_bytes`` is what models may take."""

    gpu: int | None
    used_bytes: int | None
    promised_bytes: int
    total_bytes: int


def memory(fleet: Snapshot, node: NodeOut) -> list[Memory]:
    """Return the memory of a node, GPU by GPU; what lives on several GPUs counts evenly on each."""
    gpus = [gpu for gpu in node.hardware.get("gpus") or [] if gpu.get("memory_total")]
    used = {gpu["index"]: gpu.get("memory_used") for gpu in node.gpus if gpu.get("memory_total")}
    needs = {model.id: model.required_memory_bytes for model in fleet.models}
    promised: dict[int | None, float] = dict.fromkeys([gpu["index"] for gpu in gpus] or [None], 0.0)
    for wish in fleet.wishes.get(node.id, {}).values():
        if wish.residency != "resident" or wish.unschedulable or wish.paused:
            continue
        chosen = [gpu["index"] for gpu in gpus if gpu.get("uuid") in wish.gpu_uuids] or list(promised)
        for index in chosen:
            promised[index] += needs.get(wish.model_id, 0) / len(chosen)
    if not gpus:
        return [Memory(None, None, int(promised[None]), node.hardware.get("memory_total") or 0)]
    return [Memory(gpu["index"], used.get(gpu["index"]), int(promised[gpu["index"]]), gpu["memory_total"]) for gpu in gpus]
