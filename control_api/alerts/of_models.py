"""What is wrong with models on their way to nodes."""

from sqlmodel.ext.asyncio.session import AsyncSession

from control_api.alerts import repository
from control_api.alerts.schemas import AlertKind, AlertOut, alert


async def find(session: AsyncSession) -> list[AlertOut]:
    """Return what the store says of downloads and placement."""
    return [*await _failed_tasks(session), *await _without_room(session)]


async def _failed_tasks(session: AsyncSession) -> list[AlertOut]:
    found = []
    for task, node in await repository.failed_tasks(session):
        message = f"{task.model_id} did not reach {node}: {task.error or 'no reason given'}"
        hint = f"When the cause is gone: muster models push {task.model_id} --nodes {node} --wait."
        name = f"{task.model_id} to {node}"
        since = task.completed_at or task.created_at
        found.append(alert(AlertKind.TASK_FAILED, name, task.id, since=since, message=message, hint=hint))
    return found


async def _without_room(session: AsyncSession) -> list[AlertOut]:
    found = []
    for model_id, since, reason, count in await repository.models_without_room(session):
        message = f"{model_id} fits on none of {count} nodes. On one of them, it {reason}."
        hint = f"muster models show {model_id} tells what it needs, muster models plan which node would hold it."
        found.append(alert(AlertKind.MODEL_UNSCHEDULABLE, model_id, model_id, since=since, message=message, hint=hint))
    return found
