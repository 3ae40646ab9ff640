"""Random walks through two replicas of the API: no task ends with another's report, and only what is listed is deleted."""

import random
import shutil
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest

from control_api.app import create_app
from tests.distribution.fleet import WireNode, new_model, new_node, report, task
from tests.hub import Hub
from tests.running import KEY, Api, running_api, serving, settings_for

pytestmark = pytest.mark.anyio

STEPS, SEQUENCES = 40, 6


@pytest.fixture
async def replicas(tmp_path: Path, hub: Hub, migrated_store: Path, anyio_backend: str) -> AsyncIterator[list[Api]]:
    """Two control APIs on one store."""
    shutil.copytree(migrated_store, tmp_path / "state")
    settings = settings_for(tmp_path, hub_endpoint=hub.url, auto_distribution="off")
    headers = {"authorization": f"Bearer {KEY}"}
    async with (
        running_api(settings, migrated=True) as first,
        serving(create_app(settings)) as url,
        httpx2.AsyncClient(base_url=url, headers=headers, timeout=30) as http,
    ):
        yield [first, Api(url, settings, KEY, first.client, http, first.database)]


@dataclass
class Walk:
    """One random walk with a node of its own, and what is known to be true."""

    dice: random.Random
    replicas: list[Api]
    node: WireNode
    name: str
    digest: str
    registered: bool = True
    manifest: dict[str, Any] = field(default_factory=lambda: {"models": [], "remove": []})
    on_disk: set[str] = field(default_factory=set)
    deleted: set[str] = field(default_factory=set)
    said: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    tasks: dict[str, int] = field(default_factory=dict)

    @property
    def api(self) -> Api:
        """Either replica."""
        return self.dice.choice(self.replicas)

    async def order(self) -> None:
        """Order the model, perhaps anew; mostly, not one that is deleted."""
        if not self.registered and self.dice.random() < 0.8:
            await self.delete_or_register()
        kind = self.dice.choice(["skip", "redownload", "redownload"])
        body = {"model": f"{self.name}:1b", "target": "specific", "node_ids": [self.node.id], "if_installed": kind}
        answer = await self.api.http.post("/v0/models/distribute", json=body)
        assert answer.status_code == (202 if self.registered else 404), answer.text
        for task_id in answer.json().get("task_ids", []):
            self.tasks.setdefault(task_id, (await task(self.api, task_id))["generation"])

    async def cancel(self) -> None:
        """Cancel a task, perhaps one that has ended."""
        if self.tasks:
            answer = await self.api.http.post(f"/v0/tasks/{self.dice.choice([*self.tasks])}/cancel")
            assert answer.status_code in (200, 409), answer.text

    async def delete_or_register(self) -> None:
        """Delete the model, or register it again."""
        if self.registered:
            assert (await self.api.http.delete(f"/v0/models/{self.name}:1b")).status_code == 204
            self.deleted.add(self.digest)
        else:
            await new_model(self.api, self.name)
        self.registered = not self.registered

    async def apply(self) -> None:
        """Read the manifest and do what it says, as a node does; say so with the next heartbeat."""
        self.node.http = self.api.http
        self.manifest = await self.node.manifest()
        kept = {a["sha256"] for model in self.manifest["models"] for a in model["artifacts"]}
        assert not set(self.manifest["remove"]) & kept
        assert set(self.manifest["remove"]) <= self.deleted
        self.on_disk -= set(self.manifest["remove"])
        self.node.applied = self.manifest["revision"]

    async def beat(self) -> None:
        """Report on what the applied manifest wants, truly or in the middle."""
        models = []
        for wanted in self.manifest["models"]:
            state = self.dice.choice(["queued", "downloading", "verifying", "installed", "ready", "failed"])
            error = f"error of {wanted['generation']}" if state == "failed" else None
            said = report(wanted["id"], wanted["generation"], state, bytes_done=self.dice.randrange(1000), error=error)
            self.said.setdefault(wanted["generation"], []).append(said)
            if state in ("installed", "ready"):
                self.on_disk.add(self.digest)
            models.append(said)
        self.node.seq += 1
        applied = {"applied_revision": self.node.applied, "models": models}
        self.bodies.append({"instance_id": "instance-1", "seq": self.node.seq, **applied})
        await self._send(self.bodies[-1])

    async def late_beat(self) -> None:
        """Send an old heartbeat once more: it was under way for long, or twice."""
        if self.bodies:
            await self._send(self.dice.choice(self.bodies[-6:]))

    async def _send(self, body: dict[str, Any]) -> None:
        path = f"/v0/nodes/{self.node.id}/heartbeat"
        answer = await self.api.http.post(path, json=body, headers=self.node.headers)
        assert answer.status_code == 200, answer.text

    async def check(self) -> None:
        """Hold every task against what was said of its generation so far."""
        ids = ",".join(self.tasks)
        found = (await self.api.http.get("/v0/tasks", params={"ids": ids, "limit": 200})).json()["items"]
        assert {t["id"]: t["generation"] for t in found} == self.tasks
        assert sum(t["status"] in ("pending", "in_progress") for t in found) <= 1
        for ended in found:
            said = self.said.get(ended["generation"], [])
            if ended["status"] == "completed":
                assert any(r["state"] in ("installed", "ready") for r in said), (ended, said)
            if ended["status"] == "failed":
                assert ended["error"] in [r["error"] for r in said if r["state"] == "failed"], (ended, said)


async def test_random_interleavings_keep_tasks_apart_and_delete_only_what_is_listed(replicas: list[Api], hub: Hub) -> None:
    seed = int(time.time())
    print(f"seed {seed}")
    dice = random.Random(seed)
    for number in range(SEQUENCES):
        name = f"walk{number}"
        path = hub.root / "lab" / name / f"{name}.gguf"
        path.parent.mkdir(parents=True)
        path.write_bytes(f"GGUF {name} ".encode() * 100)
        digest = (await new_model(replicas[0], name))["artifacts"][0]["sha256"]
        walk = Walk(dice, replicas, await new_node(replicas[0], name), name, digest)
        steps = [walk.order, walk.cancel, walk.delete_or_register, walk.apply, walk.beat, walk.late_beat]
        for _ in range(STEPS):
            await dice.choices(steps, weights=[5, 1, 1, 4, 7, 3])[0]()
            await walk.check()
        await walk.apply()
