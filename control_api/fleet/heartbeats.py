"""Heartbeats: state changes are written at once, everything else in groups, at most a second later.

A thousand nodes send two hundred heartbeats a second; most say nothing new. Those wait in memory for the next flush, so
that the store sees one transaction instead of hundreds. If this process dies, the next heartbeat says it again.
"""

import asyncio
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel.ext.asyncio.session import AsyncSession

from control_api.access.preferences import preferences
from control_api.fleet import repository
from control_api.fleet.hooks import FleetHooks
from control_api.fleet.models import Node, NodeModel
from control_api.fleet.reports import Heartbeat, ModelReport, NodeError
from control_api.fleet.schemas import HeartbeatOut
from control_api.fleet.states import ModelState, NodeState, derive
from control_api.fleet.transitions import facts_of, set_state
from control_api.kit import revision
from control_api.kit.clock import utcnow
from control_api.kit.database import Store
from control_api.kit.secretbox import new_token, token_hash
from control_api.settings import Settings

log = structlog.get_logger()

FLUSH_S = 1.0
TOKEN_AGE = timedelta(days=1)
# Of the entries of a report that are left out, so many are named.
REFUSALS_NAMED = 5


class HeartbeatService:
    """Applies heartbeats to the store."""

    def __init__(self, settings: Settings, store: Store, hooks: FleetHooks) -> None:
        self._settings = settings
        self._store = store
        self._hooks = hooks
        self._waiting: dict[str, tuple[Heartbeat, datetime]] = {}

    async def receive(self, node: Node, models: list[NodeModel], beat: Heartbeat, token: str) -> HeartbeatOut:
        """Take a heartbeat: write it now if it changes something, else with the next group."""
        at = utcnow()
        rotates = token_hash(token) == node.next_token_hash or at - node.token_issued_at > TOKEN_AGE
        if not rotates and not _changes(node, models, beat):
            self._waiting[node.id] = (beat, at)
            return HeartbeatOut(state=node.state, admission=node.admission, manifest_revision=node.manifest_revision)
        self._waiting.pop(node.id, None)
        async with self._store.write() as session:
            fresh = await repository.get_node(session, node.id)
            if fresh is None:
                return HeartbeatOut(state=node.state, admission=node.admission, manifest_revision=node.manifest_revision)
            await self._apply(session, fresh, beat, at, all_required=await self._all_required(session))
            next_token = _rotate(fresh, token, at)
            return HeartbeatOut(
                state=fresh.state, admission=fresh.admission, manifest_revision=fresh.manifest_revision, next_token=next_token
            )

    async def run(self) -> None:
        """Flush groups until cancelled, and once more then."""
        try:
            while True:
                await asyncio.sleep(FLUSH_S)
                await self._flush_or_keep()
        finally:
            await self._flush_or_keep()

    async def _flush_or_keep(self) -> None:
        try:
            await self.flush()
        except (SQLAlchemyError, OSError) as error:
            log.warning("heartbeats.store_unavailable", error=str(error), waiting=len(self._waiting))

    async def flush(self) -> None:
        """Write the waiting heartbeats in one transaction; on an error they go on waiting."""
        if not self._waiting:
            return
        group = dict(self._waiting)
        async with self._store.write() as session:
            all_required = await self._all_required(session)
            for node in await repository.list_nodes(session, group):
                await self._apply(session, node, *group[node.id], all_required=all_required)
        self._waiting = {k: v for k, v in self._waiting.items() if group.get(k) is not v}

    async def _all_required(self, session: AsyncSession) -> bool:
        """Whether a node is online only with every model loaded: under the policy `all`."""
        return (await preferences(session, self._settings)).auto_distribution == "all"

    async def _apply(self, session: AsyncSession, node: Node, beat: Heartbeat, at: datetime, *, all_required: bool) -> None:
        if _is_old(node, beat):
            return
        before, applied_before = node.state, node.applied_revision
        if beat.instance_id != node.instance_id:
            node.previous_instance_id, node.instance_id, node.was_online = node.instance_id, beat.instance_id, False
        node.heartbeat_seq, node.last_heartbeat_at = beat.seq, max(at, node.last_heartbeat_at)
        node.applied_revision, node.version = beat.applied_revision, beat.version
        node.ready_loaded, node.ready_total = beat.ready_models.loaded, beat.ready_models.total
        node.gpus, node.disk = [gpu.model_dump() for gpu in beat.gpus], beat.disk.model_dump() if beat.disk else None
        node.errors = _errors(node, beat, at)
        routing, told = await _store_models(session, node, beat)
        node.models_revision += told
        routing |= self._derive(session, node, beat, all_required=all_required)
        session.add(node)
        if beat.fetches:
            await self._hooks.renew_fetches(session, node.id, beat)
        if told or routing or node.applied_revision != applied_before:
            await self._hooks.heartbeat_applied(session, node, beat)
        if node.state is NodeState.ONLINE and before is not NodeState.ONLINE:
            await self._hooks.node_came_online(session, node)
        if routing:
            await revision.bump(session, revision.ROUTES)

    def _derive(self, session: AsyncSession, node: Node, beat: Heartbeat, *, all_required: bool) -> bool:
        failed = sum(m.state is ModelState.FAILED for m in beat.models)
        in_flight = sum(m.in_flight for m in beat.models)
        facts = facts_of(node, failed=failed, in_flight=in_flight, silent=False, all_required=all_required)
        if node.degraded != bool(failed):
            node.degraded, node.degraded_since = bool(failed), utcnow() if failed else None
        reason = f"{beat.ready_models.loaded} of {beat.ready_models.total} models loaded"
        return set_state(
            session, node, derive(facts), reason if node.state is not NodeState.OFFLINE else "heartbeat after silence"
        )


