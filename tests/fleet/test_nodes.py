"""Nodes: enrolment, heartbeats, states and drains, as a node and an operator see them."""

from datetime import timedelta

import pytest
from sqlmodel import col, update

from control_api.fleet.models import EnrolmentTicket, Listening, Node
from control_api.fleet.presence import Presence
from control_api.kit.clock import utcnow
from tests.fleet.reports import PlayedNode, add_host, bearer, ready, register, ticket_for
from tests.running import Api, until

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("api", ["sqlite", "postgresql"], indirect=True)]


async def test_a_ticket_makes_one_node_of_its_host(api: Api) -> None:
    host = await add_host(api, tags=["site:tokyo"])
    ticket = await ticket_for(api, host)
    made = await register(api, ticket, tags=["gpu-a"])
    assert made.status_code == 201
    assert made.json()["state"] == "registering"

    node = (await api.http.get(f"/v0/nodes/{made.json()['node_id']}")).json()
    assert (node["name"], node["host_id"], node["tags"]) == ("gpu-01", host["id"], ["gpu-a", "site:tokyo"])
    again = await register(api, ticket)
    assert (again.status_code, again.json()["error"]["code"]) == (401, "bad_ticket")


async def test_an_expired_ticket_is_refused(api: Api) -> None:
    ticket = await ticket_for(api, await add_host(api))
    async with api.database.control.write() as session:
        await session.exec(update(EnrolmentTicket).values(expires_at=utcnow() - timedelta(seconds=1)))
    assert (await register(api, ticket)).status_code == 401


async def test_a_ticket_is_for_the_host_it_was_made_for(api: Api) -> None:
    await add_host(api, "gpu-01", "10.0.0.1")
    ticket = await ticket_for(api, await add_host(api, "gpu-02", "10.0.0.2"))
    stolen = await register(api, ticket, base_url="http://10.0.0.1:8090")
    assert (stolen.status_code, stolen.json()["error"]["code"]) == (422, "base_url_not_allowed")


@pytest.mark.parametrize(
    "url", ["http://10.0.0.1@evil:80", "http://169.254.169.254/", "http://evil.example:1/10.0.0.1", "file:///x"]
)
async def test_a_node_cannot_point_the_router_elsewhere(api: Api, url: str) -> None:
    ticket = await ticket_for(api, await add_host(api))
    assert (await register(api, ticket, base_url=url)).status_code == 422


async def test_a_host_with_a_node_gives_no_second_ticket_unless_forced(api: Api) -> None:
    node = await PlayedNode.enrolled(api)
    host = (await api.http.get("/v0/hosts/gpu-01")).json()
    refused = await api.http.post(f"/v0/hosts/{host['id']}/enrolment")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "already_registered")

    answer = (await register(api, await ticket_for(api, host, force=True))).json()
    assert answer["node_id"] == node.id
    assert (await node.beat()).status_code == 401


async def test_a_token_of_no_host_makes_a_pending_node_that_an_operator_lets_in(api: Api) -> None:
    api.settings.node_networks.append("10.9.0.0/16")
    ticket = (await api.http.post("/v0/enrolments")).json()["ticket"]
    answer = (await register(api, ticket, name="laptop", base_url="http://10.9.0.1:8090")).json()
    assert answer["state"] == "pending"
    node = PlayedNode(api, answer["node_id"], answer["node_token"])
    assert (await node.beat()).json()["state"] == "pending"
    await api.http.post(f"/v0/nodes/{node.id}/approve")
    assert (await node.beat()).json()["state"] == "online"


async def test_wrong_token_and_unknown_node_are_told_apart(api: Api) -> None:
    node = await PlayedNode.enrolled(api)
    assert (await PlayedNode(api, node.id, "mn_wrong").beat()).status_code == 401
    unknown = await PlayedNode(api, "0198c0de-0000-7000-8000-000000000000", node.token).beat()
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "unknown_node")


async def test_a_node_is_online_when_its_models_are_loaded_and_not_before(api: Api) -> None:
    node = await PlayedNode.enrolled(api)
    assert (await node.beat(applied_revision=0)).json()["state"] == "registering"
    loading = {**ready("m:1"), "state": "loading"}
    assert (await node.beat(models=[loading], ready_models={"loaded": 0, "total": 1})).json()["state"] == "registering"
    assert (await node.beat(models=[ready("m:1")], ready_models={"loaded": 1, "total": 1})).json()["state"] == "online"
    grown = await node.beat(models=[ready("m:1"), {**loading, "id": "m:2"}], ready_models={"loaded": 1, "total": 2})
    assert grown.json()["state"] == "online"
    reasons = (await api.http.get(f"/v0/nodes/{node.id}/transitions")).json()
    assert [t["to_state"] for t in reasons] == ["online", "registering"]


async def test_a_failed_model_leaves_the_node_online_but_degraded(api: Api) -> None:
    node = await PlayedNode.enrolled(api)
    failed = {**ready("m:2"), "state": "failed", "error": "sha256 differs"}
    await node.beat(models=[ready("m:1"), failed], ready_models={"loaded": 1, "total": 2})
    seen = await node.seen()
    assert (seen["state"], seen["degraded"]) == ("online", True)
    assert seen["models"][1]["error"] == "sha256 differs"


