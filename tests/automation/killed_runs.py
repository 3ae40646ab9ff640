"""Runs that are killed between any two steps of entering a host: ``python -m tests.automation.killed_runs DIRECTORY``.

A process without threads that forks one for each step: what the n-th leaves is in DIRECTORY/n.
"""

import os
import signal
import sys
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any

from control_api.kit.clock import utcnow
from tests.automation.markers import Markers

# Where a step is: our own code, and what it writes files with.
STEPS_OF = {"markers.py", "pathlib.py", "pathlib"}


def is_killed(directory: Path, step: int) -> bool:
    """Enter a host in a process that is killed before its ``step``-th line; tell whether it came to that."""
    if not (child := os.fork()):
        left = step

        def trace(frame: FrameType, event: str, _argument: Any) -> Any:
            nonlocal left
            if not STEPS_OF & set(Path(frame.f_code.co_filename).parts):
                return None
            left -= event == "line"
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)
            return trace

        markers = Markers(directory, "killed", utcnow() + timedelta(microseconds=1))
        sys.settrace(trace)
        markers.enter("gpu-01")
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def main() -> None:
    step, directory = 0, Path(sys.argv[1])
    while not step or is_killed(directory / str(step), step):
        step += 1
        (directory / str(step)).mkdir()


if __name__ == "__main__":
    main()
