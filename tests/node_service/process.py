"""The real node process, as a host would run it."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from tests.ports import free_port
from tests.processes import wait_for

__all__ = ["PYTHON", "NodeProcess", "alive", "descendants", "node_settings"]

# The node supports older Pythons than the suite: it may be run by one of those.
PYTHON = os.environ.get("MUSTER_TEST_NODE_PYTHON", sys.executable)

_REPOSITORY = Path(__file__).parents[2]


def node_settings(directory: Path, *, name: str, api_url: str, **changed: Any) -> dict[str, Any]:
    """Return settings of a node on this machine, with directories and a file for its ticket under one of its own."""
    port = free_port()
    return {
        "name": name,
        "api_url": api_url,
        "base_url": f"http://127.0.0.1:{port}",
        "listen_host": "127.0.0.1",
        "listen_port": port,
        "store_dir": str(directory / "models"),
        "state_dir": str(directory / "state"),
        "enrolment_ticket_file": str(directory / "ticket"),
        "disk_reserve_bytes": 0,
        **changed,
    }


@dataclass
class NodeProcess:
    """`muster-node serve` with its directories; it can be started, killed and started again."""

    directory: Path
    settings: dict[str, Any]
    environment: dict[str, str] = field(default_factory=dict)
    umask: int = -1
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where the node answers."""
        return str(self.settings["base_url"])

    @property
    def pid(self) -> int:
        """The process, which must have been started."""
        assert self.process is not None
        return self.process.pid

    @property
    def state_dir(self) -> Path:
        """The node's state directory."""
        return Path(self.settings["state_dir"])

    @property
    def store_dir(self) -> Path:
        """The node's store."""
        return Path(self.settings["store_dir"])

    @property
    def ticket_file(self) -> Path:
        """Where the node looks for an enrolment ticket."""
        return Path(self.settings["enrolment_ticket_file"])

    @property
    def log_file(self) -> Path:
        """What the node wrote to stderr."""
        return self.directory / "node.log"

    @property
    def key(self) -> str:
        """The node's inference key."""
        return str(self.identity()["inference_key"])

    def identity(self) -> dict[str, Any]:
        """Return the identity that the node stored."""
        document: dict[str, Any] = json.loads((self.state_dir / "identity.json").read_text())
        return document

    def start(self) -> "NodeProcess":
        """Start the process and wait until it answers."""
        config = self.directory / "node.json"
        config.write_text(json.dumps(self.settings))
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [PYTHON, "-m", "node_service", "serve", "--config", str(config)],
                cwd=_REPOSITORY,
                env=os.environ | self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
                umask=self.umask,
            )
        wait_for(self._answers, f"the node answers; its log: {self.log_file}")
        return self

    def kill(self) -> None:
        """Kill the process as a crash would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)

    def terminate(self) -> None:
        """Send SIGTERM."""
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)

    def wait(self, timeout_s: float = 15) -> int:
        """Wait for the end and return the exit code."""
        assert self.process is not None
        return self.process.wait(timeout_s)

    def request(self, method: str, path: str, *, key: str | None = None, **arguments: Any) -> httpx2.Response:
        """Send one request with the node's key, or another one."""
        headers = {"authorization": f"Bearer {self.key if key is None else key}", **arguments.pop("headers", {})}
        return httpx2.request(method, f"{self.url}{path}", headers=headers, timeout=30, **arguments)

    def get(self, path: str, **arguments: Any) -> httpx2.Response:
        """Send a GET."""
        return self.request("GET", path, **arguments)

    def post(self, path: str, body: Any = None, **arguments: Any) -> httpx2.Response:
        """Send a POST with a JSON body."""
        return self.request("POST", path, json=body, **arguments)

    def chat(self, model: str, **fields: Any) -> httpx2.Response:
        """Ask for a chat completion of a few tokens."""
        body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 8} | fields
        return self.post("/v1/chat/completions", body)

    def status(self) -> dict[str, Any]:
        """Return `/v0/status`."""
        document: dict[str, Any] = self.get("/v0/status").json()
        return document

    def problem(self, code: str) -> str:
        """Return the text of a present problem, or an empty string."""
        return next((error["message"] for error in self.status()["errors"] if error["code"] == code), "")

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log_file.read_text()[-2000:]
        try:
            return httpx2.get(f"{self.url}/healthz", timeout=2).is_success
        except httpx2.TransportError:
            return False


def descendants(pid: int) -> list[int]:
    """Return the pids of a process's children and theirs."""
    children = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        children += [int(child) for child in task.read_text().split()]
    return children + [pid for child in children for pid in descendants(child)]


def alive(pid: int) -> bool:
    """Whether a process exists and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
