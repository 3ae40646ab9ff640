"""What a node sends, for tests that play one."""

from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx2

from tests.running import Api

INFERENCE_KEY = "k" * 43


def registration(**changes: Any) -> dict[str, Any]:
    """Return a registration as a node on a CPU machine sends it."""
    return {
        "name": "whatever",
        "base_url": "http://10.0.0.1:8090",
        "version": "0.1.0",
        "instance_id": str(uuid4()),
        "inference_key": INFERENCE_KEY,
        "hardware": {"gpus": [], "cpu": {"cores": 4}, "memory_total": 1 << 34, "disk_total": 1 << 40, "disk_free": 1 << 39},
        "tags": [],
        **changes,
    }


async def add_host(api: Api, name: str = "gpu-01", address: str = "10.0.0.1", **changes: Any) -> dict[str, Any]:
    """Add a host and return it."""
    response = await api.http.post("/v0/hosts", json={"name": name, "address": address, **changes})
    assert response.status_code == 201, response.text
    host: dict[str, Any] = response.json()
    return host


async def ticket_for(api: Api, host: dict[str, Any], *, force: bool = False) -> str:
    """Return an enrolment ticket."""
    response = await api.http.post(f"/v0/hosts/{host['id']}/enrolment", params={"force": force})
    assert response.status_code == 201, response.text
    ticket: str = response.json()["ticket"]
    return ticket


async def register(api: Api, ticket: str, **changes: Any) -> httpx2.Response:
    """Register with a ticket."""
    return await api.http.post("/v0/nodes/register", json=registration(**changes), headers=bearer(ticket))


def bearer(token: str) -> dict[str, str]:
    """Return the header of a credential."""
    return {"authorization": f"Bearer {token}"}


@dataclass
class PlayedNode:
    """A registered node that a test plays."""

    api: Api
    id: str
    token: str
    instance_id: str = field(default_factory=lambda: str(uuid4()))
    seq: int = 0

    @classmethod
    async def enrolled(cls, api: Api, name: str = "gpu-01", address: str = "10.0.0.1") -> "PlayedNode":
        """Add a host and register its node."""
        ticket = await ticket_for(api, await add_host(api, name, address))
        answer = (await register(api, ticket, base_url=f"http://{address}:8090")).json()
        return cls(api, answer["node_id"], answer["node_token"])

    async def beat(self, **changes: Any) -> httpx2.Response:
        """Send a heartbeat."""
        self.seq += 1
        body = {"instance_id": self.instance_id, "seq": self.seq, "applied_revision": 1, "version": "0.1.0", **changes}
        return await self.api.http.post(f"/v0/nodes/{self.id}/heartbeat", json=body, headers=bearer(self.token))

    async def seen(self) -> dict[str, Any]:
        """Return the node as the API shows it."""
        node: dict[str, Any] = (await self.api.http.get(f"/v0/nodes/{self.id}")).json()
        return node


def ready(model_id: str, **changes: Any) -> dict[str, Any]:
    """Return a ready model of a heartbeat."""
    return {"id": model_id, "generation": 1, "state": "ready", "bytes_done": 10, "bytes_total": 10, "slots": 4, **changes}
