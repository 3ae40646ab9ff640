"""HTTP of nodes: what they report, and what operators do with them."""

from datetime import timedelta

from fastapi import APIRouter, Request, Response
from sqlmodel.ext.asyncio.session import AsyncSession

from control_api.access.principal import Admin, Bearer, Operator, OperatorOrJob, Reader, ReaderOrJob
from control_api.fleet import repository
from control_api.fleet.models import Node, NodeModel
from control_api.fleet.node_auth import CurrentNode
from control_api.fleet.nodes import NodeService
from control_api.fleet.reports import Heartbeat, ReadyModels, RegisterRequest
from control_api.fleet.schemas import (
    BreakerOut,
    DrainRequest,
    HeartbeatOut,
    HoldOut,
    NodeModelOut,
    NodeOut,
    NodePatch,
    RegisterOut,
    TransitionOut,
)
from control_api.fleet.served import NOTHING_GIVEN, Given, believed
from control_api.fleet.states import NodeState
from control_api.kit.clock import utcnow
from control_api.kit.http import ReadSession, WriteSession
from control_api.kit.paging import Cursor, Limit
from control_api.kit.wire import Page

router = APIRouter(prefix="/v0", tags=["nodes"])

METRICS_STALE = timedelta(seconds=30)


def _nodes(request: Request) -> NodeService:
    nodes: NodeService = request.state.nodes
    return nodes


@router.post("/nodes/register", status_code=201)
async def register(request: Request, ticket: Bearer, body: RegisterRequest, session: WriteSession) -> RegisterOut:
    """Register a node with a one-use enrolment ticket."""
    node, token = await _nodes(request).register(session, ticket, body, request.state.access.asker)
    return RegisterOut(
        node_id=node.id,
        node_token=token,
        state=node.state,
        store_id=request.state.store_id,
        heartbeat_interval_s=request.state.settings.heartbeat_interval_s,
        manifest_revision=node.manifest_revision,
    )


@router.post("/nodes/{node_id}/heartbeat")
async def heartbeat(request: Request, body: Heartbeat, node: CurrentNode, token: Bearer, session: ReadSession) -> HeartbeatOut:
    """Take a node's report. Unknown node: 404; wrong token: 401."""
    models = (await repository.node_models(session, [node.id]))[node.id]
    answer: HeartbeatOut = await request.state.heartbeats.receive(node, models, body, token)
    return answer


@router.get("/nodes")
async def list_nodes(
    request: Request, _: Reader, session: ReadSession, state: NodeState | None = None, cursor: Cursor = None, limit: Limit = 100
) -> Page[NodeOut]:
    """List nodes by name."""
    rows, following = await repository.page_nodes(session, state, cursor, limit)
    return Page(items=await _with_breakers(request, await nodes_out(session, rows)), next_cursor=following)


@router.get("/nodes/{node_id}")
async def get_node(request: Request, node_id: str, principal: ReaderOrJob, session: ReadSession) -> NodeOut:
    """Show a node, by id or name."""
    node = await _nodes(request).node(session, node_id)
    principal.check_host(node.host_id)
    return (await _with_breakers(request, await nodes_out(session, [node])))[0]


@router.get("/nodes/{node_id}/models")
async def get_node_models(request: Request, node_id: str, _: Reader, session: ReadSession) -> list[NodeModelOut]:
    """List the models on a node, as it reported them."""
    node = await _nodes(request).node(session, node_id)
    return (await nodes_out(session, [node]))[0].models


@router.get("/nodes/{node_id}/transitions")
async def get_transitions(
    request: Request, node_id: str, _: Reader, session: ReadSession, limit: Limit = 100
) -> list[TransitionOut]:
    """List the latest changes of a node's state, newest first."""
    node = await _nodes(request).node(session, node_id)
    return [TransitionOut.model_validate(row) for row in await repository.transitions(session, node.id, limit)]


@router.post("/nodes/{node_id}/approve")
async def approve(request: Request, node_id: str, _: Admin, session: WriteSession) -> NodeOut:
    """Let a pending node in."""
    node = await _nodes(request).approve(session, node_id)
    return (await nodes_out(session, [node]))[0]


@router.post("/nodes/{node_id}/drain")
async def drain(request: Request, node_id: str, principal: OperatorOrJob, session: WriteSession, body: DrainRequest) -> NodeOut:
    """Hold a node drained: it finishes what it has and gets nothing new."""
    node = await _nodes(request).drain(session, node_id, principal, body)
    return (await nodes_out(session, [node]))[0]


@router.post("/nodes/{node_id}/resume")
async def resume(
    request: Request, node_id: str, principal: OperatorOrJob, session: WriteSession, all_holds: bool = False
) -> NodeOut:
    """Remove one's own hold, or every hold."""
    node = await _nodes(request).resume(session, node_id, principal, all_holds=all_holds and principal.kind != "job")
    return (await nodes_out(session, [node]))[0]


@router.patch("/nodes/{node_id}")
async def change_node(request: Request, node_id: str, body: NodePatch, _: Admin, session: WriteSession) -> NodeOut:
    """Change a node's tags; models that ask for them are placed. What is on the node stays."""
    node = await _nodes(request).node(session, node_id)
    node.tags = sorted(set(body.tags))
    session.add(node)
    await session.flush()
    await _nodes(request).hooks.node_tagged(session, node)
    return (await nodes_out(session, [node]))[0]


@router.delete("/nodes/{node_id}", status_code=204)
async def delete_node(request: Request, node_id: str, _: Operator, session: WriteSession) -> Response:
    """Forget a node. Its token is refused from now on; files on the machine stay."""
    await _nodes(request).remove(session, await _nodes(request).node(session, node_id))
    return Response(status_code=204)


async def _with_breakers(request: Request, nodes: list[NodeOut]) -> list[NodeOut]:
    said: dict[str, list[BreakerOut]] = await request.state.breakers([node.id for node in nodes])
    return [node.model_copy(update={"breakers": said.get(node.id, [])}) for node in nodes]


async def nodes_out(session: AsyncSession, nodes: list[Node]) -> list[NodeOut]:
    """Return nodes as callers see them, with their models and holds."""
    ids = [node.id for node in nodes]
    models, holds = await repository.node_models(session, ids), await repository.holds(session, ids)
    given = await repository.given(session, ids)
    shown = {id_: [_model_out(row, given.get((id_, row.model_id), NOTHING_GIVEN)) for row in models[id_]] for id_ in ids}
    return [_node_out(node, shown[node.id], [HoldOut.model_validate(hold) for hold in holds[node.id]]) for node in nodes]


def _node_out(node: Node, models: list[NodeModelOut], holds: list[HoldOut]) -> NodeOut:
    return NodeOut(
        **node.model_dump(exclude={"inference_key_encrypted", "token_hash", "next_token_hash"}),
        metrics_stale=utcnow() - node.last_heartbeat_at > METRICS_STALE,
        ready_models=ReadyModels(loaded=node.ready_loaded, total=node.ready_total),
        models=models,
        holds=holds,
    )


def _model_out(row: NodeModel, given: Given) -> NodeModelOut:
    """Return a reported model with its progress from 0 to 1, and as much of its state as is believed."""
    progress = min(1.0, row.bytes_done / row.bytes_total) if row.bytes_total else 0.0
    facts = row.model_dump(exclude={"node_id", "model_id", "sha256", "state"})
    return NodeModelOut(**facts, id=row.model_id, state=believed(row.model_id, given, row.state), progress=progress)