def _is_old(node: Node, beat: Heartbeat) -> bool:
    if beat.instance_id == node.instance_id:
        return beat.seq <= node.heartbeat_seq
    return beat.instance_id == node.previous_instance_id


def _changes(node: Node, models: list[NodeModel], beat: Heartbeat) -> bool:
    """Whether a heartbeat says something that others wait for."""
    if beat.instance_id != node.instance_id or node.state not in (NodeState.ONLINE, NodeState.DRAINED):
        return True
    if beat.applied_revision != node.applied_revision or beat.version != node.version:
        return True
    if (beat.ready_models.loaded, beat.ready_models.total) != (node.ready_loaded, node.ready_total):
        return True
    if _errors(node, beat, utcnow()) != node.errors:
        return True
    known = {m.model_id: (m.state, m.generation, m.slots, m.error, m.held) for m in models}
    return known != {m.id: (m.state, m.generation, m.slots, m.error, m.held) for m in beat.models}


def _errors(node: Node, beat: Heartbeat, now: datetime) -> list[dict[str, Any]]:
    """Return what is wrong with a node: what it says, and what of its report is not understood.

    What is said to begin in the future began when it was heard first.
    """
    known = {error["code"]: error["at"] for error in node.errors}
    errors = [error.model_dump(mode="json") | _since(error, known, now) for error in beat.errors]
    if beat.refused:
        more = f" (and {len(beat.refused) - REFUSALS_NAMED} more)" if len(beat.refused) > REFUSALS_NAMED else ""
        message = f"Left out of its report: {'; '.join(beat.refused[:REFUSALS_NAMED])}{more}."
        own = NodeError(code="report_refused", message=message[:4096], at=now)
        errors.append(own.model_dump(mode="json") | _since(own, known, now))
    return errors


def _since(error: NodeError, known: dict[str, Any], now: datetime) -> dict[str, Any]:
    if error.at < now:
        return {}
    return {"at": known.get(error.code) or error.model_copy(update={"at": now}).model_dump(mode="json")["at"]}


def _rotate(node: Node, token: str, at: datetime) -> str | None:
    """Replace a token by its successor once that was used; give out a successor when it is old."""
    if token_hash(token) == node.next_token_hash:
        node.token_hash, node.next_token_hash, node.token_issued_at = node.next_token_hash, None, at
        return None
    if at - node.token_issued_at <= TOKEN_AGE:
        return None
    successor = new_token("mn")
    node.next_token_hash = token_hash(successor)
    return successor


async def _store_models(session: AsyncSession, node: Node, beat: Heartbeat) -> tuple[bool, bool]:
    """Replace a node's reported models. Return whether routing changed, and whether anything was told at all."""
    known = {m.model_id: m for m in (await repository.node_models(session, [node.id]))[node.id]}
    routing = told = False
    for report in beat.models:
        row = known.pop(report.id, None) or NodeModel(node_id=node.id, model_id=report.id, state=ModelState.ABSENT)
        routing |= _routes_differ(row, report)
        values = _values(report)
        told |= any(getattr(row, key) != value for key, value in values.items() if key != "in_flight")
        row.sqlmodel_update(values)
        session.add(row)
    for gone in known.values():
        await session.delete(gone)
    return routing or bool(known), told or bool(known)


def _values(report: ModelReport) -> dict[str, Any]:
    return report.model_dump(exclude={"id"})


def _routes_differ(row: NodeModel, report: ModelReport) -> bool:
    return (row.state, row.slots) != (report.state, report.slots)
