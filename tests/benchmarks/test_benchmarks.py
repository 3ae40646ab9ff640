"""The benchmark counts what it says it counts: a load on a real router over the mock node, and the sums after it."""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator

import pytest

from benchmarks.load import SCENARIOS, Load, drive, wire
from benchmarks.mock_node import Node
from benchmarks.report import Cell, Results
from benchmarks.router import KEY, FixedSource, table_of
from benchmarks.streams import cancel_storm, live_streams
from control_api.router.serve import serve
from control_api.router.settings import RouterSettings

pytestmark = pytest.mark.anyio


@contextlib.asynccontextmanager
async def routed() -> AsyncIterator[tuple[str, str]]:
    """Yield the URLs of a router and of the mock node behind it."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Node, "127.0.0.1", 0)
    node = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    serving = asyncio.create_task(
        serve(RouterSettings(shutdown_deadline_s=1), FixedSource(table_of([node])), listener=listener)
    )
    try:
        async with asyncio.timeout(10):
            while True:
                load = Load(url, "chat", 1, 0.01, KEY)
                await drive(load)
                if not load.errors:
                    break
        yield url, node
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        server.close()


@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_every_scenario_is_answered_without_an_error(scenario: str) -> None:
    async with routed() as (url, _):
        load = Load(url, scenario, 2, 1.5 if scenario == "stream" else 0.3, KEY)
        _, _, window_s = await drive(load)

    assert load.errors == {}
    assert len(load.latencies) == len(load.first_bytes) > 0
    assert window_s >= 0.3


async def test_a_refusal_is_an_error() -> None:
    async with routed() as (url, _):
        load = Load(url, "chat", 1, 0.05, "mk_wrong")
        await drive(load)

    assert load.done == 0
    assert load.errors["status 401"] > 0


async def test_streams_and_storms_are_counted() -> None:
    async with routed() as (url, node):
        streams = await live_streams(url, KEY, os.getpid(), count=3, events=3)
        storm = await cancel_storm(url, KEY, [node], os.getpid(), count=3)

    assert (streams.asked, streams.complete) == (3, 3)
    assert (storm.live_at_nodes, storm.answers_after) == (0, True)


def test_only_this_machine_is_loaded() -> None:
    with pytest.raises(ValueError, match="loopback"):
        wire("http://192.0.2.1:80", KEY, "/", {})


def test_what_is_relative_is_taken_within_a_round() -> None:
    def cell(round_: int, target: str, first: float, cpu_ms: float | None) -> Cell:
        scenario = "chat" if cpu_ms else "stream"
        return Cell(round_, target, scenario, 64, 100.0, 0, first, first, first, first, cpu_ms, 1.0)

    streams = [cell(0, "direct", 1, None), cell(0, "muster", 3, None), cell(1, "direct", 10, None), cell(1, "muster", 12, None)]
    chats = [cell(0, "muster", 1, 0.1), cell(0, "litellm", 1, 10.0), cell(0, "asgi-aiohttp", 1, 0.2)]
    results = Results(streams + chats)

    assert results.summary(2000) == {
        "rps_per_cpu_vs_litellm": 100.0,
        "rps_vs_forwarder": 2.0,
        "ttfb_added_ms_p50": 2.0,
        "ttfb_added_ms_p99": 2.0,
        "live_streams_ok": 2000,
        "engine_throughput_ratio": None,
    }
    assert "| muster |" in results.table()
