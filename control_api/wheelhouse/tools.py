"""The tools that fetch and build packages: uv and pip, of the versions that are locked with everything else."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from control_api.errors import Unavailable

COMMAND_TIMEOUT_S = 900


def find_uv() -> str:
    """Return where uv is: beside this Python, or on the path. Raises ``Unavailable``."""
    beside = Path(sys.executable).with_name("uv")
    uv = str(beside) if beside.exists() else shutil.which("uv")
    if not uv:
        raise Unavailable("uv is not installed", hint="see https://docs.astral.sh/uv, or: pip install uv")
    return uv


def pip_download() -> list[str]:
    """Return the beginning of a command that downloads wheels and nothing that they need; uv has no such command."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet"]
    return [*pip, "--disable-pip-version-check", "--no-input", "--no-deps", "--only-binary", ":all:"]


def run_tool(command: Sequence[str], what: str, *, timeout_s: float = COMMAND_TIMEOUT_S) -> None:
    """Run a command to its end. Raises ``Unavailable`` with what it said last; ``what`` tells what it was for."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"{what} took longer than {timeout_s:g} s") from error
    if done.returncode:
        raise Unavailable(f"{what} failed", details={"output": done.stderr[-4000:]}, hint=" ".join(done.stderr.split())[-400:])
