"""Nodes die and come back under load: no request fails while another node lives, no stream is cut short in silence."""

import asyncio
import itertools

import httpx2
import pytest

from tests.router.fleet import CHAT, KEY, Fleet, bearer, chat, eventually

pytestmark = pytest.mark.anyio

CALLERS = 64
DEATHS = 3


async def test_nodes_that_die_in_turn_cost_no_request(fleet: Fleet) -> None:
    for _ in range(3):
        await fleet.node(slots=64)
    wholes: list[httpx2.Response] = []
    streams: list[httpx2.Response] = []
    over = asyncio.Event()

    async def call(http: httpx2.AsyncClient, number: int) -> None:
        for turn in itertools.count(number):
            if over.is_set():
                return
            stream = turn % 3 == 0
            (streams if stream else wholes).append(await http.post(fleet.url + CHAT, json=chat(stream=stream)))

    async with fleet.router() as _, httpx2.AsyncClient(headers=bearer(KEY), timeout=20) as http:
        async with asyncio.TaskGroup() as group:
            for number in range(CALLERS):
                group.create_task(call(http, number))
            for death in range(DEATHS):
                seen = len(wholes)
                await eventually(lambda seen=seen: len(wholes) >= seen + 3 * CALLERS)
                node = fleet.nodes[death % 3]
                await node.stop()
                seen = len(wholes)
                await eventually(lambda seen=seen: len(wholes) >= seen + 3 * CALLERS)
                asked = len(node.requests)
                await node.start()
                await eventually(lambda node=node, asked=asked: len(node.requests) > asked + CALLERS)  # back in rotation
            over.set()
        in_flight = await fleet.in_flight()

    assert {answer.status_code for answer in wholes} == {200}
    assert {answer.status_code for answer in streams} == {200}
    cut = [answer for answer in streams if not answer.text.endswith("data: [DONE]\n\n")]
    assert all('"code":"upstream_error"' in answer.text for answer in cut)
    assert in_flight == 0
