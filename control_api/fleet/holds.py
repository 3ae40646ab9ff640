"""Drain holds: a node is drained as long as somebody holds it, and open again when the last hold is gone."""

from collections.abc import Collection, Iterable

from sqlmodel.ext.asyncio.session import AsyncSession

from control_api.fleet import repository
from control_api.fleet.models import Node, NodeHold
from control_api.fleet.states import Admission, NodeState, derive
from control_api.fleet.transitions import facts_of, set_state
from control_api.kit import revision
from control_api.kit.clock import utcnow


def job_holder(job_id: str) -> str:
    """Return how a job is named as the holder of a node."""
    return f"job:{job_id}"


async def hold(session: AsyncSession, node: Node, holder: str, reason: str, *, outlives_job: bool = False) -> None:
    """Hold a node drained, or change what one's hold says.

    Parameters
    ----------
    outlives_job: if the holder is a job, the hold stays when it ends.
    """
    await session.merge(NodeHold(node_id=node.id, holder=holder, reason=reason, outlives_job=outlives_job, at=utcnow()))
    if node.admission is not Admission.DRAINED:
        await admit(session, node, Admission.DRAINED, reason or f"drained by {holder}")


async def release(session: AsyncSession, node: Node, holders: Collection[str] | None, reason: str) -> None:
    """Remove the holds of these holders, None: all; without any left the node is open again."""
    held = (await repository.holds(session, [node.id]))[node.id]
    gone = [one.holder for one in held if holders is None or one.holder in holders]
    for holder in gone:
        await repository.delete_hold(session, node.id, holder)
    if len(gone) == len(held) and node.admission is Admission.DRAINED:
        await admit(session, node, Admission.OPEN, reason)


async def end_of_job(session: AsyncSession, job_id: str) -> None:
    """Remove the holds of a job that ends, but for those that are meant to stay."""
    holder = job_holder(job_id)
    for found in await repository.holds_of(session, [holder]):
        if not found.outlives_job:
            node = await session.get_one(Node, found.node_id)
            await release(session, node, [holder], "the job that drained it has ended")


async def end_of_leftovers(session: AsyncSession, host_ids: Iterable[str]) -> None:
    """Remove what earlier jobs left drained on hosts that a later one brought in order."""
    for host_id in sorted(host_ids):
        if node := await repository.node_of_host(session, host_id):
            held = (await repository.holds(session, [node.id]))[node.id]
            await release(session, node, {one.holder for one in held if one.outlives_job}, "a later job brought it in order")


async def admit(session: AsyncSession, node: Node, admission: Admission, reason: str) -> None:
    """Change what we wish of a node, and what follows from that."""
    node.admission = admission
    node.manifest_revision += 1
    in_flight = sum(m.in_flight for m in (await repository.node_models(session, [node.id]))[node.id])
    silent = node.state is NodeState.OFFLINE
    set_state(session, node, derive(facts_of(node, failed=0, in_flight=in_flight, silent=silent)), reason)
    session.add(node)
    await revision.bump(session, revision.ROUTES)
