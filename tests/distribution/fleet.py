"""Nodes for tests, played at the wire: they register with a ticket, send heartbeats, read manifests and ask for fetches."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx2

from tests.running import Api

GIB = 1 << 30


@dataclass
class WireNode:
    """A node as the control API sees it."""

    http: httpx2.AsyncClient
    id: str
    name: str
    host_id: str
    headers: dict[str, str]
    seq: int = 0
    applied: int = 0
    instance_id: str = "instance-1"
    models: list[dict[str, Any]] = field(default_factory=list)

    async def manifest(self) -> dict[str, Any]:
        """Read the manifest with the node's own token."""
        response = await self.http.get(f"/v0/nodes/{self.id}/manifest", headers=self.headers)
        assert response.status_code == 200, response.text
        return response.json()

    async def apply(self) -> dict[str, Any]:
        """Read the manifest and say so in a heartbeat."""
        manifest = await self.manifest()
        self.applied = manifest["revision"]
        await self.beat()
        return manifest

    async def beat(self, *models: dict[str, Any], fetches: list[str] | None = None, **fields: Any) -> dict[str, Any]:
        """Send a heartbeat; given models replace what was reported before."""
        self.seq += 1
        self.models = list(models) or self.models
        ready = sum(m["state"] == "ready" for m in self.models)
        body = {
            "instance_id": self.instance_id,
            "seq": self.seq,
            "applied_revision": self.applied,
            "ready_models": {"loaded": ready, "total": len(self.models)},
            "models": self.models,
            "fetches": fetches or [],
            "disk": {"total": 100 * GIB, "free": 50 * GIB},
            **fields,
        }
        response = await self.http.post(f"/v0/nodes/{self.id}/heartbeat", json=body, headers=self.headers)
        assert response.status_code == 200, response.text
        return response.json()

    async def ask(self, sha256: str, **fields: Any) -> httpx2.Response:
        """Ask where to fetch an artifact."""
        body = {"sha256": sha256, **fields}
        return await self.http.post(f"/v0/nodes/{self.id}/fetches", json=body, headers=self.headers)


def key_of(name: str) -> str:
    """Return the inference key that a node registers with."""
    return name.ljust(43, "k")


def report(model_id: str, generation: int, state: str, **fields: Any) -> dict[str, Any]:
    """Return a model's entry of a heartbeat."""
    return {"id": model_id, "generation": generation, "state": state, **fields}


async def new_node(
    api: Api,
    name: str,
    *,
    memory_bytes: int = 8 * GIB,
    disk_free_bytes: int = 50 * GIB,
    gpus: Sequence[int] = (),
    tags: Sequence[str] = (),
) -> WireNode:
    """Add a host, and let a node on it register; ``gpus``: their memory in bytes."""
    host = await api.http.post("/v0/hosts", json={"name": name, "address": "127.0.0.1", "tags": [*tags]})
    assert host.status_code == 201, host.text
    host_id = host.json()["id"]
    ticket = (await api.http.post(f"/v0/hosts/{host_id}/enrolment")).json()["ticket"]
    facts = {
        "name": name,
        "base_url": "http://127.0.0.1:8090",
        "version": "0.1.0",
        "instance_id": "instance-1",
        "inference_key": key_of(name),
        "hardware": {
            "memory_total": memory_bytes,
            "disk_total": 100 * GIB,
            "disk_free": disk_free_bytes,
            "gpus": [{"index": i, "uuid": f"GPU-{i}", "memory_total": size} for i, size in enumerate(gpus)],
        },
    }
    answer = await api.http.post("/v0/nodes/register", json=facts, headers={"authorization": f"Bearer {ticket}"})
    assert answer.status_code == 201, answer.text
    registered = answer.json()
    headers = {"authorization": f"Bearer {registered['node_token']}"}
    return WireNode(api.http, registered["node_id"], name, host_id, headers)


async def new_model(api: Api, name: str, **fields: Any) -> dict[str, Any]:
    """Register ``lab/<name>`` of the local hub as ``<name>:1b``; it needs 512 MiB of memory and a few bytes."""
    wanted = {"source": f"lab/{name}", "id": f"{name}:1b", **fields}
    response = await api.http.post("/v0/models/register", json=wanted)
    assert response.status_code == 201, response.text
    return response.json()


async def order(api: Api, model: str, **fields: Any) -> dict[str, Any]:
    """Order a model, expecting that the order is taken."""
    response = await api.http.post("/v0/models/distribute", json={"model": model, **fields})
    assert response.status_code == 202, response.text
    return response.json()


async def task(api: Api, task_id: str) -> dict[str, Any]:
    """Return a task."""
    response = await api.http.get(f"/v0/tasks/{task_id}")
    assert response.status_code == 200, response.text
    return response.json()


async def assignments(api: Api, node: WireNode) -> dict[str, dict[str, Any]]:
    """Return what is assigned to a node, by model."""
    return {a["model_id"]: a for a in (await api.http.get(f"/v0/nodes/{node.id}/assignments")).json()}
