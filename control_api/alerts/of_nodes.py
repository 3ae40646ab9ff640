"""What is wrong with nodes."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from sqlmodel.ext.asyncio.session import AsyncSession

from control_api.alerts import repository
from control_api.alerts.schemas import AlertKind, AlertOut, alert
from control_api.fleet.models import Node, NodeModel
from control_api.fleet.reports import NodeError
from control_api.fleet.states import NodeState
from control_api.telemetry.models import RouterBreaker

MODELS_NAMED = 3
# What a node may say of itself, and what to do then; a newer node may say more.
_ERRORS = {
    "manifest_refused": (
        AlertKind.NODE_MANIFEST_REFUSED,
        "Its models stay as they are. If it belongs here: muster nodes delete {node}, then "
        "muster jobs run repair.yml {host} --watch, which registers it again.",
    ),
    "gpu_unavailable": (
        AlertKind.NODE_GPU_UNAVAILABLE,
        "Run nvidia-smi on {host}; muster jobs run provision.yml {host} --watch puts the driver right.",
    ),
}
_OTHER_ERROR = (AlertKind.NODE_ERROR, "Look at the log on {host}: journalctl -u muster-node.")


async def find(session: AsyncSession) -> list[AlertOut]:
    """Return what the control store says of nodes."""
    troubled = await repository.troubled_nodes(session)
    failed: defaultdict[str, list[NodeModel]] = defaultdict(list)
    for model in await repository.failed_models(session, [node.id for node, _ in troubled if node.degraded]):
        failed[model.node_id].append(model)
    found = [one for node, host in troubled for one in _of_node(node, host, failed[node.id])]
    return found + await _left_drained(session) + await _distrusted(session)


def _of_node(node: Node, host: str | None, failed: list[NodeModel]) -> Iterator[AlertOut]:
    """What a node said before it fell silent, or says before anybody let it in, is nothing to act on."""
    if node.state is NodeState.PENDING:
        message = f"Node {node.name} registered with a shared token and is not used before somebody lets it in."
        hint = f"muster nodes approve {node.name}, or muster nodes delete {node.name}."
        yield _alert(AlertKind.NODE_PENDING, node, since=node.registered_at, message=message, hint=hint)
    elif node.state is NodeState.OFFLINE:
        message = f"Node {node.name} has sent no heartbeat since {node.last_heartbeat_at:%Y-%m-%d %H:%M:%S} UTC."
        hint = "Look at its machine and its network" + (f"; muster jobs run repair.yml {host} --watch." if host else ".")
        yield _alert(AlertKind.NODE_OFFLINE, node, since=node.last_heartbeat_at, message=message, hint=hint)
    else:
        if node.degraded:
            yield _degraded(node, failed)
        yield from (_error(node, host or "HOST", NodeError.model_validate(said)) for said in node.errors)


def _degraded(node: Node, failed: list[NodeModel]) -> AlertOut:
    named = "; ".join(f"{model.model_id}: {model.error or 'no reason given'}" for model in failed[:MODELS_NAMED])
    message = f"Node {node.name} is without {len(failed)} of its models. {named}"
    hint = f"muster nodes models {node.name}. When the cause is gone: muster models verify MODEL --nodes {node.name}."
    since = node.degraded_since or node.last_heartbeat_at
    return _alert(AlertKind.NODE_DEGRADED, node, since=since, message=message, hint=hint)


def _error(node: Node, host: str, error: NodeError) -> AlertOut:
    kind, to_do = _ERRORS.get(error.code, _OTHER_ERROR)
    message = f"Node {node.name} says {error.code}: {error.message}"
    part = error.code if kind is AlertKind.NODE_ERROR else ""
    return _alert(kind, node, since=error.at, message=message, hint=to_do.format(host=host, node=node.name), part=part)


async def _left_drained(session: AsyncSession) -> list[AlertOut]:
    found = []
    for hold, name, host, playbook in await repository.left_drained(session):
        message = f"Node {name} was left drained by a job that failed on it: {hold.reason or 'no reason given'}"
        again = f"To try again: muster jobs run {playbook or 'upgrade.yml'} {host or 'HOST'} --watch."
        hint = f"{again} To let it serve as it is: muster nodes resume {name} --all."
        facts: dict[str, Any] = {"since": hold.at, "message": message, "hint": hint, "part": hold.holder}
        found.append(alert(AlertKind.NODE_LEFT_DRAINED, name, hold.node_id, **facts))
    return found


async def _distrusted(session: AsyncSession) -> list[AlertOut]:
    found = []
    for row, name, model in await repository.distrusted_peers(session):
        message = f"Node {name} gave another node wrong bytes of {model} and is verifying its own. {row.reason}"
        hint = f"If this stays, look at the disk of {name}: muster models verify {model} --nodes {name}."
        facts: dict[str, Any] = {"since": row.at, "message": message, "hint": hint, "part": row.sha256[:12]}
        found.append(alert(AlertKind.NODE_PEER_DISTRUSTED, name, row.node_id, **facts))
    return found


async def out_of_rotation(session: AsyncSession, said: list[RouterBreaker]) -> list[AlertOut]:
    """Return the nodes that report to the API, and that routers have not reached for a while.

    Parameters
    ----------
    said: what the routers say, longest first.
    """
    longest: dict[str, RouterBreaker] = {}
    for breaker in said:
        longest.setdefault(breaker.node_id, breaker)
    found = []
    for node in await repository.online_nodes(session, longest):
        breaker = longest[node.id]
        message = f"Node {node.name} sends heartbeats, but a router gets no answers from it ({breaker.cause})."
        hint = f"Can the router's machine reach {node.base_url}? Look at the firewalls between, and at the node's log."
        found.append(_alert(AlertKind.NODE_OUT_OF_ROTATION, node, since=breaker.since, message=message, hint=hint))
    return found


def _alert(kind: AlertKind, node: Node, **facts: Any) -> AlertOut:
    return alert(kind, node.name, node.id, **facts)
