"""The queue in front of the nodes: bounded, first come first served, truthful."""

import asyncio

import pytest

from tests.router import nodes
from tests.router.fleet import CHAT, KEY, Fleet, bearer, chat, eventually

pytestmark = pytest.mark.anyio


async def test_callers_wait_for_a_slot_in_order_of_arrival(fleet: Fleet) -> None:
    node = await fleet.node(nodes.hangs, slots=1)
    async with fleet.router() as http:
        tasks = []
        for number in range(5):
            tasks.append(asyncio.create_task(http.post(CHAT, json=chat(number=number))))
            await eventually(lambda: node.requests)
            await fleet.reaches("muster_router_waiting", number)
        node.released.set()
        answers = await asyncio.gather(*tasks)

    assert [exchange.body["number"] for exchange in node.requests] == [0, 1, 2, 3, 4]
    assert [answer.status_code for answer in answers] == [200] * 5
    assert answers[0].headers["x-muster-queue-ms"] == "0"
    assert int(answers[4].headers["x-muster-queue-ms"]) > 0


async def test_a_full_queue_refuses_and_an_old_one_gives_up(fleet: Fleet) -> None:
    node = await fleet.node(nodes.hangs, slots=1)
    async with fleet.router(queue_size=1, queue_deadline_s=0.5) as http:
        first = asyncio.create_task(http.post(CHAT, json=chat()))
        await eventually(lambda: node.busy)
        second = asyncio.create_task(http.post(CHAT, json=chat()))
        await fleet.reaches("muster_router_waiting", 1)
        third = await http.post(CHAT, json=chat())
        late = await second
        node.released.set()
        answered = await first

    assert answered.status_code == 200
    assert (third.status_code, third.json()["error"]["code"]) == (429, "queue_full")
    assert third.json()["error"]["type"] == "rate_limit_error"
    assert (late.status_code, late.json()["error"]["code"]) == (503, "queue_timeout")
    assert int(late.headers["x-muster-queue-ms"]) >= 500
    assert int(third.headers["retry-after"]) >= 1
    assert int(late.headers["retry-after"]) >= 1
    assert len(node.requests) == 1


async def test_nodes_that_stay_busy_end_in_a_timeout(fleet: Fleet) -> None:
    """A caller that nodes send back again and again keeps its first deadline."""
    node = await fleet.node(nodes.says(503, "node_busy"))
    async with fleet.router(queue_deadline_s=0.6) as http:
        answer = await http.post(CHAT, json=chat())

    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "queue_timeout")
    assert len(node.requests) >= 2


async def test_a_queue_of_one_model_does_not_hold_up_another(fleet: Fleet) -> None:
    busy = await fleet.node(nodes.hangs, slots=1)
    await fleet.node(model="other:1b")
    async with fleet.router() as http:
        tasks = [asyncio.create_task(http.post(CHAT, json=chat())) for _ in range(3)]
        await fleet.reaches("muster_router_waiting", 2)
        other = await http.post(CHAT, json=chat(model="other:1b"))
        busy.released.set()
        answers = await asyncio.gather(*tasks)

    assert other.status_code == 200
    assert {answer.status_code for answer in answers} == {200}


async def test_a_node_that_joins_takes_from_the_queue(fleet: Fleet) -> None:
    busy = await fleet.node(nodes.hangs, slots=1)
    async with fleet.router() as http:
        first = asyncio.create_task(http.post(CHAT, json=chat()))
        await eventually(lambda: busy.busy)
        second = asyncio.create_task(http.post(CHAT, json=chat()))
        await fleet.reaches("muster_router_waiting", 1)
        joined = await fleet.node()
        answer = await second
        busy.released.set()
        await first

    assert answer.headers["x-muster-node"] == joined.id


async def test_a_stream_holds_its_slot_to_the_last_byte(fleet: Fleet) -> None:
    node = await fleet.node(nodes.streams_until_released, slots=1)
    async with fleet.router() as http, http.stream("POST", CHAT, json=chat(stream=True)) as answer:
        pieces = answer.aiter_raw()
        await anext(pieces)
        waiting = asyncio.create_task(http.post(CHAT, json=chat(stream=True)))
        await fleet.reaches("muster_router_waiting", 1)
        assert await fleet.in_flight() == 1
        node.released.set()
        assert b"[DONE]" in b"".join([piece async for piece in pieces])
        assert (await waiting).status_code == 200


async def test_callers_take_turns(fleet: Fleet) -> None:
    """One key with many requests in the queue does not hold up another that comes later."""
    node = await fleet.node(nodes.hangs, slots=1)
    fleet.add_key("mk_second", "inference")
    async with fleet.router() as http:
        tasks = [asyncio.create_task(http.post(CHAT, json=chat(number="first")))]
        await eventually(lambda: node.busy)
        for waiting, (key, number) in enumerate([(KEY, "a1"), (KEY, "a2"), (KEY, "a3"), ("mk_second", "b1")], start=1):
            tasks.append(asyncio.create_task(http.post(CHAT, json=chat(number=number), headers=bearer(key))))
            await fleet.reaches("muster_router_waiting", waiting)
        node.released.set()
        answers = await asyncio.gather(*tasks)

    assert [exchange.body["number"] for exchange in node.requests] == ["first", "a1", "b1", "a2", "a3"]
    assert [answer.headers.get("x-muster-queue-position") for answer in answers] == [None, "1", "2", "3", "2"]


async def test_who_is_sent_away_is_told_when_to_come_back(fleet: Fleet) -> None:
    node = await fleet.node(nodes.hangs, slots=1)
    async with fleet.router(queue_size=1) as http:
        tasks = [asyncio.create_task(http.post(CHAT, json=chat()))]
        await eventually(lambda: node.busy)
        tasks.append(asyncio.create_task(http.post(CHAT, json=chat())))
        await fleet.reaches("muster_router_waiting", 1)
        refused = await http.post(CHAT, json=chat())
        node.released.set()
        await asyncio.gather(*tasks)

    assert refused.status_code == 429
    assert int(refused.headers["retry-after-ms"]) <= 1000 * int(refused.headers["retry-after"])
