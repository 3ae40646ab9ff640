"""Peers and seeds: one copy over the WAN for each site, the rest from neighbours, and what is done about those that lie."""

from typing import Any

import pytest
from sqlmodel import update

from control_api.distribution.fetch_models import FetchGrant
from control_api.kit.clock import db_now
from node_service.auth import check_ticket
from tests.distribution.fleet import WireNode, key_of, new_model, new_node, order, report
from tests.running import Api

pytestmark = pytest.mark.anyio

TOKYO, OSAKA = ("site:tokyo", "gpu-a"), ("site:osaka",)


async def tokyo(api: Api, count: int) -> list[WireNode]:
    return [await new_node(api, f"gpu-{number:02}", tags=TOKYO) for number in range(count)]


async def digest(api: Api, name: str = "a") -> str:
    """Register a model and order it everywhere; return the digest of its file."""
    model = await new_model(api, name)
    await order(api, f"{name}:1b")
    return model["artifacts"][0]["sha256"]


async def kinds(node: WireNode, sha256: str, **fields: Any) -> list[str]:
    """Return the kinds of the sources that a node is offered; empty if it has to wait."""
    answer = await node.ask(sha256, **fields)
    assert answer.status_code in (200, 202), answer.text
    return [source["kind"] for source in answer.json().get("sources", [])]


async def holds(node: WireNode, sha256: str, *, installed_at: str = "2026-11-20T08:00:00Z") -> None:
    """Let a node report that it has the model."""
    await node.beat(report("a:1b", 1, "ready", held=[sha256], installed_at=installed_at, bytes_done=1000))


async def pass_time(api: Api, seconds: int) -> None:
    """Let everything that moved have moved so long ago."""
    async with api.database.control.write() as session:
        await session.exec(update(FetchGrant).values(moved_at=db_now(-seconds)))


def failed(peer: WireNode, *, corrupt: bool) -> list[dict[str, Any]]:
    return [{"kind": "peer", "node_id": peer.id, "error": "wrong bytes", "corrupt": corrupt}]


async def test_one_node_of_a_site_brings_an_artifact_over_the_wan_and_the_others_read_from_it(api: Api) -> None:
    one, two, three = await tokyo(api, 3)
    far = await new_node(api, "far", tags=OSAKA)
    sha256 = await digest(api)

    assert await kinds(one, sha256) == ["hub", "pass_through"]
    waiting = await two.ask(sha256)
    assert waiting.json() == {"retry_after_s": 1, "position": 1, "reason": "Another node of the site is fetching it."}
    assert (await three.ask(sha256)).json()["position"] == 2
    assert await kinds(far, sha256) == ["hub", "pass_through"]

    await holds(one, sha256)

    assert await kinds(two, sha256) == ["peer", "hub", "pass_through"]
    assert await kinds(three, sha256) == ["peer", "hub", "pass_through"]


async def test_a_ticket_is_signed_with_the_peers_key_for_the_asker_and_the_artifact(api: Api) -> None:
    one, two = await tokyo(api, 2)
    sha256 = await digest(api)
    await holds(one, sha256)

    source = (await two.ask(sha256)).json()["sources"][0]

    assert source["url"] == f"http://127.0.0.1:8090/v0/artifacts/{sha256}"
    assert source["node_id"] == one.id
    assert check_ticket(key_of(one.name), source["ticket"], sha256=sha256) == two.id


async def test_nodes_without_a_site_neither_wait_for_each_other_nor_read_from_each_other(api: Api) -> None:
    one, two = await new_node(api, "gpu-01"), await new_node(api, "gpu-02")
    sha256 = await digest(api)
    await holds(one, sha256)
    assert await kinds(two, sha256) == ["hub", "pass_through"]


async def test_a_seed_that_stalls_is_not_waited_for_and_one_that_moves_or_verifies_is(api: Api) -> None:
    one, two, three = await tokyo(api, 3)
    sha256 = await digest(api)
    fetch = (await one.ask(sha256)).json()["fetch_id"]
    await pass_time(api, 60)
    await one.beat(report("a:1b", 1, "downloading", bytes_done=10), fetches=[fetch])
    assert await kinds(two, sha256) == []
    await pass_time(api, 60)
    await one.beat(report("a:1b", 1, "verifying", bytes_done=10), fetches=[fetch])
    assert await kinds(two, sha256) == []

    await pass_time(api, 60)
    await one.beat(report("a:1b", 1, "downloading", bytes_done=10), fetches=[fetch])

    assert await kinds(two, sha256) == ["hub", "pass_through"]
    assert await kinds(three, sha256) == []


