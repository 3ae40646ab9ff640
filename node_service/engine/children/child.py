"""What all engine children share: orders in, announcement out, never outliving the node."""

import ctypes
import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

__all__ = ["Orders", "die_with", "read_orders", "run_child"]

Orders = dict[str, Any]

_PR_SET_PDEATHSIG = 1


def run_child(serve: Callable[[Orders], dict[str, Any]]) -> None:
    """Read the orders, serve, say where, and stay until a signal ends the process.

    Parameters:
        serve: starts serving in threads and returns the announcement
            `{"url": …, "device": "cuda" | "cpu"}`.
    """
    orders = read_orders()
    die_with(orders["parent_pid"], signal.SIGKILL)
    # Libraries print to stdout: keep it for the announcement alone.
    announcements = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    announcement = serve(orders)
    os.write(announcements, json.dumps(announcement).encode() + b"\n")
    while True:
        signal.pause()


def read_orders() -> Orders:
    """Read what the node tells this process, one line of JSON."""
    orders: Orders = json.loads(sys.stdin.readline())
    return orders


def die_with(parent_pid: int, sig: signal.Signals) -> None:
    """Have the kernel send this process a signal when the node dies, also by SIGKILL."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, sig, 0, 0, 0) != 0:
        sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent_pid:  # it died before the kernel knew
        sys.exit("the node is gone")
