"""Everything as a user runs it: ``muster up`` as a process, a local hub, the command line."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from control_api.catalogue.supported import SupportedModels
from control_api.settings import LOCAL_KEY_FILE, Settings
from control_api.wheelhouse import build_wheelhouse
from demo.hub import fill
from tests.ports import free_port
from tests.processes import PROJECT, answers, pids_of, process, wait_for
from tests.tiny_gguf import TinyModel, write_tiny_gguf

MODEL = "smollm2:135m"
START_S = 90.0


@dataclass(frozen=True)
class Stack:
    """A running Muster, and ways to use it."""

    state_dir: Path
    environment: dict[str, str]
    api: httpx2.Client
    router_url: str
    dashboard_url: str

    def muster(self, *arguments: str, check: bool = True, timeout_s: float = 600) -> subprocess.CompletedProcess[str]:
        """Run the ``muster`` command."""
        return self.run([sys.executable, "-m", "control_api.cli", *arguments], check=check, timeout_s=timeout_s)

    def playbook(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run ``ansible-playbook`` from a shell, as CI does."""
        return self.run([str(Path(sys.executable).with_name("ansible-playbook")), *arguments], check=check, timeout_s=600)

    @contextmanager
    def site_data(self, **variables: str) -> Iterator[None]:
        """Have these options for all hosts in the site's own data, as whoever runs the control plane sets them."""
        file = Path(self.environment["MUSTER_SITE_DIR"]) / "group_vars" / "all.yml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(variables))
        try:
            yield
        finally:
            file.unlink()

    def run(self, command: list[str], *, check: bool, timeout_s: float) -> subprocess.CompletedProcess[str]:
        """Run a command in the project with the settings of this stack."""
        done = subprocess.run(
            command, cwd=PROJECT, env=self.environment, capture_output=True, text=True, timeout=timeout_s, check=False
        )
        assert not check or done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout[-6000:]}\n{done.stderr[-3000:]}"
        return done

    def get(self, path: str) -> Any:
        """GET a path of the control API."""
        response = self.api.get(path)
        assert response.status_code == 200, response.text
        return response.json()

    def node(self, name: str) -> dict[str, Any]:
        """Return a node by name."""
        node: dict[str, Any] = self.get(f"/v0/nodes/{name}")
        return node

    def pids(self, role: str) -> list[int]:
        """Return the processes of a role, e.g. ``serve api``, that this stack runs."""
        return pids_of(self.state_dir, f"control_api.cli serve {role}")


def fill_hub(root: Path, cache_dir: Path) -> None:
    """Put the real model and a tiny embedding model where a hub has them."""
    model = SupportedModels.load(PROJECT / "supported_models.json").get(MODEL)
    assert model
    fill(cache_dir / "demo" / "hub", model)
    target = root / model.repo / model.recommended_filename
    target.parent.mkdir(parents=True)
    shutil.copy(cache_dir / "demo" / "hub" / model.repo / model.recommended_filename, target)
    tiny = root / "acme" / "tiny-embed"
    tiny.mkdir(parents=True)
    write_tiny_gguf(tiny / "tiny.gguf", TinyModel(pooling=True))


@contextmanager
def running_stack(folder: Path, address: str, **variables: str) -> Iterator[Stack]:
    """Yield a running Muster that hosts reach at ``address``."""
    cache_dir = Settings().cache_dir
    build_wheelhouse(cache_dir / "wheelhouse", project_dir=PROJECT, pythons=["3.11", "3.13"])
    fill_hub(folder / "hub", cache_dir)
    ports = {name: free_port() for name in ("api", "router", "dashboard", "hub")}
    state_dir = folder / "state"
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("MUSTER_", "ANSIBLE_"))}
    environment = outside | {
        "MUSTER_STATE_DIR": str(state_dir),
        "MUSTER_SITE_DIR": str(folder / "site"),
        "MUSTER_CACHE_DIR": str(cache_dir),
        "MUSTER_HUB_ENDPOINT": f"http://{address}:{ports['hub']}",
        "MUSTER_API_HOST": "0.0.0.0",
        "MUSTER_API_PORT": str(ports["api"]),
        "MUSTER_API_URL": f"http://{address}:{ports['api']}",
        "MUSTER_ROUTER_PORT": str(ports["router"]),
        "MUSTER_DASHBOARD_PORT": str(ports["dashboard"]),
        **variables,
    }
    hub = ["-m", "tests.hub", str(folder / "hub"), "--host", "0.0.0.0", "--port", str(ports["hub"])]
    with ExitStack() as stack:
        stack.enter_context(process([sys.executable, *hub], environment, folder / "hub.log"))
        stack.enter_context(process([sys.executable, "-m", "control_api.cli", "up"], environment, folder / "up.log"))
        key = wait_for(lambda: _key(state_dir), what="the first start", timeout_s=START_S)
        api_url = f"http://127.0.0.1:{ports['api']}"
        api = stack.enter_context(httpx2.Client(base_url=api_url, timeout=30, headers={"authorization": f"Bearer {key}"}))
        urls = {name: f"http://127.0.0.1:{ports[name]}" for name in ("api", "router", "dashboard")}
        for url in urls.values():
            wait_for(lambda url=url: answers(f"{url}/healthz"), what=f"{url} to answer", timeout_s=START_S)  # type: ignore[misc]
        shell = environment | {"MUSTER_API_KEY": key, "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg")}
        yield Stack(state_dir, shell, api, urls["router"], urls["dashboard"])


def _key(state_dir: Path) -> str:
    path = state_dir / LOCAL_KEY_FILE
    return path.read_text().strip() if path.exists() else ""