async def test_of_two_seeds_the_later_one_gives_way(api: Api) -> None:
    one, two = await tokyo(api, 2)
    sha256 = await digest(api)
    fetch = (await one.ask(sha256)).json()["fetch_id"]
    await pass_time(api, 60)
    assert await kinds(two, sha256) == ["hub", "pass_through"]

    await one.beat(report("a:1b", 1, "downloading", bytes_done=500), fetches=[fetch])

    assert await kinds(one, sha256) == ["hub", "pass_through"]
    assert await kinds(two, sha256) == []


@pytest.mark.parametrize("api", [{"max_concurrent_downloads": 2}], indirect=True)
async def test_who_waits_for_a_seed_takes_no_place_in_the_queue(api: Api) -> None:
    nodes = await tokyo(api, 4)
    first, second = await digest(api, "a"), await digest(api, "b")
    assert await kinds(nodes[0], first)
    assert [await kinds(node, first) for node in nodes[1:3]] == [[], []]

    assert await kinds(nodes[3], second) == ["hub", "pass_through"]


async def test_while_a_split_models_seed_goes_on_with_the_next_part_no_other_fetches_the_first(api: Api) -> None:
    one, two = await tokyo(api, 2)
    first, second = await digest(api, "a"), await digest(api, "b")
    await one.ask(first)

    # It has the first part, asks for the second, and has not said so yet.
    assert await kinds(one, second) == ["hub", "pass_through"]
    assert await kinds(two, first) == []
    await one.beat(report("a:1b", 1, "downloading", held=[first]))

    assert await kinds(two, first) == ["peer", "hub", "pass_through"]


async def test_silent_and_pending_peers_and_those_that_failed_are_not_offered(api: Api) -> None:
    one, two, three = await tokyo(api, 3)
    sha256 = await digest(api)
    await holds(one, sha256)
    await holds(two, sha256)
    offered = [source.get("node_id") for source in (await three.ask(sha256)).json()["sources"]]
    assert set(offered) == {one.id, two.id, None}

    offered = (await three.ask(sha256, failed=failed(one, corrupt=False))).json()["sources"]
    assert [source.get("node_id") for source in offered] == [two.id, None, None]
    assert await kinds(three, sha256, failed=failed(one, corrupt=False) + failed(two, corrupt=False)) == ["hub", "pass_through"]


async def test_readers_are_spread_over_the_peers(api: Api) -> None:
    nodes = await tokyo(api, 5)
    sha256 = await digest(api)
    for holder in nodes[:2]:
        await holds(holder, sha256)

    first = [(await node.ask(sha256)).json()["sources"][0]["node_id"] for node in nodes[2:4]]

    assert set(first) == {nodes[0].id, nodes[1].id}


async def test_a_peer_that_lies_is_dropped_reported_and_made_to_verify_until_it_has_the_file_anew(api: Api) -> None:
    one, two, three = await tokyo(api, 3)
    sha256 = await digest(api)
    await holds(one, sha256)
    assert await kinds(two, sha256) == ["peer", "hub", "pass_through"]

    assert await kinds(two, sha256, failed=failed(one, corrupt=True)) == ["hub", "pass_through"]

    # Neither for the node that said so, nor for any other.
    assert await kinds(three, sha256, failed=failed(one, corrupt=False)) == ["hub", "pass_through"]
    (alert,) = (await api.http.get("/v0/alerts")).json()["items"]
    assert (alert["kind"], alert["subject"]["name"]) == ("node.peer_distrusted", one.name)
    assert "wrong bytes of a:1b" in alert["message"]
    assert [m["generation"] for m in (await one.manifest())["models"]] == [2]

    await one.beat(report("a:1b", 2, "ready", held=[sha256], installed_at="2026-11-20T09:00:00Z"))
    assert "peer" in await kinds(three, sha256)
    assert (await api.http.get("/v0/alerts")).json()["items"] == []


async def test_only_a_peer_that_was_offered_can_be_accused(api: Api) -> None:
    one, two = await tokyo(api, 2)
    far = await new_node(api, "far", tags=OSAKA)
    sha256 = await digest(api)
    await holds(one, sha256)

    await far.ask(sha256, failed=failed(one, corrupt=True))

    assert await kinds(two, sha256) == ["peer", "hub", "pass_through"]
    assert [m["generation"] for m in (await one.manifest())["models"]] == [1]
