"""Fetch grants: the limit across the fleet, the order of asking, leases, and what is never granted."""

import pytest
from sqlmodel import update

from control_api.distribution.fetch_models import FetchGrant
from control_api.kit.clock import db_now
from tests.distribution.fleet import WireNode, new_model, new_node, order, report
from tests.hub import Hub, commit_of
from tests.running import Api

pytestmark = pytest.mark.anyio

one_at_a_time = pytest.mark.parametrize("api", [{"max_concurrent_downloads": 1}], indirect=True)


async def digest(api: Api, name: str) -> str:
    """Register a model and order it everywhere; return the digest of its file."""
    model = await new_model(api, name)
    await order(api, f"{name}:1b")
    return model["artifacts"][0]["sha256"]


async def expire_all(api: Api) -> None:
    """Let the time of all leases pass."""
    async with api.database.control.write() as session:
        await session.exec(update(FetchGrant).values(expires_at=db_now(-1)))


async def granted(node: WireNode, sha256: str) -> bool:
    response = await node.ask(sha256)
    assert response.status_code in (200, 202), response.text
    return response.status_code == 200


async def test_a_grant_names_the_hub_the_repository_the_commit_and_the_file(api: Api, hub: Hub) -> None:
    node = await new_node(api, "gpu-01")
    sha256 = await digest(api, "a")

    first = await node.ask(sha256)

    assert first.status_code == 200
    grant = first.json()
    assert grant["lease_s"] == 60
    source = {"kind": "hub", "endpoint": hub.url, "repo": "lab/a", "revision": commit_of("lab/a"), "path": "a.gguf"}
    through = {"kind": "pass_through", "url": f"/v0/hub/lab/a/resolve/{commit_of('lab/a')}/a.gguf"}
    assert grant["sources"] == [source, through]
    assert (await node.ask(sha256)).json() == grant


@one_at_a_time
async def test_the_limit_holds_across_the_fleet_and_the_queue_moves_in_order(api: Api) -> None:
    one, two, three = [await new_node(api, f"gpu-0{i}") for i in (1, 2, 3)]
    sha256 = await digest(api, "a")

    assert await granted(one, sha256)
    waiting = await two.ask(sha256)
    assert (waiting.status_code, waiting.headers["retry-after"]) == (202, "1")
    assert waiting.json() == {"retry_after_s": 1, "position": 1, "reason": "1 downloads are under way."}
    assert (await three.ask(sha256)).json()["position"] == 2

    await one.beat(report("a:1b", 1, "installed"))

    assert not await granted(three, sha256)
    assert await granted(two, sha256)
    assert (await three.ask(sha256)).json()["position"] == 1


@one_at_a_time
async def test_a_node_that_wants_more_goes_to_the_end_of_the_queue(api: Api) -> None:
    one, two = await new_node(api, "gpu-01"), await new_node(api, "gpu-02")
    first, second = await digest(api, "a"), await digest(api, "b")
    assert await granted(one, first)
    assert not await granted(two, first)

    assert not await granted(one, second)

    assert await granted(two, first)


@one_at_a_time
async def test_a_lease_that_nobody_renews_frees_its_place_and_a_heartbeat_renews_it(api: Api) -> None:
    one, two = await new_node(api, "gpu-01"), await new_node(api, "gpu-02")
    sha256 = await digest(api, "a")
    fetch_id = (await one.ask(sha256)).json()["fetch_id"]
    await expire_all(api)
    await one.beat(report("a:1b", 1, "downloading", bytes_done=1), fetches=[fetch_id])

    assert not await granted(two, sha256)
    await expire_all(api)
    assert await granted(two, sha256)


@one_at_a_time
async def test_a_node_cannot_renew_the_lease_of_another(api: Api) -> None:
    one, two = await new_node(api, "gpu-01"), await new_node(api, "gpu-02")
    sha256 = await digest(api, "a")
    fetch_id = (await one.ask(sha256)).json()["fetch_id"]
    await expire_all(api)
    await two.beat(report("a:1b", 1, "queued"), fetches=[fetch_id])

    assert await granted(two, sha256)


@one_at_a_time
async def test_cancelling_gives_the_place_back(api: Api) -> None:
    one, two = await new_node(api, "gpu-01"), await new_node(api, "gpu-02")
    sha256 = await digest(api, "a")
    assert await granted(one, sha256)
    items = (await api.http.get("/v0/tasks", params={"node_id": one.id})).json()["items"]

    await api.http.post(f"/v0/tasks/{items[0]['id']}/cancel")

    assert await granted(two, sha256)
    assert (await one.ask(sha256)).json()["error"]["code"] == "not_assigned"


async def test_only_what_the_manifest_lists_is_granted(api: Api) -> None:
    node = await new_node(api, "gpu-01")
    model = await new_model(api, "a")

    for sha256 in (model["artifacts"][0]["sha256"], "0" * 64):
        response = await node.ask(sha256)
        assert (response.status_code, response.json()["error"]["code"]) == (409, "not_assigned")
    assert (await node.ask("not a digest")).status_code == 422


async def test_only_the_node_itself_may_ask(api: Api) -> None:
    one, two = await new_node(api, "gpu-01"), await new_node(api, "gpu-02")
    sha256 = await digest(api, "a")

    for headers in (two.headers, None):
        response = await api.http.post(f"/v0/nodes/{one.id}/fetches", json={"sha256": sha256}, headers=headers)
        assert response.status_code == 401