async def test_an_older_heartbeat_changes_nothing(api: Api) -> None:
    node = await PlayedNode.enrolled(api)
    await node.beat(models=[ready("m:1")], ready_models={"loaded": 1, "total": 1})
    late = PlayedNode(api, node.id, node.token, node.instance_id, seq=-1)
    await late.beat(models=[], ready_models={"loaded": 0, "total": 0})
    assert [m["id"] for m in (await node.seen())["models"]] == ["m:1"]


async def test_quiet_heartbeats_reach_the_store_in_a_group(api: Api) -> None:
    node = await PlayedNode.enrolled(api)
    await node.beat()
    await node.beat(gpus=[{"index": 0, "name": "L4", "memory_used": 7}])

    async def stored() -> bool:
        return (await node.seen())["gpus"] == [
            {
                "index": 0,
                "name": "L4",
                "memory_total": 0,
                "memory_used": 7,
                "utilization": None,
                "temperature": None,
                "power_w": None,
            }
        ]

    await until(stored, what="the waiting heartbeat to be written")


async def test_an_old_token_is_replaced_and_valid_until_its_successor_was_used(api: Api) -> None:
    node = await PlayedNode.enrolled(api)
    await node.beat()
    async with api.database.control.write() as session:
        await session.exec(update(Node).values(token_issued_at=utcnow() - timedelta(days=2)))
    successor = (await node.beat()).json()["next_token"]
    assert successor
    assert (await node.beat()).status_code == 200, "the old one is valid until the new one was used"
    newest = (await node.beat()).json()["next_token"]
    following = PlayedNode(api, node.id, newest, node.instance_id, node.seq)
    assert (await following.beat()).status_code == 200
    assert (await PlayedNode(api, node.id, node.token, node.instance_id, 99).beat()).status_code == 401


async def silence(api: Api, *, listening_s: int) -> None:
    """Make every node silent for a minute while somebody listened for ``listening_s``."""
    async with api.database.control.write() as session:
        await session.exec(update(Node).values(last_heartbeat_at=utcnow() - timedelta(seconds=60)))
        since = utcnow() - timedelta(seconds=listening_s)
        await session.exec(update(Listening).where(col(Listening.id) == 1).values(since=since, fresh_at=utcnow()))


async def test_silence_takes_a_node_offline_and_a_heartbeat_brings_it_back(api: Api) -> None:
    node = await PlayedNode.enrolled(api)
    await node.beat()
    await silence(api, listening_s=60)
    await Presence(api.settings, api.database.control).sweep()
    assert (await node.seen())["state"] == "offline"
    assert (await node.beat()).json()["state"] == "online"


async def test_silence_does_not_count_while_nobody_listened(api: Api) -> None:
    node = await PlayedNode.enrolled(api)
    await node.beat()
    await silence(api, listening_s=5)
    await Presence(api.settings, api.database.control).sweep()
    assert (await node.seen())["state"] == "online"


async def test_a_gap_of_listening_starts_the_clock_anew(api: Api) -> None:
    node = await PlayedNode.enrolled(api)
    await node.beat()
    await silence(api, listening_s=3600)
    async with api.database.control.write() as session:
        await session.exec(update(Listening).values(fresh_at=utcnow() - timedelta(seconds=60)))
    await Presence(api.settings, api.database.control).sweep()
    assert (await node.seen())["state"] == "online", "the API was away: nobody is offline for that"


async def test_a_drain_is_a_hold_of_its_holder(api: Api) -> None:
    node = await PlayedNode.enrolled(api)
    await node.beat(models=[{**ready("m:1"), "in_flight": 1}], ready_models={"loaded": 1, "total": 1})
    other = (await api.http.post("/v0/api-keys", json={"name": "other", "scopes": ["operate"]})).json()["key"]
    for headers in (None, bearer(other)):
        answer = await api.http.post(f"/v0/nodes/{node.id}/drain", json={"reason": "fan", "force": True}, headers=headers)
        assert answer.json()["state"] == "draining"
    beat = await node.beat(models=[ready("m:1")], ready_models={"loaded": 1, "total": 1})
    assert (beat.json()["state"], beat.json()["admission"]) == ("drained", "drained")

    still = (await api.http.post(f"/v0/nodes/{node.id}/resume")).json()
    assert [hold["holder"] for hold in still["holds"]] == ["api_key:other"]
    assert still["admission"] == "drained"
    assert (await api.http.post(f"/v0/nodes/{node.id}/resume", headers=bearer(other))).json()["state"] == "online"


async def test_a_forgotten_node_is_refused(api: Api) -> None:
    node = await PlayedNode.enrolled(api)
    await api.http.delete(f"/v0/nodes/{node.id}")
    assert (await node.beat()).status_code == 404


async def test_reported_text_is_kept_literally(api: Api) -> None:
    node = await PlayedNode.enrolled(api)
    evil = "{{ lookup('pipe','id') }} <script>alert(1)</script>"
    await node.beat(models=[{**ready("m:1"), "state": "failed", "error": evil}], ready_models={"loaded": 0, "total": 1})
    assert (await node.seen())["models"][0]["error"] == evil
