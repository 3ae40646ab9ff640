"""Streams through router and node beside the same engine asked directly: ``python -m benchmarks.engine [--model FILE.gguf]``.

A node runs llama.cpp's server as an engine of kind `command`, so that one and the same process can be asked both ways. Rounds
of concurrent streamed chats alternate; each counts the tokens that the engine says it made, over the time to the last byte.
Then clients leave in the middle of a stream, and the engine is asked when it has noticed.
Without a file: a tiny model made here. The last line is one JSON object.
"""

import argparse
import asyncio
import hashlib
import json
import re
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

from benchmarks.mock_node import MODEL
from benchmarks.processes import Process, tree
from benchmarks.router import KEY
from tests.node_service.control_plane import ControlPlane, model
from tests.node_service.process import NodeProcess, node_settings
from tests.ports import free_port
from tests.processes import wait_for
from tests.tiny_gguf import TinyModel, write_tiny_gguf

_CPUS = "0-1023"
_CONTEXT = 1024
_LIMIT_S = 600
_LEAVERS = 20
_MADE = re.compile(rb'"completion_tokens": ?(\d+)')


@dataclass(frozen=True)
class Way:
    """A way to the engine."""

    url: str
    key: str


@contextmanager
def running_node(folder: Path, file: Path, streams: int, threads: int) -> Iterator[NodeProcess]:
    """Run a node that has one model ready in an engine that can be asked directly, too."""
    control = ControlPlane().start()
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    artifact = {"name": file.name, "size": file.stat().st_size, "sha256": digest}
    described = model(MODEL, artifact, context=_CONTEXT, slots=streams)
    server = [sys.executable, "-m", "tests.node_service.llama_server", "--model", "{model_path}", "--port", "{port}"]
    server += ["--ctx-size", "{total_context}", "--parallel", "{slots}", "--threads", str(threads), "--alias", "{model_id}"]
    _put(folder / "models", file, digest)
    (folder / "ticket").write_text("ticket-1")
    own = {"require_gpu": False, "allow_cpu": True, "engine": "direct", "log_level": "warning"}
    own |= {"engines": {"direct": {"kind": "command", "device": "cpu", "argv": server}}}
    settings = node_settings(folder, name="bench", api_url=control.url, **own)
    control.assign(described)
    node = NodeProcess(folder, settings).start()
    try:
        wait_for(lambda: control.state(MODEL) == "ready", "the model ready", _LIMIT_S)
        yield node
    finally:
        node.terminate()
        node.wait()
        control.stop()


def _put(store: Path, file: Path, digest: str) -> None:
    """Lay a model into a node's store, as if it had been fetched."""
    directory = store / "artifacts" / digest
    directory.mkdir(parents=True)
    (directory / file.name).symlink_to(file.resolve())
    about = {"sha256": digest, "name": file.name, "size": file.stat().st_size, "model_id": MODEL}
    (directory / ".about.json").write_text(json.dumps(about | {"installed_at": "2026-01-01T00:00:00+00:00"}))


def engine_way(node: NodeProcess) -> Way:
    """Return where the node's engine answers by itself: its port is in its arguments."""
    assert node.process is not None
    for pid in tree(node.process.pid):
        arguments = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        if "--port" in arguments:
            return Way(f"http://127.0.0.1:{arguments[arguments.index('--port') + 1]}", "none")
    raise SystemExit("the engine was not found")


async def tokens_per_s(way: Way, streams: int, tokens: int) -> float:
    """Return the tokens per second of streams that run at the same time."""
    async with httpx2.AsyncClient(base_url=way.url, headers=_bearer(way), timeout=_LIMIT_S, trust_env=False) as http:
        began = time.perf_counter()
        made = await asyncio.gather(*(_stream(http, n, tokens) for n in range(streams)))
        return sum(made) / (time.perf_counter() - began)


async def _stream(http: httpx2.AsyncClient, number: int, tokens: int) -> int:
    messages = [{"role": "user", "content": f"Tell story number {number}."}]
    body = {"model": MODEL, "messages": messages, "max_tokens": tokens, "stream": True, "ignore_eos": True}
    end = b""
    async with http.stream("POST", "/v1/chat/completions", json=body | {"stream_options": {"include_usage": True}}) as answer:
        answer.raise_for_status()
        async for chunk in answer.aiter_raw():
            end = (end + chunk)[-4096:]
    found = _MADE.search(end)
    if found is None or b"[DONE]" not in end:
        raise SystemExit(f"a stream broke off: {end[-200:]!r}")
    return int(found[1])


