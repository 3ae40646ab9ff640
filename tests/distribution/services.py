"""Real node services on this machine, each on a host that the control API knows. They load no model."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx2

from tests.node_service.process import NodeProcess, node_settings


async def new_service(
    http: httpx2.AsyncClient, folder: Path, name: str, *, tags: Sequence[str] = (), **changed: Any
) -> NodeProcess:
    """Add a host, and return a node service for it that is not started yet; settings may be changed."""
    folder.mkdir(parents=True)
    host = (await http.post("/v0/hosts", json={"name": name, "address": "127.0.0.1", "tags": [*tags]})).json()
    (folder / "ticket").write_text((await http.post(f"/v0/hosts/{host['id']}/enrolment")).json()["ticket"])
    return NodeProcess(folder, node_settings(folder, name=name, api_url=str(http.base_url).rstrip("/"), **changed))


def part_size(node: NodeProcess) -> int:
    """Return how many bytes are on their way to a node that fetches one file."""
    return sum(part.stat().st_size for part in (node.store_dir / "partial").glob("*.part"))
