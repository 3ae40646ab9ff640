"""Many streams at once on one router, and many clients that leave before the first byte."""

import asyncio
import contextlib
import json
from dataclasses import dataclass
from urllib.parse import urlsplit

from benchmarks import load
from benchmarks.mock_node import MODEL
from benchmarks.processes import memory_mib, open_files

INTERVAL_MS = 250
EVENTS = 20


@dataclass(frozen=True)
class StreamsResult:
    """What so many streams at once cost. ``memory_kib`` is per stream."""

    asked: int
    complete: int
    memory_kib: float


@dataclass(frozen=True)
class StormResult:
    """What clients that left have left behind."""

    left: int
    live_at_nodes: int
    sockets: int
    answers_after: bool


def _body(knobs: str) -> dict[str, object]:
    return {"model": MODEL, "messages": [{"role": "user", "content": knobs + " "}], "stream": True}


def _request(url: str, key: str, knobs: str) -> bytes:
    head, _, body = load.wire(url, key, "/v1/chat/completions", _body(knobs)).partition(b"\r\n\r\n")
    return head + b"\r\nconnection: close\r\n\r\n" + body


async def _connect(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    target = urlsplit(url)
    return await asyncio.open_connection(target.hostname, target.port)


async def _stream(url: str, key: str, after_s: float, events: int) -> bool:
    await asyncio.sleep(after_s)
    reader, writer = await _connect(url)
    try:
        writer.write(_request(url, key, f"chunks={events} interval_ms={INTERVAL_MS}"))
        answer = await reader.read()
    except OSError:
        return False
    finally:
        writer.close()
    return answer.startswith(b"HTTP/1.1 200") and answer.count(b"data:") == events + 2 and b"[DONE]" in answer[-40:]


async def live_streams(url: str, key: str, pid: int, count: int, events: int = EVENTS) -> StreamsResult:
    """Hold ``count`` streams at the same time and see whether each one comes to its end."""
    before = memory_mib([pid])
    ramp_s = min(2.0, count / 1000)
    async with asyncio.timeout(120):
        tasks = [asyncio.create_task(_stream(url, key, ramp_s * n / count, events)) for n in range(count)]
        await asyncio.sleep(ramp_s + events * INTERVAL_MS / 2000)
        used = memory_mib([pid]) - before
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    return StreamsResult(count, sum(outcome is True for outcome in outcomes), round(used * 1024 / count, 1))


async def cancel_storm(url: str, key: str, node_urls: list[str], pid: int, count: int = 1000) -> StormResult:
    """Let ``count`` clients leave while their nodes think, then look for what they left."""
    await _stream(url, key, 0, 2)
    before = open_files(pid)
    writers = []
    for _ in range(count):
        _, writer = await _connect(url)
        writer.write(_request(url, key, "delay_ms=30000"))
        writers.append(writer)
    await asyncio.sleep(1)
    for writer in writers:
        writer.transport.abort()
    live = sockets = count
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(10):
            while live or sockets > 0:
                await asyncio.sleep(0.1)
                live = sum([await _live(node) for node in node_urls])
                sockets = open_files(pid) - before
    return StormResult(count, live, max(0, sockets), await _stream(url, key, 0, 2))


async def _live(node_url: str) -> int:
    reader, writer = await _connect(node_url)
    writer.write(b"GET /live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    live = json.loads(await reader.readexactly(length))["live"]
    writer.close()
    return int(live)
