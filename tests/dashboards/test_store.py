"""The shared copy of the fleet: fresh after events, silent about a short absence of the API, honest about a long one."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from control_api.client import Client, NotSignedIn
from control_api.client.schemas import NodeState
from dashboards import store as stores
from dashboards.store import FleetStore
from tests.dashboards import fake_api, fake_fleet, fleet_data
from tests.dashboards.servers import Running
from tests.dashboards.waiting import until

pytestmark = pytest.mark.anyio


@pytest.fixture
async def store(api: Running) -> AsyncIterator[FleetStore]:
    async with Client(api.url, fake_api.SERVICE_TOKEN) as client:
        store = FleetStore(client)
        running = asyncio.create_task(store.run())
        await until(lambda: store.snapshot.loaded)
        yield store
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_it_reads_everything(store: FleetStore, fleet: fake_fleet.Fleet) -> None:
    read = store.snapshot
    assert [host.name for host in read.hosts] == [host.name for host in fleet.hosts]
    assert [node.state for node in read.nodes] == [node.state for node in fleet.nodes]
    assert len(read.hub.models) == len(fleet.hub.models)
    assert (len(read.jobs), len(read.tasks), len(read.models)) == (len(fleet.jobs), len(fleet.tasks), len(fleet.models))


async def test_an_event_makes_it_read_again_and_tell(store: FleetStore, fleet: fake_fleet.Fleet, api: Running) -> None:
    await until(lambda: fleet.listeners)
    told: list[NodeState] = []
    node = fleet.nodes[0]
    with store.subscribed(lambda: told.append(store.snapshot.nodes[0].state)):
        api.call(fleet.replace_node, node.model_copy(update={"state": NodeState.OFFLINE}))
        await until(lambda: NodeState.OFFLINE in told)
    count = len(told)
    api.call(fleet.replace_node, node)
    await until(lambda: store.snapshot.nodes[0].state is NodeState.ONLINE)
    assert len(told) == count


async def test_a_failure_keeps_what_is_known_and_is_told_after_a_while(
    store: FleetStore, fleet: fake_fleet.Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.refuse["GET /v0/hosts"] = (503, "unavailable", "The store does not answer.")
    store.touch("hosts")
    await until(lambda: store._failing_since)
    assert store.snapshot.problem is None
    monkeypatch.setattr(stores, "SILENCE_S", 0.0)
    store.touch("hosts")
    await until(lambda: store.snapshot.problem)
    assert str(store.snapshot.problem) == "The store does not answer."
    assert store.snapshot.hosts
    fleet.refuse.clear()
    store.touch("hosts")
    await until(lambda: store.snapshot.problem is None)


async def test_nothing_known_and_no_answer_is_told_at_once() -> None:
    async with Client("http://127.0.0.1:9", "key") as client:
        store = FleetStore(client)
        running = asyncio.create_task(store.run())
        await until(lambda: store.snapshot.problem)
        assert store.snapshot.problem and store.snapshot.problem.code == "api_unreachable"
        assert not store.snapshot.loaded
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_credential_that_is_refused_ends_it(api: Running) -> None:
    async with Client(api.url, "revoked") as client:
        with pytest.RaisesGroup(NotSignedIn, match=None, allow_unwrapped=False, flatten_subgroups=True):
            await asyncio.wait_for(FleetStore(client).run(), 20)


def test_a_snapshot_finds_things_by_id() -> None:
    snapshot = stores.Snapshot(nodes=(fleet_data.node(1, "gpu-01"),))
    assert snapshot.node(fleet_data.identifier(101)) is snapshot.nodes[0]
    assert snapshot.node("other") is None
