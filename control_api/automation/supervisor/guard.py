"""The guard: parent of a supervisor, ends the run when the supervisor is killed, frozen, or loses its lease for too long.

It reads one thing, a pipe: a byte for each renewal of the lease, and end of file when the supervisor is gone. The supervisor
itself ends its run before ``kill_s`` and locks become reusable only afterwards, so a run that nobody vouches for is over before
another one starts.
"""

import os
import select
import shutil
import signal
import time
from pathlib import Path

from control_api.automation.supervisor import processes

# How long Ansible may take to end its workers when its supervisor is gone or frozen.
ORPHAN_GRACE_S = 5.0


def guard(run_dir: Path, *, kill_s: float) -> int:
    """Start a supervisor, watch it to its end, and leave neither process nor file behind. Returns its exit status.

    Parameters
    ----------
    run_dir: removed at the end, whatever happened.
    kill_s: without a renewal for so long, run and supervisor are killed, having been asked to end shortly before.
    """
    processes.become_subreaper()
    beats, beat = os.pipe()
    own_pid = os.getpid()
    supervisor = os.fork()
    if supervisor == 0:
        os.close(beats)
        processes.die_with_parent(own_pid)
        _become_supervisor(beat)
    os.close(beat)
    _let_go_of_stdin()
    signal.signal(signal.SIGTERM, lambda *_: processes.send({supervisor}, signal.SIGTERM))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        if not _watch(beats, max(0.0, kill_s - ORPHAN_GRACE_S)):
            processes.end_tree(supervisor, grace_s=ORPHAN_GRACE_S)
            processes.send({supervisor}, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(supervisor, 0)[1])
        processes.end_tree(own_pid, grace_s=ORPHAN_GRACE_S)
        if status == 0:
            log_file(run_dir).unlink(missing_ok=True)
        return abs(status)
    finally:
        shutil.rmtree(run_dir, ignore_errors=True)


def log_file(run_dir: Path) -> Path:
    """Return where guard and supervisor write; kept when they fail, since the worker that would report it may be gone."""
    return run_dir.with_suffix(".log")


def _become_supervisor(beat: int) -> None:
    # Loaded already by the fork server; imported here because the guard needs none of it.
    from control_api.automation.supervisor.main import run_supervisor

    processes.leave_with(lambda: run_supervisor(beat))


def _let_go_of_stdin() -> None:
    """Leave the pipe with the order to the supervisor, so that nobody can read secrets from this process."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)


def _watch(beats: int, silence_s: float) -> bool:
    """Return True when the supervisor is gone, False when it has not renewed its lease for ``silence_s``."""
    # The clock that goes on while the machine sleeps, as the lease does.
    last_beat = time.clock_gettime(time.CLOCK_BOOTTIME)
    while True:
        silent_s = time.clock_gettime(time.CLOCK_BOOTTIME) - last_beat
        if silent_s >= silence_s:
            return False
        readable, _, _ = select.select([beats], [], [], min(1.0, silence_s - silent_s))
        if not readable:
            continue
        if not os.read(beats, 4096):
            return True
        last_beat = time.clock_gettime(time.CLOCK_BOOTTIME)
