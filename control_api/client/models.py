"""Models, their distribution, and download tasks."""

from collections.abc import Sequence

from control_api.client.http import Http, part
from control_api.client.schemas import (
    AssignmentOut,
    ChangedModelOut,
    DistributeOut,
    DistributeRequest,
    HubOut,
    ModelOut,
    ModelPatch,
    Page,
    PlacementOut,
    PlacementRequest,
    PullRequest,
    RegisterModelRequest,
    TaskOut,
)


class Models:
    """``/v0/models``."""

    def __init__(self, http: Http) -> None:
        self._http = http

    async def hub(self) -> HubOut:
        """Return the supported models with where each of them is."""
        return await self._http.get(HubOut, "/v0/models/hub")

    async def list(self) -> list[ModelOut]:
        """Return the registered models."""
        return [model async for model in self._http.items(ModelOut, "/v0/models")]

    async def get(self, model_id: str) -> ModelOut:
        """Return one registered model."""
        return await self._http.get(ModelOut, f"/v0/models/{part(model_id)}")

    async def register(self, request: RegisterModelRequest) -> ModelOut:
        """Register a model: metadata only; nodes fetch the bytes."""
        return await self._http.post(ModelOut, "/v0/models/register", request)

    async def delete(self, model_id: str) -> None:
        """Forget a model; nodes delete its files."""
        await self._http.send("DELETE", f"/v0/models/{part(model_id)}")

    async def plan_placement(self, wanted: PlacementRequest) -> PlacementOut:
        """Return where models would go on nodes that do not exist yet."""
        return await self._http.post(PlacementOut, "/v0/plan/placement", wanted)

    async def change(self, model_id: str, wanted: ModelPatch) -> ChangedModelOut:
        """Change which nodes may hold a model, and how its engine runs it; what was not set stays."""
        answer = await self._http.send("PATCH", f"/v0/models/{part(model_id)}", json=wanted)
        return ChangedModelOut.model_validate_json(answer.content)

    async def assignments(self, *, node_id: str | None = None, model_id: str | None = None) -> Sequence[AssignmentOut]:
        """Return which models shall be on which nodes, with why one is refused, or is loaded on demand."""
        found = self._http.items(AssignmentOut, "/v0/assignments", node_id=node_id, model_id=model_id)
        return [assignment async for assignment in found]

    async def distribute(self, request: DistributeRequest) -> DistributeOut:
        """Order a model onto nodes."""
        return await self._http.post(DistributeOut, "/v0/models/distribute", request)

    async def pull(self, node_id: str, request: PullRequest) -> DistributeOut:
        """Order a model onto one node."""
        return await self._http.post(DistributeOut, f"/v0/nodes/{part(node_id)}/models/pull", request)


class Tasks:
    """``/v0/tasks``."""

    def __init__(self, http: Http) -> None:
        self._http = http

    async def list(
        self,
        *,
        ids: Sequence[str] | None = None,
        node_id: str | None = None,
        status: str | None = None,
        limit: int | None = None,
    ) -> list[TaskOut]:
        """Return download tasks: those named, those of a node, those in a state; newest first; ``limit``: at most so many."""
        if limit is not None:
            return (await self._http.get(Page[TaskOut], "/v0/tasks", limit=limit, node_id=node_id, status=status)).items
        named = ",".join(ids) if ids is not None else None
        return [task async for task in self._http.items(TaskOut, "/v0/tasks", ids=named, node_id=node_id, status=status)]

    async def get(self, task_id: str) -> TaskOut:
        """Return one task."""
        return await self._http.get(TaskOut, f"/v0/tasks/{part(task_id)}")

    async def cancel(self, task_id: str) -> None:
        """Stop a download; its assignment is paused."""
        await self._http.send("POST", f"/v0/tasks/{part(task_id)}/cancel")
