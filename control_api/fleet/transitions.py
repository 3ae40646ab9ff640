"""Changes of a node's state: what it follows from, and the one place that records it."""

from sqlmodel.ext.asyncio.session import AsyncSession

from control_api.fleet.models import Node, NodeTransition
from control_api.fleet.states import Facts, NodeState
from control_api.kit.bus import publish


def facts_of(node: Node, *, failed: int, in_flight: int, silent: bool, all_required: bool = False) -> Facts:
    """Return what a node's state follows from."""
    return Facts(
        admission=node.admission,
        silent=silent,
        applied=node.applied_revision > 0,
        was_online=node.was_online,
        loaded=node.ready_loaded,
        failed=failed,
        total=node.ready_total,
        in_flight=in_flight,
        all_required=all_required,
    )


def set_state(session: AsyncSession, node: Node, state: NodeState, reason: str) -> bool:
    """Record a change of state: the row, one transition, one event. Tell whether anything changed."""
    if node.state is state:
        return False
    session.add(NodeTransition(node_id=node.id, from_state=node.state, to_state=state, reason=reason[:256]))
    data = {"id": node.id, "name": node.name, "from": node.state, "to": state, "reason": reason}
    publish(session, "nodes", "node.state_changed", data)
    node.state = state
    node.was_online = node.was_online or state is NodeState.ONLINE
    return True
