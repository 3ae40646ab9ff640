"""The download benchmark runs from end to end on small files: real node services, a real control API, one copy over the WAN."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import PROJECT

pytestmark = pytest.mark.slow


def test_the_wan_carries_one_copy_and_every_figure_is_there(tmp_path: Path) -> None:
    sizes = ["--gb", "0.005", "--large-gb", "0.005", "--wan-gb", "0.005", "--nodes", "2", "--rounds", "1"]
    command = [sys.executable, "-m", "benchmarks.download", *sizes, "--folder", str(tmp_path)]

    run = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=240)

    assert run.returncode == 0, run.stdout + run.stderr
    found = json.loads(run.stdout.splitlines()[-1])
    assert found["wan_copies"] == {"2": 1.0}
    assert set(found) >= {"throughput_vs_curl", "resume_s", "peak_rss_mb"}
