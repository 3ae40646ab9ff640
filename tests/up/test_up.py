"""``muster up`` as a process: it keeps the others running, and leaves none behind."""

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from control_api.settings import LOCAL_KEY_FILE, SETUP_LINK_FILE
from tests.ports import free_port
from tests.processes import PROJECT, answers, pids_of, process, wait_for

ROLES = ("api", "router", "dashboard")
READY_S = 90.0


@dataclass(frozen=True)
class Up:
    """A running ``muster up``."""

    state_dir: Path
    environment: dict[str, str]
    process: subprocess.Popen[bytes]

    def url(self, role: str) -> str:
        return f"http://127.0.0.1:{self.environment[f'MUSTER_{role.upper()}_PORT']}"

    def pid(self, role: str) -> int:
        found = pids_of(self.state_dir, f"control_api.cli serve {role}")
        return found[0] if len(found) == 1 else 0

    def muster(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "control_api.cli", *arguments]
        return subprocess.run(
            command, cwd=PROJECT, env=self.environment, capture_output=True, text=True, timeout=60, check=False
        )


@contextmanager
def running_up(folder: Path) -> Iterator[Up]:
    outside = {name: value for name, value in os.environ.items() if not name.startswith("MUSTER_")}
    ports = {f"MUSTER_{role.upper()}_PORT": str(free_port()) for role in ROLES}
    environment = {
        **outside,
        **ports,
        "HF_TOKEN": "hf_secret",
        "MUSTER_STATE_DIR": str(folder / "state"),
        "MUSTER_CACHE_DIR": str(folder / "cache"),
    }
    command = [sys.executable, "-m", "control_api.cli", "up", "--local-node"]
    # As a package or an administrator may have made it.
    (folder / "state").mkdir(mode=0o755)
    (folder / "state").chmod(0o755)
    _leave_open(folder / "state")
    with process(command, environment, folder / "up.log", umask=0) as started:
        up = Up(folder / "state", environment, started)
        for role in ROLES:
            wait_for(lambda role=role: answers(f"{up.url(role)}/healthz"), what=f"the {role} to answer", timeout_s=READY_S)  # type: ignore[misc]
        yield up


def _leave_open(state_dir: Path) -> None:
    """What an older version made under a careless umask."""
    for name in ("logs", "services"):
        (state_dir / name).mkdir()
        (state_dir / name).chmod(0o777)
    for name in ("up.lock", "keys.json.lock", "control.db.migrating", "setup_link", "logs/router.log.1"):
        (state_dir / name).touch()
        (state_dir / name).chmod(0o666)


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """One that all tests of this module share."""
    with running_up(tmp_path_factory.mktemp("up")) as running:
        yield running


def test_its_own_user_needs_no_set_up(up: Up) -> None:
    hosts = json.loads(up.muster("hosts", "list", "--json").stdout)
    assert [(host["name"], host["connection"]) for host in hosts] == [("local", "local")]
    assert (up.state_dir / LOCAL_KEY_FILE).stat().st_mode & 0o077 == 0
    assert (up.state_dir / SETUP_LINK_FILE).stat().st_mode & 0o077 == 0


def test_a_secret_of_one_process_is_not_told_to_the_others(up: Up) -> None:
    told = {role for role in ROLES if b"hf_secret" in Path(f"/proc/{up.pid(role)}/environ").read_bytes()}
    assert told == {"api"}


def test_no_file_of_the_state_is_open_to_others(up: Up) -> None:
    modes = {path.name: stat.S_IMODE(path.lstat().st_mode) for path in up.state_dir.rglob("*") if path.is_file()}
    assert {"control.db", "control.db-wal", "control.db-shm", "telemetry.db", "keys.json", "api.log", "router.log"} <= set(
        modes
    )
    assert {name: oct(mode) for name, mode in modes.items() if mode & 0o077} == {}
    folders = {path.name: stat.S_IMODE(path.lstat().st_mode) for path in up.state_dir.iterdir() if path.is_dir()}
    assert {name: oct(mode) for name, mode in folders.items() if mode & 0o077} == {}
    assert stat.S_IMODE(up.state_dir.stat().st_mode) & 0o022 == 0


def test_only_health_is_open_on_every_port(up: Up) -> None:
    for role, paths in {"api": ["/docs", "/readyz"], "router": ["/v1/models", "/metrics"], "dashboard": []}.items():
        assert httpx2.get(f"{up.url(role)}/healthz").status_code == 200
        for path in paths:
            assert httpx2.get(f"{up.url(role)}{path}").status_code == 401, path
    for path in ("/", "/jobs", "/playground"):
        assert httpx2.get(f"{up.url('dashboard')}{path}", follow_redirects=True).url.path == "/login"


def test_a_second_one_on_the_same_state_is_refused(up: Up) -> None:
    refused = up.muster("up")
    assert refused.returncode == 1
    assert "Another `muster up` runs" in refused.stderr


def test_a_port_that_is_taken_is_named(up: Up, tmp_path: Path) -> None:
    environment = {**up.environment, "MUSTER_STATE_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "control_api.cli", "up"]
    refused = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert refused.returncode == 1
    assert "MUSTER_API_PORT" in refused.stderr


@pytest.mark.parametrize("role", ROLES)
def test_what_is_killed_is_started_again_and_the_others_go_on(up: Up, role: str) -> None:
    before = {name: up.pid(name) for name in ROLES}
    os.kill(before[role], signal.SIGKILL)
    wait_for(lambda: up.pid(role) not in (0, before[role]), what=f"a new {role}", timeout_s=READY_S)
    wait_for(lambda: answers(f"{up.url(role)}/healthz"), what=f"the {role} to answer", timeout_s=READY_S)
    for other in set(ROLES) - {role}:
        assert up.pid(other) == before[other]


def test_services_of_plays_are_run_changed_and_stopped(up: Up, tmp_path: Path) -> None:
    service = up.state_dir / "services" / "sleeper.json"
    for seconds in ("1001", "1002"):
        part = service.with_suffix(".part")
        part.write_text(json.dumps({"name": "sleeper", "command": ["sleep", seconds], "working_dir": str(tmp_path)}))
        part.replace(service)
        wait_for(lambda seconds=seconds: _sleepers() == [seconds], what=f"sleep {seconds}", timeout_s=20)  # type: ignore[misc]
    service.write_text("not json")
    wait_for(lambda: _sleepers() == [], what="the service to be stopped", timeout_s=30)
    service.unlink()


def _sleepers() -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else []
        except OSError:
            continue
        if words[:1] == [b"sleep"] and words[1] in (b"1001", b"1002"):
            found.append(words[1].decode())
    return found


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_whatever_ends_it_no_process_is_left(tmp_path: Path, how: signal.Signals) -> None:
    with running_up(tmp_path) as up:
        os.kill(up.process.pid, how)
        up.process.wait(90)
        wait_for(lambda: pids_of(up.state_dir, "") == [], what="every process to end", timeout_s=90)
