"""A disk that is full at byte n and then cleaned, and one that is read-only, on a real small file system."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import PROJECT

_NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount"]


def test_a_full_disk_keeps_what_it_has_and_a_read_only_one_is_named(tmp_path: Path) -> None:
    if subprocess.run([*_NAMESPACE, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine allows no mount namespaces to this user")
    command = [*_NAMESPACE, sys.executable, "-m", "tests.node_service.disk_faults", str(tmp_path)]
    run = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
