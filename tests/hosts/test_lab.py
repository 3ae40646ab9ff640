"""The lab itself: what a killed session left is no obstacle to the next one."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hosts.lab import COMMAND_TIMEOUT_S, SCRIPT, Lab, LabError

KILLED_SESSION = """
import os
from tests.hosts.lab import Lab
host = Lab.open().boot("left", "trixie")
print(host.name, flush=True)
os._exit(137)
"""


def killed_session(environment: dict[str, str]) -> str:
    """Return the name of the host that a session left when it was killed."""
    command = [sys.executable, "-c", KILLED_SESSION]
    done = subprocess.run(
        command, env=os.environ | environment, stdout=subprocess.PIPE, text=True, timeout=COMMAND_TIMEOUT_S, check=False
    )
    assert done.returncode == 137
    return done.stdout.strip()


def script(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the lab in another environment than a session's."""
    return subprocess.run(
        [SCRIPT, *arguments],
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
        check=False,
    )


@pytest.fixture
def beside(lab: Lab) -> dict[str, str]:
    """A lab beside the session's, with its cache, and with run state and a network of its own."""
    environment = lab.environment | {"MUSTER_LAB_RUN": f"/dev/shm/muster-lab-{os.getpid()}", "MUSTER_LAB_NET": "10.79.1"}
    Path(environment["MUSTER_LAB_RUN"]).mkdir()
    return environment


@pytest.fixture
def other_cache(lab: Lab, tmp_path: Path, beside: dict[str, str]) -> Iterator[dict[str, str]]:
    """The lab beside the session's with another cache, in which there are only packages."""
    cache = tmp_path / "cache"
    cache.mkdir()
    for archive in lab.ssh_key.parent.glob("trixie-*.tar"):
        shutil.copy(archive, cache)
    environment = beside | {"MUSTER_LAB_DIR": str(cache)}
    yield environment
    assert script(environment, "reset").returncode == 0


def test_hosts_of_a_killed_session_make_way_for_the_next_one(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in lab.environment.items():
        monkeypatch.setenv(name, value)
    left = killed_session(lab.environment)
    next_one = Lab.open()
    try:
        next_one.boot("new", "bookworm")
        with pytest.raises(LabError, match=left):
            lab.command("exec", left, "true")
    finally:
        next_one.close()


def test_run_state_of_another_cache_is_made_anew_also_with_a_host_that_a_killed_session_left(
    beside: dict[str, str], other_cache: dict[str, str]
) -> None:
    left = killed_session(beside)
    assert script(beside, "exec", left, "true").returncode == 0
    refused = script(other_cache, "up", "new", "10", "trixie")
    assert (refused.returncode, refused.stderr.count("this does: lab setup")) == (1, 1)
    for command in (("setup", "trixie"), ("up", "new", "10", "trixie"), ("wait", "10")):
        done = script(other_cache, *command)
        assert done.returncode == 0, (command, done.stderr)


def test_run_state_that_a_session_works_with_is_left_to_it(lab: Lab, tmp_path: Path) -> None:
    refused = script(lab.environment | {"MUSTER_LAB_DIR": str(tmp_path)}, "setup", "trixie")
    assert refused.returncode == 1
    assert "sessions work with" in refused.stderr
    assert lab.command("clear", "-nobody") == ""
