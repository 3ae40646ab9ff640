"""A fleet to look at: its hosts and nodes. The schemas check its shapes."""

from datetime import UTC, datetime, timedelta
from typing import Any

from control_api.client.schemas import HostOut, NodeOut

GB = 1_000_000_000
GIB = 1 << 30
NOW = datetime.now(UTC)


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def identifier(number: int) -> str:
    return f"0199a000-0000-7000-8000-{number:012d}"


# A host that an operator added.
PROPOSED: dict[str, Any] = {
    "acceptance": "proposed",
    "accepted_at": None,
    "accepted_by": None,
    "node_id": None,
    "host_key": None,
    "tags": [],
}


def host(number: int, name: str, state: str = "provisioned", **fields: Any) -> HostOut:
    defaults: dict[str, Any] = {
        "id": identifier(number),
        "name": name,
        "address": f"10.77.0.{number + 10}",
        "port": 22,
        "user": "ops",
        "become": True,
        "become_exe": None,
        "connection": "ssh",
        "python": None,
        "jump_host": None,
        "credential_id": None,
        "state": state,
        "tags": ["site:tokyo"],
        "variables": {},
        "host_key": {
            "type": "ssh-ed25519",
            "key": "AAAAC3NzaC1lZDI1NTE5AAAAI",
            "fingerprint": "SHA256:n1ZWs0kq3Tg2JqHcW8yq0f3y8uD5m7VQm9y0cXJrKxE",
            "pinned_at": ago(86400),
        },
        "node_id": identifier(100 + number),
        "created_at": ago(90000),
        "acceptance": "accepted",
        "accepted_at": ago(90000),
        "accepted_by": "user:alice",
    }
    return HostOut.model_validate(defaults | fields)


def on_node(model_id: str, state: str = "ready", **fields: Any) -> dict[str, Any]:
    defaults: dict[str, Any] = {
        "id": model_id,
        "generation": 1,
        "state": state,
        "progress": 1.0,
        "bytes_done": 12 * GB,
        "bytes_total": 12 * GB,
        "speed_bps": 0,
        "error": None,
        "size": 12 * GB,
        "installed_at": ago(7200),
        "slots": 4,
        "in_flight": 0,
        "device": "cuda",
        "gpu_layers": 99,
        "source": None,
    }
    return defaults | fields


def gpus(
    name: str, memory_bytes: int, loads: list[tuple[float, float, float]]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Hardware and metrics of cards; ``loads``: share of memory used, utilisation in percent, °C."""
    hardware = [
        {
            "index": i,
            "uuid": f"GPU-{i}",
            "name": name,
            "memory_total": memory_bytes,
            "driver": "580.95",
            "compute_capability": "8.9",
        }
        for i in range(len(loads))
    ]
    metrics = [
        {
            "index": i,
            "name": name,
            "memory_total": memory_bytes,
            "memory_used": int(memory_bytes * used),
            "utilization": utilization,
            "temperature": temperature,
            "power_w": 60 + utilization,
        }
        for i, (used, utilization, temperature) in enumerate(loads)
    ]
    return hardware, metrics


def node(number: int, name: str, state: str = "online", **fields: Any) -> NodeOut:
    hardware, metrics = fields.pop("cards", gpus("NVIDIA L4", 24152899584, [(0.62, 41.0, 58.0)]))
    defaults: dict[str, Any] = {
        "id": identifier(100 + number),
        "name": name,
        "host_id": identifier(number),
        "base_url": f"http://10.77.0.{number + 10}:8090",
        "state": state,
        "admission": "open",
        "degraded": False,
        "metrics_stale": False,
        "tags": ["site:tokyo", "gpu-a"],
        "version": "0.1.0",
        "instance_id": identifier(500 + number),
        "hardware": {
            "gpus": hardware,
            "cpu": {"model": "AMD EPYC 9354P", "cores": 32},
            "memory_total": 135089483776,
            "disk_total": 960197124096,
            "disk_free": 612345678901,
            "platform": "linux/amd64",
        },
        "gpus": metrics,
        "disk": {"total": 960197124096, "free": 612345678901},
        "ready_models": {"loaded": 2, "total": 2},
        "applied_revision": 7,
        "manifest_revision": 7,
        "registered_at": ago(86000),
        "last_heartbeat_at": ago(2),
        "models": [on_node("gpt-oss:20b"), on_node("smollm2:135m", bytes_total=98362432, size=98362432)],
        "holds": [],
    }
    return NodeOut.model_validate(defaults | fields)
