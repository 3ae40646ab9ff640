"""Measures how weights travel: ``python -m benchmarks.download``. The last line is one JSON object.

Everything runs on this machine: a hub that the kernel sends from, the node's own way of fetching, and for copies and memory a
control API with real node services. Files are sparse and full of zeros; what is received really takes its place on the disk.
"""

import argparse
import asyncio
import json
import logging
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import httpx2
import structlog

from benchmarks.download_site import peak_rss_mb, site, until
from benchmarks.file_hub import COMMIT, REPO
from tests.node_service.control_plane import ControlPlane, model
from tests.node_service.installing import Place, Weights

GB = 10**9


def write_zeros(path: Path, size: int) -> None:
    """Write a sparse file that can be registered as a model."""
    with path.open("wb") as file:
        file.write(b"GGUF")
        file.truncate(size)


@contextmanager
def file_hub(folder: Path, size: int):
    """Yield the URL of a hub with a file of zeros, and the model that it is."""
    path = folder / "zeros.gguf"
    write_zeros(path, size)
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.file_hub", str(path)], stdout=subprocess.PIPE, text=True)
    try:
        said = json.loads(process.stdout.readline())
        spec = model("bench:zeros", {"name": path.name, "size": size, "sha256": said["sha256"]})
        yield f"http://127.0.0.1:{said['port']}", Weights(path, spec)
    finally:
        process.terminate()
        process.wait(10)
        path.unlink()


def seconds_of(*commands: list[str]) -> float:
    """Run commands, each reading what the one before it writes, and return how long that took."""
    started = time.monotonic()
    running: list[subprocess.Popen[bytes]] = []
    for command in commands:
        source = running[-1].stdout if running else None
        running.append(subprocess.Popen(command, stdin=source, stdout=subprocess.PIPE))
        if source:
            source.close()
    running[-1].communicate()
    if any(process.wait() for process in running):
        sys.exit(f"{commands} failed")
    return time.monotonic() - started


def by_curl(url: str, target: Path) -> tuple[float, float, float]:
    """Fetch with curl, then hash with sha256sum; then do both at once; return the seconds of each."""
    curl, file = ["curl", "-sSf", f"{url}/{REPO}/resolve/{COMMIT}/zeros.gguf"], str(target)
    took = seconds_of([*curl, "-o", file]), seconds_of(["sha256sum", file])
    target.unlink()
    piped_s = seconds_of(curl, ["tee", file], ["sha256sum"])
    target.unlink()
    return *took, piped_s


async def by_node(place: Place, weights: Weights) -> float:
    """Fetch, verify and install as the node does; return the seconds."""
    started = time.monotonic()
    await place.provide(weights)
    return time.monotonic() - started


def new_place(folder: Path, control: ControlPlane, url: str) -> Place:
    """Return an empty place."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return Place(folder, control.url, url, control.node_id, stall_s=30)


async def throughput(folder: Path, size: int, rounds: int) -> dict[str, Any]:
    """Fetch the same file by curl and by the node, in turn; a first round of each warms up."""
    control = ControlPlane().start()
    ratios, piped, plain, rates = [], [], [], []
    with file_hub(folder, size) as (url, weights):
        control.offer_hub(weights.spec, REPO)
        for number in range(rounds + 1):
            fetched_s, hashed_s, piped_s = by_curl(url, folder / "curl")
            node_s = await by_node(new_place(folder / "node", control, url), weights)
            said = f"curl {fetched_s:.2f} s, sha256sum {hashed_s:.2f} s, both at once {piped_s:.2f} s, node {node_s:.2f} s"
            print(f"round {number}: {said}", flush=True)
            if number:
                ratios.append((fetched_s + hashed_s) / node_s)
                piped.append(piped_s / node_s)
                plain.append(fetched_s / node_s)
                rates.append(size / node_s / 1e6)
    control.stop()
    shutil.rmtree(folder / "node")
    return {
        "throughput_vs_curl": round(median(ratios), 2),
        "throughput_vs_curl_piped": round(median(piped), 2),
        "throughput_vs_curl_without_sha256": round(median(plain), 2),
        "throughput_mb_s": round(median(rates)),
    }


async def resume(folder: Path, size: int) -> dict[str, Any]:
    """Go on at 95 % of a file; return the seconds until the next byte was on the disk, and until it was installed."""
    control = ControlPlane().start()
    with file_hub(folder, size) as (url, weights):
        control.offer_hub(weights.spec, REPO)
        place = new_place(folder / "node", control, url)
        place.store.create()
        kept = size * 95 // 100
        write_zeros(place.store.part(weights.sha256), kept)
        started = time.monotonic()
        going = asyncio.create_task(place.provide(weights))

        async def moved() -> bool:
            return going.done() or place.part_size(weights) > kept

        await until(moved, "a new byte", every_s=0.005)
        first_s = time.monotonic() - started
        await going
        whole_s = time.monotonic() - started
    control.stop()
    shutil.rmtree(folder / "node")
    return {"resume_s": round(first_s, 2), "resume_installed_s": round(whole_s, 2)}


async def wan_copies(folder: Path, size: int, counts: list[int]) -> dict[str, float]:
    """Order one file onto so many nodes of one site; return how often the hub sent it."""
    copies = {}
    for count in counts:
        with file_hub(folder, size) as (url, _):
            async with site(folder / f"site-{count}", url) as running, httpx2.AsyncClient() as http:
                for _ in range(count):
                    await running.add_node()
                await running.online()
                before = (await http.get(f"{url}/sent")).json()["sent_bytes"]
                took_s = await running.distribute()
                sent = (await http.get(f"{url}/sent")).json()["sent_bytes"] - before
            copies[str(count)] = round(sent / size, 2)
            print(f"{count} nodes: {sent / 1e6:.0f} MB over the WAN, {took_s:.1f} s", flush=True)
        shutil.rmtree(folder / f"site-{count}")
    return copies


async def memory(folder: Path, size: int) -> dict[str, float]:
    """Move a large file through the pass-through into a node; return the peak memory of both."""
    with file_hub(folder, size) as (url, _):
        async with site(folder / "site", url) as running:
            node = await running.add_node(reaches_hub=False)
            await running.online()
            pids = {"node": node.pid, "pass_through": running.api.pid}
            idle = {f"{name}_idle": peak_rss_mb(pid) for name, pid in pids.items()}
            took_s = await running.distribute()
            peak = {name: peak_rss_mb(pid) for name, pid in pids.items()}
            print(f"{size / GB:g} GB through the pass-through: {took_s:.1f} s, {peak} MB, before {idle} MB", flush=True)
    shutil.rmtree(folder / "site")
    return peak | idle


async def bench(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Measure everything."""
    result = await throughput(folder, int(options.gb * GB), options.rounds)
    result |= await resume(folder, int(options.large_gb * GB))
    result["wan_copies"] = await wan_copies(folder, int(options.wan_gb * GB), options.nodes)
    result["peak_rss_mb"] = await memory(folder, int(options.large_gb * GB))
    return result


def main() -> None:
    """Parse the arguments, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--gb", type=float, default=1, help="file for the throughput")
    parser.add_argument("--large-gb", type=float, default=5, help="file for resuming and memory")
    parser.add_argument("--wan-gb", type=float, default=0.2, help="file for the copies over the WAN")
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm"), help="where files are kept meanwhile")
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        result = asyncio.run(bench(Path(name), options))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
