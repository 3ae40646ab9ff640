"""Processes that tests run, and waiting for them."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import httpx2

from control_api.up.process import die_with_parent

PROJECT = Path(__file__).parents[1]


def wait_for[Value](look: Callable[[], Value], what: str, timeout_s: float = 60.0) -> Value:
    """Return the first true value of `look`; fails naming `what` after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not (value := look()):
        assert time.monotonic() < deadline, f"waited {timeout_s:g} s in vain: {what}"
        time.sleep(0.05)
    return value


def answers(url: str) -> bool:
    """Tell whether a URL answers 200."""
    try:
        return httpx2.get(url, timeout=2).status_code == 200
    except httpx2.TransportError:
        return False


@contextmanager
def process(
    command: list[str], environment: dict[str, str], log_file: Path, *, umask: int = -1
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process for the length of the block; it must end when it is told to."""
    tie = partial(die_with_parent, os.getpid())
    with log_file.open("wb") as log:
        running = subprocess.Popen(
            command,
            cwd=PROJECT,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=tie,
            umask=umask,
        )
        try:
            yield running
        finally:
            running.terminate()
            running.wait(120)


def pids_of(state_dir: Path, wanted: str) -> list[int]:
    """Return the processes of one state directory whose command line holds a text."""
    return sorted(
        int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and _is_it(entry, state_dir, wanted)
    )


def _is_it(entry: Path, state_dir: Path, wanted: str) -> bool:
    try:
        command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        return wanted in command and f"MUSTER_STATE_DIR={state_dir}\0".encode() in (entry / "environ").read_bytes()
    except OSError:
        return False
