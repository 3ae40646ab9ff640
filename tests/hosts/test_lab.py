"""The lab itself: what a killed session left is no obstacle to the next one."""

import subprocess
import sys

import pytest

from tests.hosts.lab import COMMAND_TIMEOUT_S, Lab, LabError

KILLED_SESSION = """
import os
from tests.hosts.lab import Lab
host = Lab.open().boot("left", "bookworm")
print(host.name, flush=True)
os._exit(137)
"""


def test_hosts_of_a_killed_session_make_way_for_the_next_one(lab: Lab) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_SESSION], stdout=subprocess.PIPE, text=True, timeout=COMMAND_TIMEOUT_S, check=False
    )
    left = killed.stdout.strip()
    next_one = Lab.open()
    try:
        next_one.boot("new", "bookworm")
        with pytest.raises(LabError, match=left):
            lab.command("exec", left, "true")
    finally:
        next_one.close()