async def slot_free_s(router: Way, engine: Way) -> float:
    """Return how long the engine goes on after a client of the router has left in the middle of a stream."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Tell a story."}], "max_tokens": _CONTEXT // 2}
    body |= {"stream": True, "ignore_eos": True}
    async with httpx2.AsyncClient(timeout=_LIMIT_S, trust_env=False) as asking, httpx2.AsyncClient(trust_env=False) as http:
        async with asking.stream("POST", f"{router.url}/v1/chat/completions", json=body, headers=_bearer(router)) as answer:
            async for chunk in answer.aiter_raw():
                if await _is_busy(http, engine):
                    break
                if b"[DONE]" in chunk:
                    raise SystemExit("the stream was over before its client left")
        left_at = time.perf_counter()
        async with asyncio.timeout(_LIMIT_S):
            while await _is_busy(http, engine):
                pass
        return time.perf_counter() - left_at


async def _is_busy(http: httpx2.AsyncClient, engine: Way) -> bool:
    slots = (await http.get(f"{engine.url}/slots", headers=_bearer(engine))).json()
    return any(slot["is_processing"] for slot in slots)


def _bearer(way: Way) -> dict[str, str]:
    return {"authorization": f"Bearer {way.key}"}


async def measure(ways: dict[str, Way], rounds: int, streams: int, tokens: int) -> dict[str, list[float]]:
    """Return the rates of each way, round by round; the order changes, so that what the machine does else hits all."""
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        await tokens_per_s(way, streams, tokens)  # warms up
    for number in range(rounds):
        names = list(ways) if number % 2 else list(reversed(ways))
        for name in names:
            rates[name].append(await tokens_per_s(ways[name], streams, tokens))
        print(number + 1, *(f"{name} {rates[name][-1]:.0f} tokens/s" for name in ways), sep="  ", flush=True)
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine", description=__doc__)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--threads", type=int, default=1, help="of the engine")
    options = parser.parse_args()
    # So that what was started here is ended when this is told to stop.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="muster-bench-") as name:
        folder = Path(name)
        file = options.model or write_tiny_gguf(folder / "tiny.gguf", TinyModel(mode="random", layers=300, embedding=32))
        with running_node(folder, file, options.streams, options.threads) as node:
            port = free_port()
            argv = [sys.executable, "-m", "benchmarks.router", str(port), node.url, str(folder / "router")]
            router = Process(argv, cpus=_CPUS, folder=folder / "router", env={"BENCH_NODE_KEY": node.key})
            try:
                router_way = Way(f"http://127.0.0.1:{port}", KEY)
                wait_for(lambda: _answers(router_way), "the router answers")
                ways = {"engine": engine_way(node), "node": Way(node.url, node.key), "router": router_way}
                rates = asyncio.run(measure(ways, options.rounds, options.streams, options.tokens))
                free_s = [asyncio.run(slot_free_s(ways["router"], ways["engine"])) for _ in range(_LEAVERS)]
            finally:
                router.stop()
    report(rates, free_s)


def _answers(way: Way) -> bool:
    try:
        return httpx2.get(f"{way.url}/v1/models", headers=_bearer(way), timeout=2).is_success
    except httpx2.TransportError:
        return False


def report(rates: dict[str, list[float]], free_s: list[float]) -> None:
    """Print the medians, of each round's ratios the median, and how soon slots were free."""

    def ratio(way: str) -> float:
        return round(statistics.median(a / b for a, b in zip(rates[way], rates["engine"], strict=True)), 3)

    medians = {f"{way}_tokens_per_s": round(statistics.median(found), 1) for way, found in rates.items()}
    free = {"slot_free_ms_p50": round(statistics.median(free_s) * 1000, 1), "slot_free_ms_max": round(max(free_s) * 1000, 1)}
    print(json.dumps({"engine_throughput_ratio": ratio("router"), "node_throughput_ratio": ratio("node"), **free, **medians}))


if __name__ == "__main__":
    main()
