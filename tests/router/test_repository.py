"""The route table as it is read from a real store: what the control API wrote is what the router acts on."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from control_api.access.models import ApiKey, RevokedToken
from control_api.access.tokens import INFERENCE_AUDIENCE, Signer, new_signing_key
from control_api.catalogue.models import Model
from control_api.distribution.models import Assignment
from control_api.fleet.models import Node, NodeModel
from control_api.fleet.states import Admission, ModelState, NodeState
from control_api.kit import revision
from control_api.kit.clock import utcnow
from control_api.kit.database import Store
from control_api.kit.secretbox import SecretBox, token_hash
from control_api.kit.tables import ControlTable
from control_api.router.repository import PROGRESS_S, StoreSource
from tests.router.fleet import CHAT, MODEL, Fleet, bearer, chat
from tests.router.test_balance import Clock

pytestmark = pytest.mark.anyio


@pytest.fixture
async def store(anyio_backend: Any, tmp_path: Path) -> AsyncIterator[Store]:
    made = Store.open(f"sqlite+aiosqlite:///{tmp_path / 'control.db'}")
    async with made.writer.begin() as connection:
        await connection.run_sync(ControlTable.metadata.create_all)
    yield made
    await made.close()


@pytest.fixture
def box() -> SecretBox:
    return SecretBox(SecretBox.new_key(), name="routing")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def source(store: Store, box: SecretBox, clock: Clock) -> StoreSource:
    return StoreSource(store, box, clock)


def node_row(box: SecretBox, url: str, **fields: Any) -> Node:
    facts: dict[str, Any] = {"admission": Admission.OPEN, "state": NodeState.ONLINE, "was_online": True, **fields}
    sealed = box.encrypt("node-key")
    plain = {"token_hash": "", "version": "0.1.0", "hardware": {}, "instance_id": "i"}
    return Node(id="node-1", name="gpu-1", base_url=url, inference_key_encrypted=sealed, **plain, **facts)


def report(state: ModelState, **fields: Any) -> NodeModel:
    return NodeModel(node_id="node-1", model_id=MODEL, state=state, slots=4, **fields)


def model_row() -> Model:
    return Model(id=MODEL, name="t", repo="o/r", revision="c", size_bytes=1, required_memory_bytes=1, capabilities=["chat"])


async def write(store: Store, *rows: ControlTable) -> None:
    """Write rows as the control API does: the revision goes with them."""
    async with store.write() as session:
        for row in rows:
            await session.merge(row)
        await revision.bump(session, revision.ROUTES)


async def test_what_the_api_wrote_is_what_the_router_acts_on(
    fleet: Fleet, store: Store, box: SecretBox, source: StoreSource
) -> None:
    node = await fleet.node()
    pair = new_signing_key(box)
    signer = Signer(pair.kid, box.decrypt(pair.private_encrypted), pair.public_pem)
    token, _ = signer.sign(INFERENCE_AUDIENCE, "user:ada", 600, {"pin": ["node-1"]})
    key = ApiKey(
        name="k", key_hash=token_hash("mk_secret"), prefix="mk_s", scopes=["admin"], models=[MODEL], tokens_per_minute=99
    )
    await write(store, node_row(box, node.url), report(ModelState.READY), model_row(), key, pair)
    table = await source.load(None)
    assert table
    fleet.source.table = table
    async with fleet.router() as http:
        by_key = await http.post(CHAT, json=chat(), headers=bearer("mk_secret"))
        by_token = await http.post(CHAT, json=chat(), headers=bearer(token) | {"x-muster-pin-node": "node-1"})
        figures = await http.get("/metrics", headers=bearer("mk_secret"))
        models = await http.get("/v1/models", headers=bearer("mk_secret"))

    assert [answer.status_code for answer in (by_key, by_token, figures)] == [200, 200, 200], (
        "an admin's key includes the others"
    )
    assert {exchange.headers["authorization"] for exchange in node.requests} == {"Bearer node-key"}
    assert models.json()["data"][0]["capabilities"] == ["chat"]
    assert by_key.headers["x-ratelimit-limit-tokens"] == "99"


async def test_an_unchanged_store_is_not_read_again(store: Store, box: SecretBox, source: StoreSource) -> None:
    empty = await source.load(None)
    assert empty is not None
    assert await source.load(empty.revision) is None

    await write(store, node_row(box, "http://10.0.0.1:8090"))
    changed = await source.load(empty.revision)

    assert changed is not None
    assert changed.revision > empty.revision
    assert list(changed.nodes) == ["node-1"]
    assert "node-key" not in repr(changed)


async def test_progress_is_read_again_while_a_model_travels(
    store: Store, box: SecretBox, source: StoreSource, clock: Clock
) -> None:
    await write(store, node_row(box, "http://10.0.0.1:8090"), report(ModelState.DOWNLOADING, bytes_done=1, bytes_total=9))
    first = await source.load(None)
    assert first
    async with store.write() as session:
        await session.merge(report(ModelState.DOWNLOADING, bytes_done=5, bytes_total=9))
    too_early = await source.load(first.revision)
    clock.now += PROGRESS_S
    later = await source.load(first.revision)

    assert too_early is None
    assert later
    assert later.models[MODEL][0].bytes_done == 5


@pytest.mark.parametrize(("state", "was_online", "silent"), [
    (NodeState.ONLINE, True, False), (NodeState.OFFLINE, True, True), (NodeState.OFFLINE, False, False),
])  # fmt: skip
async def test_a_node_is_silent_when_it_was_in_service(
    store: Store, box: SecretBox, source: StoreSource, state: NodeState, was_online: bool, silent: bool
) -> None:
    await write(store, node_row(box, "http://10.0.0.1:8090", state=state, was_online=was_online))
    table = await source.load(None)

    assert table
    assert table.nodes["node-1"].silent is silent


async def test_revocations_are_kept_until_the_token_would_have_expired(store: Store, source: StoreSource) -> None:
    now = utcnow()
    fresh = RevokedToken(jti="fresh", expires_at=now + timedelta(minutes=5))
    await write(store, fresh, RevokedToken(jti="over", expires_at=now - timedelta(minutes=5)))
    table = await source.load(None)

    assert table
    assert table.revoked_jti == {"fresh"}


@pytest.mark.parametrize(
    ("residency", "state", "expected"),
    [
        ("on_demand", ModelState.INSTALLED, True),
        ("on_demand", ModelState.LOADING, True),
        ("on_demand", ModelState.DOWNLOADING, False),
        ("resident", ModelState.INSTALLED, False),
    ],
)
async def test_only_what_is_there_and_assigned_so_is_loaded_on_demand(
    store: Store, source: StoreSource, box: SecretBox, residency: str, state: ModelState, expected: bool
) -> None:
    assignment = Assignment(node_id="node-1", model_id=MODEL, generation=1, residency=residency)
    await write(store, node_row(box, "http://node"), model_row())
    await write(store, report(state), assignment)

    table = await source.load(None)

    assert table is not None
    (target,) = table.models[MODEL]
    assert (target.on_demand, table.serves(target)) == (expected, expected)
