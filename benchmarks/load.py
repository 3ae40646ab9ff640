"""Closed-loop load: so many connections, each sends its next request when the last answer is complete.

Every answer is checked. Counted is only what happens between the end of the ramp and the end of the window.
"""

import asyncio
import gc
import ipaddress
import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter as now
from typing import Any, cast
from urllib.parse import urlsplit

import httptools

from benchmarks.mock_node import CHUNKS, INTERVAL_MS, MODEL

PROMPT_BYTES = 800
SCENARIOS = ("chat", "paced", "stream", "embed")


def request_of(scenario: str) -> tuple[str, dict[str, Any]]:
    """Return path and body. ``chat``: answered at once; ``paced``: after 100 ms; ``embed``: 17 kB come back."""
    if scenario == "embed":
        return "/v1/embeddings", {"model": MODEL, "input": "x" * PROMPT_BYTES}
    knobs = {"paced": "delay_ms=100 ", "stream": f"chunks={CHUNKS} interval_ms={INTERVAL_MS} "}.get(scenario, "")
    message = {"role": "user", "content": knobs.ljust(PROMPT_BYTES - 1, ".") + " "}
    more = {"stream": True} if scenario == "stream" else {}
    return "/v1/chat/completions", {"model": MODEL, "messages": [message], **more}


def wire(url: str, key: str, path: str, body: dict[str, Any]) -> bytes:
    """Return a request as bytes. Raises ``ValueError`` for a target that is not on this machine."""
    target = urlsplit(url)
    if not ipaddress.ip_address(target.hostname or "").is_loopback:
        raise ValueError(f"{url} is not a loopback address")
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: {target.netloc}\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n"
    return f"{head}accept: */*\r\ncontent-length: {len(content)}\r\n\r\n".encode() + content


@dataclass
class Load:
    """One measurement: what is sent, and what was seen. Times in seconds."""

    url: str
    scenario: str
    concurrency: int
    seconds: float
    key: str
    done: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    first_bytes: list[float] = field(default_factory=list)
    window: tuple[float, float] = (float("inf"), float("inf"))
    answered: int = 0
    stopped: bool = False

    def __post_init__(self) -> None:
        self.request = wire(self.url, self.key, *request_of(self.scenario))
        target = urlsplit(self.url)
        self.address = (target.hostname or "", target.port or 80)
        self.streaming = self.scenario == "stream"

    def note(self, begun: float, first: float, end: float) -> None:
        if self.window[0] <= end < self.window[1]:
            self.done += 1
        if self.window[0] <= begun < self.window[1]:
            self.latencies.append(end - begun)
            self.first_bytes.append(first - begun)


class Caller(asyncio.Protocol):
    """One connection; opened again when the server closes it."""

    def __init__(self, load: Load, open_again: Callable[["Caller"], None]) -> None:
        self.load = load
        self.open_again = open_again
        self.transport: asyncio.Transport | None = None
        self.busy = False
        self.warm = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.parser = httptools.HttpResponseParser(self)
        self._send()

    def connection_lost(self, _error: Exception | None) -> None:
        self.transport = None
        if self.busy:
            self.busy = False
            self.load.errors["closed in mid-answer"] += 1
        if not self.load.stopped:
            self.open_again(self)

    def _send(self) -> None:
        assert self.transport
        if self.load.stopped:
            self.transport.close()
            return
        self.busy, self.parts, self.first = True, [], 0.0
        self.begun = now()
        self.transport.write(self.load.request)

    def data_received(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.load.errors["not HTTP"] += 1
            self.busy = False
            assert self.transport
            self.transport.close()

    def on_body(self, body: bytes) -> None:
        if not self.first:
            self.first = now()
        self.parts.append(body)

    def on_message_complete(self) -> None:
        end, self.busy = now(), False
        if not self.warm:
            self.warm = True
            self.load.answered += 1
        if fault := self._fault():
            self.load.errors[fault] += 1
        else:
            self.load.note(self.begun, self.first, end)
        if self.parser.should_keep_alive() and not fault:
            self._send()
        elif self.transport:
            self.transport.close()

    def _fault(self) -> str | None:
        if (status := self.parser.get_status_code()) != 200:
            return f"status {status}"
        body = b"".join(self.parts)
        if not self.load.streaming:
            return None if body.rstrip().endswith(b"}") else "short body"
        whole = b"[DONE]" in body[-40:] and body.count(b"data:") >= CHUNKS + 1
        return None if whole else f"broken stream: {body.count(b'data:')} events"


async def drive(load: Load, sample: Callable[[], Any] = lambda: None) -> tuple[Any, Any, float]:
    """Run a load. Return a sample of its first moment, one of its last, and the seconds between."""
    ramp_s = CHUNKS * INTERVAL_MS / 1000 if load.streaming else min(0.3, 0.05 + load.concurrency / 1000)
    spread = random.Random(1)
    tasks: set[asyncio.Task[None]] = set()
    callers: list[Caller] = []

    def start(caller: Caller, after_s: float = 0.02) -> None:
        task = asyncio.ensure_future(_open(load, caller, after_s, start))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    gc.disable()
    try:
        for _ in range(load.concurrency):
            callers.append(Caller(load, start))
            start(callers[-1], spread.uniform(0, ramp_s * 0.9))
        await _until(lambda: load.answered >= load.concurrency, ramp_s + 10)
        first, began = sample(), now()
        load.window = (began, began + load.seconds)
        await asyncio.sleep(load.seconds)
        last, end = sample(), now()
        load.window = (began, end)
        load.stopped = True
        await _until(lambda: not any(caller.busy for caller in callers), 10)
        _end(load, callers)
        await asyncio.gather(*tasks)
        await asyncio.sleep(0.05)
        return first, last, end - began
    finally:
        gc.enable()


async def _open(load: Load, caller: Caller, after_s: float, again: Callable[[Caller], None]) -> None:
    await asyncio.sleep(after_s)
    try:
        await asyncio.get_running_loop().create_connection(lambda: caller, *load.address)
    except OSError as error:
        load.errors[f"connect: {error.strerror}"] += 1
        if not load.stopped:
            again(caller)


async def _until(condition: Callable[[], bool], within_s: float) -> None:
    give_up = now() + within_s
    while not condition() and now() < give_up:  # noqa: ASYNC110 - the condition spans many connections
        await asyncio.sleep(0.02)


def _end(load: Load, callers: list[Caller]) -> None:
    for caller in callers:
        if caller.busy:
            load.errors["no answer in 10 s"] += 1
            caller.busy = False
        if caller.transport:
            caller.transport.close()


def quantile(values: list[float], q: float) -> float | None:
    """Return a quantile of an unsorted list, ``None`` for an empty one."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else None
