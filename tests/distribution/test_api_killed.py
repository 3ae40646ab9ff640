"""The control API as a process that is killed while weights travel: they travel on, and the task ends with the truth."""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen
from typing import Any

import httpx2
import pytest

from tests.distribution.services import new_service, part_size
from tests.hub import Hub
from tests.node_service.process import NodeProcess
from tests.ports import free_port
from tests.processes import answers, process, wait_for
from tests.running import KEY, until

pytestmark = pytest.mark.anyio

SIZE = 8 << 20
LIMIT_S = 90


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    """A hub that sends its only file slowly; no engine can load it, which does not matter here."""
    path = tmp_path / "hub/lab/big/big.gguf"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"GGUF".ljust(SIZE, b"x"))
    running = Hub(tmp_path / "hub").start()
    running.fail(rate_bps=SIZE / 60)
    yield running
    running.stop()


class Site:
    """A control API that may be killed, at one address and on one store."""

    def __init__(self, folder: Path, hub: Hub) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        self._log = folder / "api.log"
        self._environment = os.environ | {
            "MUSTER_STATE_DIR": str(folder / "state"),
            "MUSTER_BOOTSTRAP_API_KEY": KEY,
            "MUSTER_API_PORT": self.url.rpartition(":")[2],
            "MUSTER_HUB_ENDPOINT": hub.url,
            "MUSTER_AUTO_DISTRIBUTION": "off",
            "MUSTER_HEARTBEAT_INTERVAL_S": "1",
        }

    @contextmanager
    def started(self) -> Iterator[Popen[bytes]]:
        """Run the API for the length of the block."""
        with process([sys.executable, "-m", "control_api.cli", "serve", "api"], self._environment, self._log) as api:
            wait_for(lambda: answers(f"{self.url}/healthz"), what=f"the API; its log: {self._log}", timeout_s=LIMIT_S)
            yield api


async def order(http: httpx2.AsyncClient, node: str) -> str:
    """Register the file and order it onto a node; return the task's id."""
    registered = await http.post("/v0/models/register", json={"source": "lab/big", "id": "big:1b"})
    assert registered.status_code == 201, registered.text
    return (await http.post(f"/v0/nodes/{node}/models/pull", json={"model": "big:1b"})).json()["task_ids"][0]


async def test_weights_travel_on_while_the_api_is_gone_and_their_task_ends_when_it_is_back(
    tmp_path: Path, hub: Hub, migrated_store: Path
) -> None:
    shutil.copytree(migrated_store, tmp_path / "state")
    site = Site(tmp_path, hub)
    async with httpx2.AsyncClient(base_url=site.url, headers={"authorization": f"Bearer {KEY}"}, timeout=30) as http:
        with site.started() as api:
            node = (await new_service(http, tmp_path / "node", "gpu-01")).start()
            task_id = await order(http, "gpu-01")
            wait_for(lambda: part_size(node) > 100_000, what="some bytes", timeout_s=LIMIT_S)
            api.kill()
        try:
            hub.fail()
            wait_for(lambda: installed(node), what="the rest, with the API gone", timeout_s=LIMIT_S)
            with site.started():
                ended = await until(lambda: closed(http, task_id), what="the task to end", timeout_s=LIMIT_S)
        finally:
            node.kill()
    assert (ended["status"], ended["error"]) == ("completed", None)
    assert [served.range for served in hub.served if (served.range or "").endswith("-")] == ["bytes=0-"]


def installed(node: NodeProcess) -> bool:
    """Whether the file has arrived."""
    return [path.stat().st_size for path in (node.store_dir / "artifacts").rglob("*.gguf")] == [SIZE]


async def closed(http: httpx2.AsyncClient, task_id: str) -> dict[str, Any] | None:
    """Return a task if nothing more happens to it."""
    task = (await http.get(f"/v0/tasks/{task_id}")).json()
    return task if task["completed_at"] else None
