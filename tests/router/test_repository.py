"""The route table as it is read from a real store: what the control API wrote is what the router acts on."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog

from control_api.access.models import ApiKey, User, UserSession
from control_api.access.tokens import INFERENCE_AUDIENCE, Signer, new_signing_key
from control_api.automation.models import Job, JobHost
from control_api.automation.states import JobStatus
from control_api.catalogue.models import Model
from control_api.fleet.models import Assignment, Host, Node, NodeModel
from control_api.fleet.states import Admission, ModelState, NodeState
from control_api.kit import revision
from control_api.kit.clock import utcnow
from control_api.kit.database import Store
from control_api.kit.secretbox import SecretBox, token_hash
from control_api.kit.tables import ControlTable
from control_api.providers.models import Provider
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


def given(residency: str = "resident", **fields: Any) -> Assignment:
    return Assignment(node_id="node-1", model_id=MODEL, **{"generation": 1, "residency": residency, **fields})


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
    token, _ = signer.sign(INFERENCE_AUDIENCE, "api_key:k", 600, {"pin": ["node-1"], "parent": "api_key:key-1"})
    key = ApiKey(id="key-1", name="k", key_hash=token_hash("mk_secret"), prefix="mk_s", scopes=["admin"], models=[MODEL])
    key.tokens_per_minute = 99
    await write(store, node_row(box, node.url), model_row(), report(ModelState.READY), given(), key, pair)
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
    assert [answer.headers["x-ratelimit-remaining-tokens"] for answer in (by_key, by_token)] == ["99", "95"]


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
    travelling = report(ModelState.DOWNLOADING, bytes_done=1, bytes_total=9)
    await write(store, node_row(box, "http://10.0.0.1:8090"), model_row(), travelling, given())
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


async def test_tokens_are_derived_from_keys_living_sessions_and_running_jobs(
    store: Store, source: StoreSource, box: SecretBox
) -> None:
    reader = ApiKey(id="k", name="k", key_hash="h", prefix="mk_s", scopes=["read"], requests_per_minute=5)
    ada = User(id="ada", name="ada", password_hash="", scopes=["operate"])
    until, over = utcnow() + timedelta(minutes=5), utcnow() - timedelta(minutes=5)
    sessions = [
        UserSession(id_hash=name, token_id=name, user_id="ada", expires_at=at) for name, at in (("s", until), ("o", over))
    ]
    await write(store, Host(id="host-1", name="gpu-1", address="192.0.2.1"), reader, ada)
    await write(store, node_row(box, "http://node", host_id="host-1"))
    askers = {"by-ada": "user:ada", "by-key": "api_key:k", "by-nobody": "api_key:gone", "by-clock": None, "ended": None}
    jobs = [Job(id=name, playbook="verify.yml", requested_by=name, asker=asker, attempt=1) for name, asker in askers.items()]
    for job in jobs:
        job.status = JobStatus.SUCCESSFUL if job.id == "ended" else JobStatus.RUNNING
    await write(store, *sessions, *jobs)
    await write(store, JobHost(job_id="by-ada", host_id="host-1", name="gpu-1"))

    table = await source.load(None)

    assert table
    found = table.parents
    assert found.keys() == {"api_key:k", "session:s", "job:by-ada/1", "job:by-key/1", "job:by-clock/1"}
    assert (found["api_key:k"].scopes, found["api_key:k"].pins, found["api_key:k"].requests_per_minute) == ({"read"}, set(), 5)
    assert (found["session:s"].caller_id, found["session:s"].pins) == ("token:user:ada", None)
    assert found["session:s"].expires_at == until, "a token's own end has some leeway, that of its parent none"
    assert (found["job:by-ada/1"].pins, found["job:by-ada/1"].only_pinned) == ({"node-1"}, True)
    assert {name: parent.scopes for name, parent in found.items() if name.startswith("job:")} == {
        "job:by-ada/1": {"inference"}, "job:by-key/1": set(), "job:by-clock/1": {"inference"},
    }  # fmt: skip
    assert (found["job:by-key/1"].bucket, found["job:by-key/1"].requests_per_minute) == ("key:k", 5)


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
    await write(store, node_row(box, "http://node"), model_row())
    await write(store, report(state), given(residency))

    table = await source.load(None)

    assert table is not None
    (target,) = table.models[MODEL]
    assert (target.on_demand, table.serves(target)) == (expected, expected)


@pytest.mark.parametrize(
    "assignment",
    [None, given(generation=0), given(paused=True), given(unschedulable="needs 9 GiB"), given("on_demand", paused=True)],
)
async def test_what_a_node_was_not_given_routes_nothing(
    store: Store, source: StoreSource, box: SecretBox, assignment: Assignment | None
) -> None:
    rows = [report(ModelState.READY), NodeModel(node_id="node-1", model_id="openai:gpt-x", state=ModelState.READY)]
    await write(store, node_row(box, "http://node"), model_row(), *rows, *([assignment] if assignment else []))

    table = await source.load(None)

    assert table is not None
    assert (dict(table.models), table.is_known("openai:gpt-x")) == ({}, False)


async def test_a_key_that_cannot_be_opened_takes_out_its_owner_only_and_is_said(
    store: Store, box: SecretBox, source: StoreSource
) -> None:
    foreign = SecretBox(SecretBox.new_key(), name="routing")
    other = node_row(foreign, "http://10.0.0.2:8090")
    other.id, other.name = "node-2", "gpu-2"
    for provider, sealed_with in (("openai", foreign), ("google", box)):
        sealed = sealed_with.encrypt("sk-x")
        row = Provider(name=provider, base_url="http://p", key_encrypted=sealed, models=["m"], updated_at=utcnow())
        await write(store, row)
    await write(store, node_row(box, "http://10.0.0.1:8090"), other)

    with structlog.testing.capture_logs() as said:
        table = await source.load(None)
    other.inference_key_encrypted = box.encrypt("its-key")
    await write(store, other)
    mended = await source.load(None)

    assert table and mended
    assert (list(table.nodes), list(table.cloud)) == (["node-1"], ["google:m"])
    assert [line["of"] for line in said if line["event"] == "router.key_unreadable"] == ["gpu-2", "openai"]
    assert sorted(mended.nodes) == ["node-1", "node-2"]
