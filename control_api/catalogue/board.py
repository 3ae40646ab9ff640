"""The hub list, kept as bytes: 200 models on 100 nodes are 20,000 reports, of which from look to look next to none is new.

Each process keeps what it read. A look reads one short row for each node; the reports are read again of those nodes only that
told something new since (``Node.models_revision``), and only the models that they are about are written anew.
"""

import asyncio
import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from sqlmodel.ext.asyncio.session import AsyncSession

from control_api.catalogue import repository
from control_api.catalogue.lifecycle import Sighting, lifecycle_of, status_of
from control_api.catalogue.popularity import HubView
from control_api.catalogue.repository import NodeStamp
from control_api.catalogue.schemas import HubModelOut, HubNodeOut, MemoryNeed
from control_api.catalogue.supported import SupportedModels


@dataclass
class _Seen:
    """What is known of the fleet: for each model, its reports by node, ready to be joined."""

    stamps: dict[str, NodeStamp] = field(default_factory=dict)
    sightings: dict[str, dict[str, Sighting]] = field(default_factory=lambda: defaultdict(dict))
    nodes: dict[str, dict[str, bytes]] = field(default_factory=lambda: defaultdict(dict))


class HubBoard:
    """Writes the hub list. One look at a time: the next finds nearly everything done."""

    def __init__(self, supported: SupportedModels) -> None:
        self._supported = supported
        self._ids = [entry.id for entry in supported.all]
        self._turn = asyncio.Lock()
        self._seen = _Seen()
        self._memory: dict[str, MemoryNeed | None] = {}
        self._basis: tuple[int, HubView] | None = None
        self._heads: dict[str, bytes] = {}
        self._models: dict[str, bytes] = {}
        self._body = b""

    async def render(self, session: AsyncSession, view: HubView) -> bytes:
        """Return the answer of ``GET /v0/models/hub`` as JSON, up to date with the store."""
        async with self._turn:
            registered, stale = await self._look(session)
            basis = (registered, view)
            if basis != self._basis:
                self._memory = await repository.memory_of_registered(session)
                self._heads = {entry.id: self._head(entry.id, view) for entry in self._supported.all}
                stale, self._basis = set(self._ids), basis
            for model_id in stale:
                self._models[model_id] = self._model(model_id)
            if stale or not self._body:
                models = b",".join(self._models[model_id] for model_id in self._ids)
                # Formatted, not added up: the answer has megabytes, and each sum would copy them.
                self._body = b'{"models":[%b],"hub_reachable":%b}' % (models, json.dumps(view.reachable).encode())
            return self._body

    async def _look(self, session: AsyncSession) -> tuple[int, set[str]]:
        """Read what nodes told since the last look; return the revision of the models, and those that it is about."""
        registered, found = await repository.models_and_node_stamps(session)
        stamps = {stamp.node_id: stamp for stamp in found}
        seen, stale = self._seen, set[str]()
        changed = [node_id for node_id, stamp in stamps.items() if seen.stamps.get(node_id) != stamp]
        gone = seen.stamps.keys() - stamps.keys()
        reported = await repository.sightings_of(session, [stamps[node_id] for node_id in changed], self._ids)
        for node_id in [*changed, *gone]:
            stale |= self._take(node_id, reported.get(node_id, {}))
        if list(stamps) != list(seen.stamps):
            stale |= set(self._ids)
        seen.stamps = stamps
        return registered, stale

    def _take(self, node_id: str, reported: dict[str, Sighting]) -> set[str]:
        """Replace what is known of a node; return the models of which it told something new."""
        stale = set()
        for model_id in self._ids:
            now, before = reported.get(model_id), self._seen.sightings[model_id].get(node_id)
            if now == before:
                continue
            stale.add(model_id)
            if now is None:
                del self._seen.sightings[model_id][node_id], self._seen.nodes[model_id][node_id]
            else:
                self._seen.sightings[model_id][node_id] = now
                self._seen.nodes[model_id][node_id] = _json(now)
        return stale

    def _head(self, model_id: str, view: HubView) -> bytes:
        """Return what does not depend on the fleet, as JSON without its closing brace."""
        entry = self._supported.get(model_id)
        memory = self._memory.get(model_id) or self._supported.memory(model_id)
        facts: dict[str, Any] = entry.model_dump() if entry else {}
        facts |= {"required_memory_bytes": memory.total_bytes, "memory": memory}
        hub = view.facts.get(entry.repo) if entry else None
        whole = HubModelOut(**facts, status="available", lifecycle_status="available", nodes=[], hub=hub)
        return whole.model_dump_json(exclude={"status", "lifecycle_status", "nodes"}).encode()[:-1]

    def _model(self, model_id: str) -> bytes:
        sightings, nodes = self._seen.sightings[model_id], self._seen.nodes[model_id]
        told = sightings.values()
        registered = model_id in self._memory
        states = f'"status":"{status_of(told)}","lifecycle_status":"{lifecycle_of(told, registered=registered)}"'.encode()
        return self._heads[model_id] + b"," + states + b',"nodes":[' + b",".join(self._by_name(nodes)) + b"]}"

    def _by_name(self, nodes: dict[str, bytes]) -> Iterable[bytes]:
        return (nodes[node_id] for node_id in self._seen.stamps if node_id in nodes)


def _json(seen: Sighting) -> bytes:
    node = HubNodeOut(
        node_id=seen.node_id, name=seen.node_name, node_state=seen.node_state, state=seen.state, progress=seen.progress
    )
    return node.model_dump_json().encode()
