"""Leave to fetch: the one place that limits downloads across the fleet, in the order in which nodes asked.

At each site one node, the seed, brings an artifact over the WAN; the others wait for it and read from it, and from one
another. A seed that stalls is not waited for.
"""

from typing import Any

from sqlalchemy.exc import IntegrityError
from sqlmodel.ext.asyncio.session import AsyncSession

from control_api.catalogue.models import Artifact, Model
from control_api.distribution import grants, repository
from control_api.distribution.fetch_models import FetchGrant, GrantState
from control_api.distribution.peers import Holder, Peers
from control_api.distribution.placing import Placer
from control_api.distribution.schemas import FetchOut, FetchRequest, FetchWait
from control_api.errors import Conflict
from control_api.fleet.models import Node
from control_api.fleet.reports import Heartbeat
from control_api.fleet.sites import site_of
from control_api.fleet.states import ModelState
from control_api.kit import revision

_MAX_RETRY_S = 5
_TURN = "fetches"
_OVER = frozenset({ModelState.INSTALLED, ModelState.LOADING, ModelState.READY, ModelState.FAILED})


class FetchDesk:
    """Hands out grants. A node fetches one artifact at a time, so asking for the next gives the last one back."""

    def __init__(self, peers: Peers, placer: Placer, *, limit: int, hub_endpoint: str | None) -> None:
        self._peers = peers
        self._placer = placer
        self._limit = limit
        self._hub_endpoint = hub_endpoint

    async def ask(self, session: AsyncSession, node: Node, asked: FetchRequest) -> FetchOut | FetchWait:
        """Return leave to fetch an artifact now, with its sources, or the place in the queue.

        Asking again renews either, e.g. after a source failed. Raises ``Conflict`` if the node's manifest does not list it.
        """
        await _take_turn(session)
        remote = await self._remote_sources(session, node, asked.sha256)
        await self._verify(session, await self._peers.distrust(session, node, asked))
        await grants.forget_expired(session)
        grant = await grants.request(session, node.id, asked.sha256, site_of(node.tags))
        failed = asked.failed_peers
        peers = await self._peers.offer(session, node, asked.sha256, but=failed)
        # Who has tried a peer in vain is not made to wait for another one.
        if not peers and not failed and await grants.is_seeded(session, grant):
            return await _wait(session, grant, GrantState.PARKED, "Another node of the site is fetching it.")
        if grant.state is not GrantState.GRANTED and not await self._is_free(session, grant):
            return await _wait(session, grant, GrantState.WAITING, f"{self._limit} downloads are under way.")
        await grants.give(session, grant, peers[0]["node_id"] if peers else None)
        return FetchOut(fetch_id=grant.id, lease_s=grants.LEASE_S, sources=[*peers, *remote])

    async def _is_free(self, session: AsyncSession, grant: FetchGrant) -> bool:
        place = await grants.position(session, grant, GrantState.WAITING)
        return place <= self._limit - await grants.count_granted(session)

    async def _remote_sources(self, session: AsyncSession, node: Node, sha256: str) -> list[dict[str, Any]]:
        rows = [(m, a) for _, m, a in await repository.manifest_rows(session, node.id) if a.sha256 == sha256]
        if not rows:
            raise Conflict(
                f"{node.name}'s manifest lists no file {sha256[:12]}…", code="not_assigned", hint="Read the manifest again."
            )
        hubs = [self._hub_source(model, artifact) for model, artifact in rows] if self._hub_endpoint else []
        return [*hubs, *(_pass_through(model, artifact) for model, artifact in rows)]

    def _hub_source(self, model: Model, artifact: Artifact) -> dict[str, Any]:
        where = {"repo": model.repo, "revision": model.revision, "path": artifact.path}
        return {"kind": "hub", "endpoint": self._hub_endpoint, **where}

    async def _verify(self, session: AsyncSession, doubted: list[Holder]) -> None:
        """Order the model of each of these nodes anew, so that it hashes its files and repairs them."""
        for holder in doubted:
            for peer in await repository.lock_nodes(session, [holder.node.id]):
                row = await repository.get_assignment(session, peer.id, holder.model_id)
                busy = await repository.open_tasks(session, node_id=peer.id, model_id=holder.model_id)
                if row and row.is_wanted and not busy:
                    await self._placer.send(session, peer, row, await session.get_one(Model, holder.model_id))
                    await repository.bump_manifest(session, peer)


def _pass_through(model: Model, artifact: Artifact) -> dict[str, Any]:
    return {"kind": "pass_through", "url": f"/v0/hub/{model.repo}/resolve/{model.revision}/{artifact.path}"}


async def _wait(session: AsyncSession, grant: FetchGrant, state: GrantState, reason: str) -> FetchWait:
    place = await grants.position(session, grant, state)
    await grants.wait(session, grant, state)
    # Who is near the front asks often; who is not, seldom.
    return FetchWait(retry_after_s=min(_MAX_RETRY_S, 1 + place // 4), position=place, reason=reason)


async def _take_turn(session: AsyncSession) -> None:
    """Wait for other requests that decide; the counter's row stays locked until the end of the transaction.

    So two replicas never give the same place away, nor the same artifact to two seeds.
    """
    try:
        async with session.begin_nested():
            await revision.bump(session, _TURN)
    except IntegrityError:
        # Another first request made the row at this moment.
        await revision.bump(session, _TURN)


async def renew(session: AsyncSession, node_id: str, beat: Heartbeat) -> None:
    """Renew the grants that a heartbeat names, and note whether they move."""
    verifying = any(report.state is ModelState.VERIFYING for report in beat.models)
    bytes_seen = None if verifying else sum(report.bytes_done for report in beat.models)
    await grants.renew(session, node_id, list(beat.fetches), bytes_seen)


async def release_finished(session: AsyncSession, node: Node, beat: Heartbeat) -> None:
    """Give back a node's grants for artifacts that it says it has, and for models that it has given up."""
    held = await grants.held_by(session, node.id)
    if not held:
        return
    over = {report.id: report.generation for report in beat.models if report.state in _OVER}
    rows = [row for row in await repository.manifest_rows(session, node.id) if row[2].sha256 in held]
    needed = {artifact.sha256 for assignment, model, artifact in rows if over.get(model.id) != assignment.generation}
    needed -= {digest for report in beat.models for digest in report.held}
    await grants.release(session, node.id, held - needed)
