"""Child program: runs a command of the host, and ends all of it when the node ends or wants it to.

It stays above the command, because a command may be a script that starts the server, and a
server may start workers: whoever loses its parent becomes a child of this process.
"""

import ctypes
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from node_service.engine.children.child import die_with, read_orders

_PR_SET_CHILD_SUBREAPER = 36
_GRACE_S = 4  # less than the node gives us


def main() -> None:
    """Run the command to its end and end as it did."""
    orders = read_orders()
    die_with(orders["parent_pid"], signal.SIGTERM)
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def end_command(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if os.getppid() != orders["parent_pid"]:  # otherwise the node has told the whole group
            os.killpg(0, signal.SIGTERM)
        signal.alarm(_GRACE_S)

    signal.signal(signal.SIGTERM, end_command)
    signal.signal(signal.SIGALRM, lambda *_: _kill_children())
    code = _run(orders["argv"], _key_file(orders["api_key"]))
    while _kill_children():
        os.wait()
    if code < 0:
        with suppress(OSError):  # KILL has no handler
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


def _run(argv: list[str], key_file: str) -> int:
    """Run the command and return its exit code, negative for a signal."""
    argv = [argument.replace("{api_key_file}", key_file) for argument in argv]
    try:
        return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=sys.stderr).wait()
    except OSError as error:
        sys.exit(f"error: cannot start {argv[0]}: {error.strerror}")


def _kill_children() -> bool:
    """Kill all children; return whether there were any. Theirs become ours, and are next."""
    children = _children()
    for pid in children:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return bool(children)


def _children() -> list[int]:
    return [int(pid) for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()]


def _key_file(api_key: str) -> str:
    """Return a path at which the key can be read while this process lives; it is on no disk."""
    memory = os.memfd_create("api-key")
    os.write(memory, api_key.encode() + b"\n")
    return f"/proc/{os.getpid()}/fd/{memory}"


if __name__ == "__main__":
    main()
