"""How many processor cores this service may really use."""

import os
from pathlib import Path

__all__ = ["usable_cores"]

_CPUS = Path("/sys/devices/system/cpu")
_CGROUPS = Path("/sys/fs/cgroup")


def usable_cores() -> int:
    """Return the cores that an engine should have threads for; at least 1.

    Physical cores, because two threads on the siblings of one core only wait for each other's
    memory; of those, the ones that our affinity allows; and no more than our control group's
    share of processor time.
    """
    cores = {_siblings(cpu) for cpu in os.sched_getaffinity(0)}
    return max(1, min(len(cores), _quota_cores() or len(cores)))


def _siblings(cpu: int) -> str:
    """Return what all logical processors of one core have in common."""
    try:
        return (_CPUS / f"cpu{cpu}/topology/thread_siblings_list").read_text(encoding="ascii").strip()
    except OSError:
        return str(cpu)


def _quota_cores() -> int | None:
    """Return the least share of processor time of our control group and those above it, in whole cores."""
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    own = next((line.removeprefix("0::/") for line in lines if line.startswith("0::/")), None)
    if own is None:
        return None
    group = _CGROUPS / own
    shares = [_share(directory) for directory in (group, *group.parents) if directory.is_relative_to(_CGROUPS)]
    return min((share for share in shares if share is not None), default=None)


def _share(group: Path) -> int | None:
    """Return the cores of a control group's `cpu.max`, or None if it is not limited."""
    try:
        quota_us, period_us = (group / "cpu.max").read_text(encoding="ascii").split()
        return max(1, int(quota_us) // int(period_us))
    except (OSError, ValueError):
        return None
