"""Reads the route table from the control store. The only module of the router that knows the database."""

import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from control_api.access.models import ApiKey, SigningKey
from control_api.access.principal import with_implied
from control_api.catalogue.models import Model
from control_api.errors import StartupError
from control_api.fleet import repository
from control_api.fleet.models import Node, NodeModel
from control_api.fleet.served import Served, believed, served
from control_api.fleet.states import ModelState, NodeState
from control_api.kit import revision
from control_api.kit.database import Store
from control_api.kit.secretbox import SecretBox
from control_api.providers.repository import list_providers
from control_api.router.parents import load_parents
from control_api.router.table import ApiKeyEntry, ModelEntry, RouteNode, RouteTable, RouteTarget

log = structlog.get_logger()

# Progress does not bump the revision; while models load the table is read again so often, so that "n of m" stays true.
PROGRESS_S = 5.0
_ON_THE_MOVE = (ModelState.DOWNLOADING, ModelState.VERIFYING)


class StoreSource:
    """A ``RouteTableSource`` over the control store.

    Parameters
    ----------
    routing: opens the inference keys of nodes.
    clock: monotonic seconds.
    """

    def __init__(self, store: Store, routing: SecretBox, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._keys = _Opened(routing)
        self._provider_keys = _Opened(routing)
        self._progress_until: float | None = None

    async def load(self, known_revision: int | None) -> RouteTable | None:
        """Return the table in force, or ``None`` if it still is the known one."""
        async with self._store.read() as session:
            newest = await revision.current(session, revision.ROUTES)
            if newest == known_revision and (self._progress_until is None or self._clock() < self._progress_until):
                return None
            table = await self._read(session, newest)
        moving = any(target.state in _ON_THE_MOVE for targets in table.models.values() for target in targets)
        self._progress_until = self._clock() + PROGRESS_S if moving else None
        return table

    async def _read(self, session: AsyncSession, newest: int) -> RouteTable:
        keys = (await session.exec(select(ApiKey))).all()
        signing_keys = (await session.exec(select(SigningKey.kid, SigningKey.public_pem))).all()
        models = (await session.exec(select(Model.id, Model.created_at, Model.capabilities))).all()
        return RouteTable(
            revision=newest,
            nodes=await self._nodes(session),
            models=await _targets(session),
            known_models={id_: ModelEntry(id_, int(created.timestamp()), tuple(able)) for id_, created, able in models},
            keys={key.key_hash: _key_entry(key) for key in keys},
            signing_keys={kid: _public_key(pem) for kid, pem in signing_keys},
            parents=await load_parents(session, keys),
            cloud=await self._cloud(session),
        )

    async def _nodes(self, session: AsyncSession) -> dict[str, RouteNode]:
        connection = await session.connection()
        rows = (await connection.execute(_NODES)).all()
        keys = self._keys.read({row.key: row.name for row in rows})
        return {row.id: _route_node(row, keys[row.key]) for row in rows if row.key in keys}

    async def _cloud(self, session: AsyncSession) -> dict[str, RouteNode]:
        found: dict[str, RouteNode] = {}
        rows = await list_providers(session)
        keys = self._provider_keys.read({row.key_encrypted: row.name for row in rows})
        for row in rows:
            if key := keys.get(row.key_encrypted):
                provider = RouteNode(row.name, row.name, row.base_url, key, "online", "open", silent=False)
                found |= {f"{row.name}:{model}": provider for model in row.models}
        return found


class _Opened:
    """Sealed keys, each opened once. One that this router cannot open takes its owner out of the table and nobody else."""

    def __init__(self, box: SecretBox) -> None:
        self._box = box
        self._keys: dict[str, str] = {}
        self._unreadable: dict[str, str] = {}

    def read(self, owners: dict[str, str]) -> dict[str, str]:
        """Return the keys that can be opened, by how they are sealed; ``owners``: whose they are, also by that."""
        unreadable: dict[str, str] = {}
        keys: dict[str, str] = {}
        for sealed, owner in owners.items():
            try:
                keys[sealed] = self._keys.get(sealed) or self._box.decrypt(sealed)
            except StartupError as error:
                unreadable[sealed] = owner
                log.error("router.key_unreadable", of=owner, error=error.message, hint="It gets no requests from this router.")
        if self._unreadable and not unreadable:
            log.info("router.keys_readable")
        self._keys, self._unreadable = keys, unreadable
        return keys


# Not the hardware and the GPUs' figures, which are most of a row.
_NODES = sa.select(
    *map(col, (Node.id, Node.name, Node.base_url, Node.state, Node.admission, Node.was_online)),
    col(Node.inference_key_encrypted).label("key"),
)


def _route_node(row: sa.Row[*tuple[Any, ...]], inference_key: str) -> RouteNode:
    silent = row.state is NodeState.OFFLINE and row.was_online
    return RouteNode(row.id, row.name, row.base_url, inference_key, row.state, row.admission, silent)


# Plain columns: at a thousand nodes, making objects of the rows costs more than reading them.
_TARGETS = repository.given_reports(
    *map(col, (NodeModel.node_id, NodeModel.slots, NodeModel.bytes_done, NodeModel.bytes_total))
)


async def _targets(session: AsyncSession) -> dict[str, tuple[RouteTarget, ...]]:
    """Return who was given a model and says something of it; what nodes say of other models routes nothing."""
    targets: defaultdict[str, list[RouteTarget]] = defaultdict(list)
    for model_id, told, given, (node_id, slots, done, total) in await repository.read_given(session, _TARGETS):
        state, way = believed(model_id, given, told), served(model_id, given, told)
        if given.stands and state is not ModelState.ORPHANED:
            on_demand = way is Served.ON_DEMAND
            target = RouteTarget(node_id, way is Served.LOADED, slots, state, done, total, on_demand=on_demand)
            targets[model_id].append(target)
    return {model: tuple(found) for model, found in targets.items()}


def _key_entry(key: ApiKey) -> ApiKeyEntry:
    models = None if key.models is None else frozenset(key.models)
    limits = (key.requests_per_minute, key.tokens_per_minute)
    return ApiKeyEntry(key.id, key.name, with_implied(key.scopes), models, key.expires_at, *limits)


def _public_key(pem: str) -> Ed25519PublicKey:
    key = load_pem_public_key(pem.encode())
    if not isinstance(key, Ed25519PublicKey):
        raise TypeError("signing keys are Ed25519")
    return key
