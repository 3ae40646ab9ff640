"""Long runs that look for failures, not for speed: ``python -m benchmarks.soak dying|idle``. The last line is one JSON object.

``dying``: one of three nodes is killed every few seconds while callers ask, half of them for streams.
``idle``: thousands of connections that send nothing, half a head, or a body that stops, while one caller asks.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import resource
import sys
import tempfile
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import uvloop

from benchmarks import load, router
from benchmarks.mock_node import MODEL
from benchmarks.processes import Process, memory_mib, open_files
from tests.ports import free_port

CPUS = "0-1023"
END = b"data: [DONE]\n\n"
ERROR = b'"code":"upstream_error"'
DYING_BODY = {"model": MODEL, "messages": [{"role": "user", "content": "chunks=20 interval_ms=20 "}]}
HALVES = (b"", b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n")


class Rig:
    """A router with mock nodes, each a process that can be killed and started again."""

    def __init__(self, stack: ExitStack, nodes: int) -> None:
        self._folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="muster-soak-")))
        self._ports = [free_port() for _ in range(nodes)]
        self._nodes: dict[int, Process] = {}
        stack.callback(lambda: [node.stop() for node in self._nodes.values()])
        for number in range(nodes):
            self.start(number)
        port = free_port()
        urls = ",".join(f"http://127.0.0.1:{node}" for node in self._ports)
        argv = [sys.executable, "-m", "benchmarks.router", str(port), urls, str(self._folder)]
        self.router = Process(argv, cpus=CPUS, folder=self._folder / "router")
        stack.callback(self.router.stop)
        self.url = f"http://127.0.0.1:{port}"

    def start(self, number: int) -> None:
        argv = [sys.executable, "-m", "benchmarks.mock_node", str(self._ports[number])]
        self._nodes[number] = Process(argv, cpus=CPUS, folder=self._folder / f"node-{number}")

    def kill(self, number: int) -> None:
        self._nodes[number].kill()

    async def answers(self) -> None:
        """Wait until the router does."""
        async with asyncio.timeout(60):
            while not (await ask(self.url, {**DYING_BODY, "stream": False})).startswith(b"HTTP/1.1 200"):
                if why := self.router.ended():
                    sys.exit(f"The router {why}")
                await asyncio.sleep(0.2)


async def ask(url: str, body: dict[str, object]) -> bytes:
    """Send one request on a connection of its own and return all that comes back."""
    head, _, content = load.wire(url, router.KEY, "/v1/chat/completions", body).partition(b"\r\n\r\n")
    target = urlsplit(url)
    try:
        reader, writer = await asyncio.open_connection(target.hostname, target.port)
    except OSError:
        return b""
    try:
        writer.write(head + b"\r\nconnection: close\r\n\r\n" + content)
        return await reader.read()
    except OSError:
        return b""
    finally:
        writer.close()


def kind_of(answer: bytes, *, stream: bool) -> str:
    """Tell what an answer is: ``good`` or ``failed``; a stream may also be ``told`` by an error frame or ``cut``."""
    if not answer.startswith(b"HTTP/1.1 200"):
        return "failed"
    if not stream:
        head, _, body = answer.partition(b"\r\n\r\n")
        return "good" if f"content-length: {len(body)}\r\n".encode() in head + b"\r\n" else "failed"
    if END in answer[-64:]:
        return "good"
    return "told" if ERROR in answer else "cut"


async def dying(rig: Rig, seconds: float, callers: int, every_s: float) -> dict[str, object]:
    """Kill one node after the other under load."""
    seen: Counter[str] = Counter()
    over, loop = asyncio.Event(), asyncio.get_running_loop()

    async def call(number: int) -> None:
        for turn in itertools.count(number):
            if over.is_set():
                return
            stream = turn % 2 == 0
            answer = await ask(rig.url, {**DYING_BODY, "stream": stream})
            seen[f"{'streams' if stream else 'requests'}_{kind_of(answer, stream=stream)}"] += 1

    end, deaths, before_mib = loop.time() + seconds, 0, memory_mib([rig.router.pid])
    async with asyncio.TaskGroup() as group:
        for number in range(callers):
            group.create_task(call(number))
        while loop.time() < end:
            number = deaths % 3
            rig.kill(number)
            deaths += 1
            await asyncio.sleep(every_s / 2)
            rig.start(number)
            await asyncio.sleep(every_s / 2)
        over.set()
    kinds = ("requests_good", "requests_failed", "streams_good", "streams_told", "streams_cut", "streams_failed")
    growth = round(memory_mib([rig.router.pid]) - before_mib, 1)
    return {**{kind: seen[kind] for kind in kinds}, "deaths": deaths, "memory_growth_mib": growth}


async def idle(rig: Rig, connections: int, seconds: float) -> dict[str, object]:
    """Hold connections that never finish a request, and see whether others are answered."""
    target, held, answered, asked = urlsplit(rig.url), [], 0, 0
    before_mib, before_files = memory_mib([rig.router.pid]), open_files(rig.router.pid)
    for number in range(connections):
        reader, writer = await asyncio.open_connection(target.hostname, target.port)
        writer.write(HALVES[number % 2])
        held.append((reader, writer))
    used_mib, end = memory_mib([rig.router.pid]) - before_mib, asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < end:
        asked += 1
        answered += kind_of(await ask(rig.url, {**DYING_BODY, "stream": False}), stream=False) == "good"
    for _, writer in held:
        writer.close()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(30):
            while open_files(rig.router.pid) > before_files + 2:  # noqa: ASYNC110 - of another process
                await asyncio.sleep(0.1)
    return {
        "connections": connections,
        "asked": asked,
        "answered": answered,
        "kib_per_connection": round(used_mib * 1024 / connections, 1),
        "sockets_left": max(0, open_files(rig.router.pid) - before_files),
    }


async def main(options: argparse.Namespace) -> None:
    with ExitStack() as stack:
        rig = Rig(stack, nodes=3)
        await rig.answers()
        if options.what == "dying":
            result = await dying(rig, options.seconds, options.callers, options.every_s)
        else:
            result = await idle(rig, options.connections, min(options.seconds, 10))
    print(json.dumps(result))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("dying", "idle"))
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--callers", type=int, default=64)
    parser.add_argument("--every-s", type=float, default=5, help="one node dies so often")
    parser.add_argument("--connections", type=int, default=10_000, help="needs `ulimit -n` of twice as many and some")
    return parser.parse_args()


if __name__ == "__main__":
    given = arguments()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if given.what == "idle" and hard < given.connections + 200:
        sys.exit(f"This process may open {hard} files: raise `ulimit -n`, or ask for fewer --connections.")
    uvloop.run(main(given))
