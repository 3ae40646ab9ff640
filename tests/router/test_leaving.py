"""Clients that leave, at every moment: the node is freed at once and nothing stays behind."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import httpx2
import pytest

from tests.router import nodes
from tests.router.fleet import CHAT, Fleet, chat, eventually
from tests.router.nodes import Behaviour

pytestmark = pytest.mark.anyio


@contextlib.asynccontextmanager
async def asking(http: httpx2.AsyncClient, *, stream: bool) -> AsyncIterator["asyncio.Task[httpx2.Response]"]:
    """Have a request under way."""
    task = asyncio.create_task(http.post(CHAT, json=chat(stream=stream)))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("stream", [False, True])
async def test_leaving_before_the_first_byte_frees_the_node(fleet: Fleet, stream: bool) -> None:
    node = await fleet.node(nodes.hangs)
    async with fleet.router() as http:
        async with asking(http, stream=stream):
            await eventually(lambda: node.busy)
        await eventually(lambda: node.aborted)
        await fleet.reaches("muster_router_in_flight", 0)

    assert node.busy == 0
    assert [(record.status, record.node_id) for record in fleet.records] == [(499, node.id)]


@pytest.mark.parametrize("behave", [nodes.streams_until_released, nodes.streams_then_silence])
async def test_leaving_in_the_middle_of_a_stream_frees_the_node(fleet: Fleet, behave: Behaviour) -> None:
    node = await fleet.node(behave)
    async with fleet.router(keep_alive_s=0.05) as http:
        async with http.stream("POST", CHAT, json=chat(stream=True)) as answer:
            await anext(answer.aiter_raw())
            assert node.busy == 1
        await eventually(lambda: node.aborted)
        await fleet.reaches("muster_router_in_flight", 0)

    assert [record.status for record in fleet.records] == [499]


async def test_leaving_while_waiting_leaves_the_queue(fleet: Fleet) -> None:
    node = await fleet.node(nodes.hangs, slots=1)
    async with fleet.router() as http, asking(http, stream=False) as first:
        await eventually(lambda: node.busy)
        async with asking(http, stream=False):
            await fleet.reaches("muster_router_waiting", 1)
        await fleet.reaches("muster_router_waiting", 0)
        node.released.set()
        assert (await first).status_code == 200

    assert len(node.requests) == 1


async def test_a_storm_of_leaving_clients_leaves_nothing(fleet: Fleet) -> None:
    node = await fleet.node(nodes.hangs, slots=1000)
    async with fleet.router() as http:
        tasks = [asyncio.create_task(http.post(CHAT, json=chat(stream=n % 2 == 0))) for n in range(80)]
        await eventually(lambda: node.busy == 80)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await eventually(lambda: node.aborted == 80)
        await fleet.reaches("muster_router_in_flight", 0)
        node.behave = nodes.good
        answer = await http.post(CHAT, json=chat())

    assert node.busy == 0
    assert answer.status_code == 200


async def test_leaving_in_the_middle_of_the_body_sends_nothing(fleet: Fleet) -> None:
    node = await fleet.node()
    async with fleet.router() as http:
        host, port = fleet.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        head = (
            f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: {http.headers['authorization']}\r\ncontent-length: 100\r\n\r\n"
        )
        writer.write(head.encode() + b'{"model": "test:1b"')
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        answer = await http.post(CHAT, json=chat())

    assert answer.status_code == 200
    assert len(node.requests) == 1
    assert await reader.read() == b""
