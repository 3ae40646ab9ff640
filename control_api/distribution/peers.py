"""Peers: nodes of the same site that hold an artifact, what they are asked with, and which of them are not believed."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
import structlog
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from control_api.catalogue.models import Artifact
from control_api.distribution import grants
from control_api.distribution.fetch_models import DistrustedPeer
from control_api.distribution.schemas import FetchRequest
from control_api.fleet.models import Assignment, Node, NodeModel
from control_api.fleet.sites import site_of
from control_api.fleet.states import NodeState
from control_api.kit.clock import db_now
from control_api.kit.secretbox import SecretBox

log = structlog.get_logger()

_OFFERED = 3
_SILENT_S = 15
_TICKET_S = 600


@dataclass(frozen=True)
class Holder:
    """A node that holds an artifact, as part of a model that it reports."""

    node: Node
    model_id: str
    installed_at: datetime | None


class Peers:
    """Knows who holds what. ``box`` decrypts the keys of nodes, with which their tickets are signed."""

    def __init__(self, box: SecretBox) -> None:
        self._box = box

    async def offer(self, session: AsyncSession, node: Node, sha256: str, *, but: Collection[str]) -> list[dict[str, Any]]:
        """Return sources at the peers of a node, those that the fewest read from first; ``but``: not these."""
        found = await self._believed(session, await holders(session, node, sha256), sha256)
        busy = await grants.readers(session, sha256)
        fit = sorted((holder.node for holder in found if holder.node.id not in but), key=lambda n: (busy.get(n.id, 0), n.id))
        return [self._source(peer, sha256, asker=node.id) for peer in fit[:_OFFERED]]

    async def distrust(self, session: AsyncSession, node: Node, asked: FetchRequest) -> list[Holder]:
        """Take note of the peers that a node says gave it wrong bytes. Return those of which this is news."""
        accused = {id_: source for id_, source in asked.failed_peers.items() if source.corrupt}
        if not accused:
            return []
        found = await self._believed(session, await holders(session, node, asked.sha256), asked.sha256)
        news = [holder for holder in found if holder.node.id in accused]
        for holder in news:
            peer, reason = holder.node, accused[holder.node.id].error
            row = DistrustedPeer(node_id=peer.id, sha256=asked.sha256, reported_by=node.id, reason=reason)
            row.installed_at = holder.installed_at
            await session.merge(row)
            log.error("peer.distrusted", peer=peer.name, reported_by=node.name, sha256=asked.sha256, reason=reason)
        return news

    async def _believed(self, session: AsyncSession, found: list[Holder], sha256: str) -> list[Holder]:
        rows = (await session.exec(select(DistrustedPeer).where(DistrustedPeer.sha256 == sha256))).all()
        doubted = {(row.node_id, row.installed_at) for row in rows}
        return [holder for holder in found if (holder.node.id, holder.installed_at) not in doubted]

    def _source(self, peer: Node, sha256: str, *, asker: str) -> dict[str, Any]:
        key = self._box.decrypt(peer.inference_key_encrypted)
        ticket = peer_ticket(key, sha256, asker=asker, expires_at_s=int(time.time()) + _TICKET_S)
        return {"kind": "peer", "node_id": peer.id, "url": f"{peer.base_url}/v0/artifacts/{sha256}", "ticket": ticket}


async def holders(session: AsyncSession, node: Node, sha256: str) -> list[Holder]:
    """Return the other nodes of a node's site that are heard, were given an artifact and report that they hold it."""
    site = site_of(node.tags)
    if site is None:
        return []
    models = select(Artifact.model_id).where(Artifact.sha256 == sha256)
    statement = (
        select(Node, NodeModel, Assignment)
        .join(NodeModel, col(NodeModel.node_id) == col(Node.id))
        .join(Assignment, sa.and_(col(Assignment.node_id) == Node.id, col(Assignment.model_id) == NodeModel.model_id))
        .where(col(NodeModel.model_id).in_(models), Node.id != node.id)
        .where(col(Node.state).not_in([NodeState.OFFLINE, NodeState.PENDING]))
        .where(col(Node.last_heartbeat_at) > db_now(-_SILENT_S))
    )
    rows = (await session.exec(statement)).all()
    held = [(node, its) for node, its, given in rows if given.is_wanted and sha256 in its.held]
    return [Holder(node, its.model_id, its.installed_at) for node, its in held if site_of(node.tags) == site]


def peer_ticket(key: str, sha256: str, *, asker: str, expires_at_s: int) -> str:
    """Return leave for one node to read one artifact from the peer whose key this is; the peer checks it alone.

    ``base64url(payload).base64url(HMAC-SHA256(key, payload))``, the payload a JSON object of ``sha256``, ``asker`` and
    ``exp`` (Unix seconds).
    """
    payload = json.dumps({"sha256": sha256, "asker": asker, "exp": expires_at_s}).encode()
    mac = hmac.digest(key.encode(), payload, hashlib.sha256)
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in (payload, mac))
