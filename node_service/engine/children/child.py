"""What all engine children share: orders in, announcement out, never outliving the node."""

import ctypes
import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

__all__ = ["Orders", "run_child"]

Orders = dict[str, Any]

_PR_SET_PDEATHSIG = 1


def run_child(serve: Callable[[Orders], dict[str, Any]]) -> None:
    """Read the orders, serve, say where, and stay until a signal ends the process.

    Parameters:
        serve: starts serving in threads and returns the announcement
            `{"url": …, "device": "cuda" | "cpu"}`.
    """
    orders: Orders = json.loads(sys.stdin.readline())
    _die_with(orders["parent_pid"])
    # Libraries print to stdout: keep it for the announcement alone.
    announcements = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    announcement = serve(orders)
    os.write(announcements, json.dumps(announcement).encode() + b"\n")
    while True:
        signal.pause()


def _die_with(parent_pid: int) -> None:
    """Have the kernel kill this process when the node dies, also by SIGKILL."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent_pid:  # it died before the kernel knew
        sys.exit("the node is gone")
