"""Compares the memory that a model is computed to need with what llama.cpp takes: ``python -m benchmarks.memory FILE.gguf…``.

Each model runs in the node's own engine child on the CPU, with several contexts and slots; the cache and the compute buffer are
those of llama.cpp's log, the process is its proportional set size after an answer (weights are mapped, so they count as far as
they were touched). Without files: tiny models made here, one of them with sliding windows. The last line is one JSON object.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from benchmarks.processes import memory_mib
from control_api.catalogue.gguf import HeaderReader
from control_api.catalogue.memory import memory_of, shape_of
from tests.tiny_gguf import TinyModel, write_tiny_gguf

_MIB = 1 << 20
_START_LIMIT_S = 300
_CACHE = re.compile(r"llama_kv_cache: size = +([\d.]+) MiB")
_COMPUTE = re.compile(r"compute buffer size = +([\d.]+) MiB")
_SIZES = ((2048, 1), (8192, 1), (8192, 4))


@dataclass(frozen=True)
class Taken:
    """What llama.cpp took, in MiB."""

    cache: float
    compute: float
    process: float


@contextmanager
def engine(path: Path, context: int, slots: int, log: Path) -> Iterator[tuple[int, str]]:
    """Run the node's engine child; yield its process id and its address."""
    orders = {
        **{"id": "bench", "path": str(path), "context": context, "slots": slots, "threads": 1, "gpu_layers": None},
        **{"flash_attention": "auto", "kv_cache_type": "f16", "embedding": False, "pooling": False, "gpu_uuids": []},
        **{"allow_cpu": True, "api_key": "bench", "parent_pid": os.getpid()},
    }
    command = [sys.executable, "-m", "node_service.engine.children.xllamacpp"]
    with log.open("wb") as stderr:
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr)
    impatience = threading.Timer(_START_LIMIT_S, child.kill)
    impatience.start()
    try:
        assert child.stdin and child.stdout
        child.stdin.write(json.dumps(orders).encode() + b"\n")
        child.stdin.flush()
        announced = child.stdout.readline()
        if not announced:
            sys.exit(f"{path.name}: the engine did not start: {log.read_text(errors='replace')[-2000:]}")
        yield child.pid, json.loads(announced)["url"]
    finally:
        impatience.cancel()
        child.kill()
        child.wait()


def take(path: Path, context: int, slots: int, folder: Path) -> Taken:
    """Run a model, ask it something in every slot, and return what it took."""
    log = folder / "engine.log"
    with engine(path, context, slots, log) as (pid, url):
        key, body = {"authorization": "Bearer bench"}, {"messages": [{"role": "user", "content": "word " * 200}]}
        for _ in range(slots):
            answer = httpx2.post(f"{url}/v1/chat/completions", json=body | {"max_tokens": 4}, headers=key, timeout=300)
            answer.raise_for_status()
        process = memory_mib([pid])
    lines = log.read_text(errors="replace")
    # llama.cpp plans once without memory before it takes it; caches with and without a window are lines of their own.
    taking = lines[lines.rindex("load_tensors:") :]
    return Taken(sum(map(float, _CACHE.findall(taking))), sum(map(float, _COMPUTE.findall(taking))), process)


def compare(path: Path, context: int, slots: int, folder: Path) -> dict[str, Any]:
    """Return the figures of one model with one context and so many slots."""
    reader = HeaderReader()
    with path.open("rb") as file:
        while not reader.feed(file.read(_MIB)):
            pass
    shape = shape_of(reader.header.values, vocabulary=reader.header.lengths.get("tokenizer.ggml.tokens", 0))
    context = min(context, shape.context_length or context)
    need, taken = memory_of(shape, path.stat().st_size, context=context, slots=slots), take(path, context, slots, folder)
    weights = need.weights_bytes / _MIB
    computed = weights + (need.kv_cache_bytes + need.compute_bytes) / _MIB
    return {
        "model": path.name,
        "context": context,
        "slots": slots,
        "cache_mib": round(need.kv_cache_bytes / _MIB, 1),
        "cache_taken_mib": round(taken.cache, 1),
        "compute_mib": round(need.compute_bytes / _MIB, 1),
        "compute_taken_mib": round(taken.compute, 1),
        "error_percent": round((computed / (weights + taken.cache + taken.compute) - 1) * 100, 1),
        "needed_mib": round(need.total_bytes / _MIB),
        "process_mib": round(taken.process),
    }


def tiny_models(folder: Path) -> list[Path]:
    """Make models of different shapes."""
    shapes = {
        "tiny": TinyModel(context=8192),
        "deep": TinyModel(context=8192, layers=60, embedding=128),
        "wide": TinyModel(context=8192, layers=4, embedding=1024),
        "windows": TinyModel(mode="random", context=8192, layers=8, embedding=128, window=256),
    }
    return [write_tiny_gguf(folder / f"{name}.gguf", model) for name, model in shapes.items()]


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", type=Path)
    files = parser.parse_args().files
    rows = []
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        for path in files or tiny_models(Path(name)):
            for context, slots in _SIZES:
                rows.append(compare(path, context, slots, Path(name)))
                print(json.dumps(rows[-1]), flush=True)
    worst = max(rows, key=lambda row: abs(row["error_percent"]))
    short = [row for row in rows if row["needed_mib"] < row["process_mib"]]
    figures = {"models": len({row["model"] for row in rows}), "runs": len(rows), "took_s": round(time.monotonic() - started)}
    print(json.dumps(figures | {"worst_error_percent": worst["error_percent"], "runs_beyond_need": len(short)}))


if __name__ == "__main__":
    main()
