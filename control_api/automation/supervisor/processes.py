"""Finding and ending processes through /proc. Standard library only."""

import ctypes
import os
import signal
import sys
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Never

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
# Looked up here: between a fork and what it runs, nothing may be loaded.
_LIBC = ctypes.CDLL(None, use_errno=True)
_POLL_S = 0.05
# How long a process killed with SIGKILL may take to vanish; only the kernel can delay it.
_KILL_S = 5.0

_PROC = Path("/proc")


def become_subreaper() -> None:
    """Make orphans among the descendants of this process its children, so that they can be found and ended."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(parent: int) -> None:
    """Have SIGTERM sent to this process when its parent ends; exit at once if it has ended already."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(1)


def killed_with(parent: int) -> Callable[[], None]:
    """Return what a child calls before its program begins (``preexec_fn``), so that it is killed when this process ends.

    Start it from the main thread: the kernel means the thread that forked. The program gains no rights: one that does, as
    ssh-agent by its group, is let off by the kernel.
    """

    def tie() -> None:
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return tie


def leave_with(run: Callable[[], int]) -> Never:
    """End this fork with the status that ``run`` returns, and nothing above it run; what it raises is printed."""
    status = 1
    try:
        status = run()
    except BaseException:
        # Nobody above prints it: the process ends here.
        traceback.print_exc()
        raise
    finally:
        sys.stderr.flush()
        # Not sys.exit: a thread of ansible-runner that hangs must not keep the process.
        os._exit(status)


def rename(argument: str, replacement: str) -> None:
    """Change one of this process's arguments, as others see them, to one of the same length.

    A process that was forked has the arguments of its parent; they lie in memory of its own (``arg_start`` of proc(5)).
    """
    arguments = (_PROC / "self/cmdline").read_bytes()
    arg_start = int((_PROC / "self/stat").read_text().rpartition(")")[2].split()[45])
    with (_PROC / "self/mem").open("r+b", buffering=0) as memory:
        memory.seek(arg_start + arguments.index(argument.encode()))
        memory.write(replacement.encode()[: len(argument)])


def _prctl(option: int, value: int) -> None:
    if _LIBC.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}) failed")


def _children_by_parent() -> dict[int, set[int]]:
    children: defaultdict[int, set[int]] = defaultdict(set)
    for entry in _PROC.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_text()
        except OSError:
            continue
        # The command may hold spaces and parentheses; what follows its last one does not.
        state, parent = stat.rpartition(")")[2].split()[:2]
        if state not in "ZX":
            children[int(parent)].add(int(entry.name))
    return children


def children(root: int) -> set[int]:
    """Return the living children of a process."""
    return _children_by_parent()[root]


def descendants(root: int) -> set[int]:
    """Return all living descendants of a process."""
    by_parent = _children_by_parent()
    found: set[int] = set()
    todo = [root]
    while todo:
        new = by_parent[todo.pop()] - found
        found |= new
        todo += new
    return found


def marked(name: str, value: str) -> set[int]:
    """Return the processes whose environment holds ``name=value``, as far as this user may look."""
    return holding("environ", f"{name}={value}")


def holding(file: str, text: str) -> set[int]:
    """Return the processes of which a NUL-separated file in /proc has this element."""
    found = set()
    for entry in _PROC.iterdir():
        try:
            if entry.name.isdigit() and text.encode() in (entry / file).read_bytes().split(b"\0"):
                found.add(int(entry.name))
        except OSError:
            continue
    return found


def ask_to_end(argument: str, *, limit_s: float) -> set[int]:
    """Send SIGTERM to the processes that have exactly this argument, and return those that live on after ``limit_s``."""
    send(holding("cmdline", argument), signal.SIGTERM)
    return _wait_gone(lambda: holding("cmdline", argument), limit_s)


def end_tree(root: int, *, grace_s: float, keep: Collection[int] = ()) -> set[int]:
    """End everything below a process and return what could not be ended.

    Each child is sent SIGTERM: Ansible's main process then ends its own workers properly. Their orphans become children of
    ``root``, a subreaper, and get it too. What lives on after ``grace_s`` is killed.

    Parameters
    ----------
    keep: children to leave alone.
    """
    kept = set(keep)
    asked: set[int] = set()

    def ask() -> set[int]:
        new = children(root) - kept - asked
        send(new, signal.SIGTERM)
        asked.update(new)
        return descendants(root) - kept

    if not (left := _wait_gone(ask, grace_s)):
        return left

    def kill() -> set[int]:
        alive = descendants(root) - kept
        send(alive, signal.SIGKILL)
        return alive

    return _wait_gone(kill, _KILL_S)


def end_marked(name: str, value: str, *, grace_s: float) -> set[int]:
    """End the processes whose environment holds ``name=value`` and return what could not be ended."""
    for signum, limit_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, _KILL_S)):
        send(marked(name, value), signum)
        if not (left := _wait_gone(lambda: marked(name, value), limit_s)):
            return left
    return left


def _wait_gone(look: Callable[[], set[int]], limit_s: float) -> set[int]:
    deadline = time.monotonic() + limit_s
    while (left := look()) and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    return left


def send(pids: Collection[int], signum: signal.Signals) -> None:
    """Send a signal to processes; those that are gone or not ours are passed over."""
    for pid in pids:
        try:
            os.kill(pid, signum)
        except (ProcessLookupError, PermissionError):
            continue
