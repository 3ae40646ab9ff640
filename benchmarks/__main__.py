"""Measures the router beside its peers: ``python -m benchmarks``. The last line is one JSON object."""

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import uvloop

from benchmarks.load import Load, drive, quantile
from benchmarks.peers import KEY, PEERS, Command
from benchmarks.processes import Process, cpu_s, memory_mib, tree
from benchmarks.report import DIRECT, OURS, Cell, Results
from benchmarks.streams import cancel_storm, live_streams
from tests.ports import free_port

CALLERS = {"chat": (1, 16, 64, 256), "paced": (64,), "stream": (64,), "embed": (64,)}
TARGET_CPU, LOAD_CPU = 0, (os.cpu_count() or 1) - 1
START_LIMIT_S = 90
ENGINE_LIMIT_S = 600


@dataclass
class Target:
    """Something that answers under a URL."""

    name: str
    url: str
    key: str
    process: Process | None = None

    @property
    def pids(self) -> list[int]:
        return tree(self.process.pid) if self.process else []

    async def why_not_ready(self) -> str | None:
        """Wait for a good answer; return why there is none."""
        give_up, probe = time.monotonic() + START_LIMIT_S, None
        while time.monotonic() < give_up:
            if self.process and (why := self.process.ended()):
                return why
            probe = Load(self.url, "chat", 1, 0.1, self.key)
            await drive(probe)
            if probe.done and not probe.errors:
                return None
            await asyncio.sleep(0.3)
        return f"no good answer in {START_LIMIT_S} s: {probe and dict(probe.errors)}"


async def measure(target: Target, round_: int, scenario: str, callers: int, seconds: float) -> Cell:
    """Put one load on one target."""
    load, pids = Load(target.url, scenario, callers, seconds, target.key), target.pids
    first, last, window_s = await drive(load, lambda: cpu_s(pids))
    used_ms = (last - first) * 1000

    def ms(values: list[float], q: float) -> float | None:
        found = quantile(values, q)
        return None if found is None else found * 1000

    times = [ms(values, q) for values in (load.latencies, load.first_bytes) for q in (0.5, 0.99)]
    cpu_ms = used_ms / load.done if pids and load.done else None
    return Cell(
        round_,
        target.name,
        scenario,
        callers,
        load.done / window_s,
        sum(load.errors.values()),
        *times,
        cpu_ms,
        memory_mib(pids),
    )


class Bench:
    """One run."""

    def __init__(self, options: argparse.Namespace, stack: ExitStack) -> None:
        self._options = options
        self._stack = stack
        self._folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="muster-bench-")))
        ports = [free_port(), free_port()]
        self.nodes = [f"http://127.0.0.1:{port}" for port in ports]
        self._start([sys.executable, "-m", "benchmarks.mock_node", *map(str, ports)], "mock", LOAD_CPU)
        self.targets = [Target(DIRECT, self.nodes[0], KEY)]

    async def start(self) -> None:
        """Start all targets; those that are not installed or do not answer are left out."""
        if why := await self.targets[0].why_not_ready():
            sys.exit(f"The mock node does not answer: {why}")
        for name in self._options.targets.split(","):
            if target := await self._target(name):
                self.targets.append(target)

    async def rounds(self) -> list[Cell]:
        """Measure each target in turn, in an order that changes."""
        options = self._options
        callers = [int(count) for count in options.callers.split(",")] if options.callers else None
        todo = [(name, count) for name in options.scenarios.split(",") for count in callers or CALLERS[name]]
        cells = []
        for round_ in range(options.rounds):
            for step, (scenario, count) in enumerate(todo):
                shift = (round_ + step) % len(self.targets)
                for target in self.targets[shift:] + self.targets[:shift]:
                    cells.append(await measure(target, round_, scenario, count, options.seconds))
                line = ", ".join(f"{cell.target} {cell.rps:.0f}" for cell in cells[-len(self.targets) :])
                say(f"round {round_ + 1}/{options.rounds} {scenario} {count}: {line}")
        return cells

    async def streams(self) -> int:
        """Hold more and more streams on the router; return the largest number that all came to their end."""
        ours = next((target for target in self.targets if target.name == OURS), None)
        if ours is None or ours.process is None:
            return 0
        best = 0
        for count in map(int, self._options.streams.split(",")):
            result = await live_streams(ours.url, ours.key, ours.process.pid, count)
            say(f"live streams: {result}")
            best = count if result.complete == count else best
        say(f"cancel storm: {await cancel_storm(ours.url, ours.key, self.nodes, ours.process.pid)}")
        return best

    async def _target(self, name: str) -> Target | None:
        port, folder = free_port(), self._folder / name
        folder.mkdir()
        command: Command = PEERS[name](port, folder, self.nodes)
        if not command.is_installed():
            say(f"{name}: left out, not installed")
            return None
        process = self._start(command.argv, name, TARGET_CPU, command.env)
        target = Target(name, f"http://127.0.0.1:{port}", command.key, process)
        if why := await target.why_not_ready():
            say(f"{name}: left out, {why}")
            return None
        return target

    def _start(self, argv: list[str], name: str, cpu: int, env: dict[str, str] | None = None) -> Process:
        process = Process(argv, cpus=str(cpu), folder=self._folder / name, env=env)
        self._stack.callback(process.stop)
        return process


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


async def main(options: argparse.Namespace) -> None:
    os.sched_setaffinity(0, {LOAD_CPU})
    with ExitStack() as stack:
        async with asyncio.timeout(options.limit_s):
            bench = Bench(options, stack)
            await bench.start()
            results = Results(await bench.rounds())
            live = await bench.streams() if options.streams else 0
    ratio = await engine_ratio(options.engine_rounds) if options.engine_rounds else None
    print(results.table())
    print(json.dumps(results.summary(live, ratio)))


async def engine_ratio(rounds: int) -> float | None:
    """Return the throughput through router and node over that of the bare engine, from ``benchmarks.engine``, on all CPUs."""
    os.sched_setaffinity(0, range(os.cpu_count() or 1))
    argv = [sys.executable, "-m", "benchmarks.engine", "--rounds", str(rounds)]
    process = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
    try:
        async with asyncio.timeout(ENGINE_LIMIT_S):
            printed, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    for line in printed.decode().splitlines():
        say(f"engine: {line}")
    return json.loads(printed.splitlines()[-1])["engine_throughput_ratio"] if process.returncode == 0 else None


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--targets", default=",".join(PEERS), help="some of: %(default)s")
    parser.add_argument("--scenarios", default=",".join(CALLERS), help="some of: %(default)s")
    parser.add_argument("--callers", default="", help="instead of each scenario's own, such as 1,64")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.5, help="length of one window")
    parser.add_argument("--streams", default="100,1000,2000", help="live streams to hold; empty: none")
    parser.add_argument("--engine-rounds", type=int, default=5, help="of streams from a real engine; 0: none")
    parser.add_argument("--limit-s", type=float, default=1200, help="the whole run may take no longer")
    return parser.parse_args()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    uvloop.run(main(arguments()))
