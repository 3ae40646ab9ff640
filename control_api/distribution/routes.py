"""HTTP of distribution: orders, tasks, and what nodes read."""

from collections.abc import Collection
from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Depends, Query, Request, Response
from sqlmodel.ext.asyncio.session import AsyncSession

from control_api.access.principal import Operator, OperatorOrJob, Reader, ReaderOrJob, bearer, require
from control_api.access.schemas import Scope
from control_api.catalogue.routes import catalogue_of
from control_api.distribution import repository
from control_api.distribution.caller import NodeCaller
from control_api.distribution.schemas import (
    AssignmentOut,
    DistributeOut,
    DistributeRequest,
    FetchOut,
    FetchRequest,
    FetchWait,
    Manifest,
    PlacementOut,
    PlacementRequest,
    PullRequest,
    TaskOut,
)
from control_api.distribution.service import DistributionService
from control_api.distribution.states import TaskStatus
from control_api.distribution.tasks import task_out
from control_api.errors import BadInput
from control_api.fleet import repository as fleet_repository
from control_api.fleet.node_auth import CurrentNode, current_node
from control_api.kit.http import ReadSession, WriteSession
from control_api.kit.paging import Cursor, Limit
from control_api.kit.wire import IdStr, ModelIdStr, Page

router = APIRouter(prefix="/v0", tags=["distribution"])

_MAX_IDS = 500


def _distribution(request: Request) -> DistributionService:
    service: DistributionService = request.state.distribution
    return service


async def _call(request: Request, background: BackgroundTasks, session: AsyncSession, task_ids: Collection[str]) -> None:
    """Tell the nodes of these tasks, once the answer is out and so the transaction committed."""
    caller: NodeCaller = request.state.caller
    background.add_task(caller.sync, await repository.nodes_of_tasks(session, task_ids))


@router.post("/models/distribute", status_code=202)
async def distribute(
    request: Request, order: DistributeRequest, principal: OperatorOrJob, session: WriteSession, background: BackgroundTasks
) -> DistributeOut:
    """Order a model onto all nodes, onto some, or onto those where it fits (`auto`)."""
    model = await catalogue_of(request).model(session, order.model)
    ordered = await _distribution(request).distribute(session, model, order, principal)
    await _call(request, background, session, ordered.task_ids)
    return ordered


@router.post("/nodes/{node_id}/models/pull", status_code=202)
async def pull(
    request: Request,
    node_id: IdStr,
    order: PullRequest,
    principal: OperatorOrJob,
    session: WriteSession,
    background: BackgroundTasks,
) -> DistributeOut:
    """Order a model onto one node."""
    model = await catalogue_of(request).model(session, order.model)
    ordered = await _distribution(request).pull(session, model, node_id, order, principal)
    await _call(request, background, session, ordered.task_ids)
    return ordered


@router.post("/plan/placement")
async def plan_placement(request: Request, wanted: PlacementRequest, _: Reader, session: ReadSession) -> PlacementOut:
    """Tell where models would go on nodes that do not exist yet. Changes nothing."""
    return await _distribution(request).plan_placement(session, wanted)


@router.get("/tasks")
async def list_tasks(
    _: ReaderOrJob,
    session: ReadSession,
    ids: Annotated[str | None, Query(max_length=40 * _MAX_IDS, description="Task ids, separated by commas.")] = None,
    node_id: IdStr | None = None,
    status: TaskStatus | None = None,
    cursor: Cursor = None,
    limit: Limit = 100,
) -> Page[TaskOut]:
    """List download tasks, newest first."""
    named = None if ids is None else [task_id.strip() for task_id in ids.split(",") if task_id.strip()]
    if named and len(named) > _MAX_IDS:
        raise BadInput(f"ids: at most {_MAX_IDS} at once.")
    rows, following = await repository.page_tasks(
        session, ids=named, node_id=node_id, status=status, cursor=cursor, limit=limit
    )
    return Page(items=[task_out(row) for row in rows], next_cursor=following)


@router.get("/tasks/{task_id}")
async def get_task(request: Request, task_id: IdStr, _: ReaderOrJob, session: ReadSession) -> TaskOut:
    """Show a download task."""
    return task_out(await _distribution(request).task(session, task_id))


@router.post("/tasks/{task_id}/cancel")
async def cancel_task(
    request: Request, task_id: IdStr, _: Operator, session: WriteSession, background: BackgroundTasks
) -> TaskOut:
    """Stop a download. The model is not sent to that node again until somebody orders it."""
    cancelled = await _distribution(request).cancel(session, task_id)
    await _call(request, background, session, [task_id])
    return task_out(cancelled)


_reader_or_job = require(Scope.READ, job=True)


async def _manifest_reader(request: Request, session: ReadSession, node_id: IdStr) -> None:
    """Let the node itself in, and whoever may read; a job only for nodes on its own hosts."""
    if bearer(request).startswith("mn_"):
        await current_node(request, session, node_id)
        return
    principal = await _reader_or_job(request)
    node = await fleet_repository.get_node(session, node_id)
    principal.check_host(node.host_id if node else None)


@router.get("/nodes/{node_id}/manifest", dependencies=[Depends(_manifest_reader, scope="function")])
async def get_manifest(request: Request, node_id: IdStr, session: ReadSession) -> Manifest:
    """Show everything that shall be on a node."""
    return await _distribution(request).manifest(session, node_id, store_id=request.state.store_id)


@router.get("/assignments")
async def page_assignments(
    _: Reader,
    session: ReadSession,
    node_id: IdStr | None = None,
    model_id: ModelIdStr | None = None,
    cursor: Cursor = None,
    limit: Limit = 100,
) -> Page[AssignmentOut]:
    """List which models shall be on which nodes, with what is paused and what does not fit there, and why."""
    rows, following = await repository.page_assignments(session, node_id=node_id, model_id=model_id, cursor=cursor, limit=limit)
    return Page(items=[AssignmentOut.model_validate(row) for row in rows], next_cursor=following)


@router.get("/nodes/{node_id}/assignments")
async def list_assignments(request: Request, node_id: IdStr, _: Reader, session: ReadSession) -> list[AssignmentOut]:
    """List the models that shall be on a node, with what is paused and what does not fit there, and why."""
    rows = await _distribution(request).assignments(session, node_id)
    return [AssignmentOut.model_validate(row) for row in rows]


@router.post("/nodes/{node_id}/fetches", responses={202: {"model": FetchWait}})
async def ask_fetch(
    request: Request, response: Response, body: FetchRequest, node: CurrentNode, session: WriteSession
) -> FetchOut | FetchWait:
    """Tell a node where it may fetch an artifact now, or, with 202, when to ask again."""
    answer = await _distribution(request).ask_fetch(session, node.id, body)
    if isinstance(answer, FetchWait):
        response.status_code = 202
        response.headers["retry-after"] = str(answer.retry_after_s)
    return answer
