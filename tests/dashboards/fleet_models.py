"""Models of a fleet to look at: the hub's list, what is registered, where it shall be, and its downloads."""

from typing import Any

from control_api.client.schemas import AssignmentOut, HubOut, ModelOut, TaskOut
from tests.dashboards.fleet_data import GB, ago, identifier


def hub() -> HubOut:
    def entry(model_id: str, name: str, description: str, size: int, memory: int, **fields: Any) -> dict[str, Any]:
        defaults: dict[str, Any] = {
            "id": model_id,
            "name": name,
            "description": description,
            "repo": f"muster/{model_id.replace(':', '-')}",
            "recommended_filename": "model.gguf",
            "size_bytes": size,
            "required_memory_bytes": memory,
            "memory": {
                "weights_bytes": size,
                "kv_cache_bytes": (memory - size) * 3 // 4,
                "compute_bytes": (memory - size) // 8,
                "engine_bytes": (memory - size) // 8,
                "context": 8192,
                "slots": 4,
                "kv_type": "f16",
                "basis": "header",
            },
            "tags": [],
            "capabilities": ["chat"],
            "quantization": "MXFP4",
            "parameter_count": model_id.split(":")[1].upper(),
            "format": "gguf",
            "engine": "xllamacpp",
            "platforms": ["linux/amd64"],
            "context_length": 131072,
            "status": "available",
            "lifecycle_status": "available",
            "nodes": [],
            "hub": {"downloads": 4_812_345, "likes": 3_912, "fetched_at": ago(120)},
        }
        return defaults | fields

    def at(number: int, name: str, state: str, progress: float = 1.0) -> dict[str, Any]:
        return {"node_id": identifier(100 + number), "name": name, "node_state": "online", "state": state, "progress": progress}

    return HubOut.model_validate(
        {
            "hub_reachable": True,
            "models": [
                entry(
                    "gpt-oss:20b",
                    "GPT-OSS 20B",
                    "Open-weight reasoning model for lower latency and local use.",
                    12 * GB,
                    16 * GB,
                    status="downloaded",
                    lifecycle_status="ready",
                    nodes=[at(1, "gpu-01", "ready"), at(2, "gpu-02", "ready"), at(3, "gpu-03", "downloading", 0.42)],
                ),
                entry(
                    "gpt-oss:120b",
                    "GPT-OSS 120B",
                    "Open-weight reasoning model for production and general purpose use on one 80 GB card.",
                    65 * GB,
                    80 * GB,
                    status="downloading",
                    lifecycle_status="registered",
                    nodes=[at(4, "gpu-04", "downloading", 0.18)],
                ),
                entry(
                    "gpt-oss-safeguard:20b",
                    "GPT-OSS Safeguard 20B",
                    "Reasoning model for safety classification by a policy that you write.",
                    12 * GB,
                    16 * GB,
                ),
                entry(
                    "qwen3-coder:30b",
                    "Qwen3-Coder 30B",
                    "Mixture-of-experts model for agentic coding with a long context.",
                    18 * GB,
                    24 * GB,
                    quantization="Q4_K_M",
                    hub={"downloads": 1_203_113, "likes": 2_480, "fetched_at": ago(120)},
                ),
                entry(
                    "smollm2:135m",
                    "SmolLM2 135M",
                    "A very small model that answers on any machine, for trying Muster out.",
                    98_362_432,
                    300_000_000,
                    tags=["dev"],
                    quantization="Q4_1",
                    context_length=8192,
                    status="downloaded",
                    lifecycle_status="ready",
                    nodes=[at(1, "gpu-01", "ready"), at(2, "gpu-02", "ready")],
                ),
            ],
        }
    )


def registered() -> list[ModelOut]:
    """The registered models of the hub list."""
    return [
        ModelOut.model_validate(
            entry.model_dump()
            | {
                "revision": "9b1c0d5f6a7e8b9c0d1e2f3a4b5c6d7e8f9a0b1c",
                "created_at": ago(80000),
                "params": {},
                "needs": [],
                "artifacts": [{"name": "model.gguf", "path": "model.gguf", "size": entry.size_bytes, "sha256": "b1" * 32}],
                "ready_nodes": sum(n.state == "ready" for n in entry.nodes),
            }
        )
        for entry in hub().models
        if entry.lifecycle_status != "available"
    ]


def wishes() -> list[AssignmentOut]:
    """What shall be on the nodes of the fleet: loaded, on demand, refused and cancelled."""
    found: list[dict[str, Any]] = [
        *({"node_id": identifier(100 + n), "model_id": m} for n in (1, 2) for m in ("gpt-oss:20b", "smollm2:135m")),
        {"node_id": identifier(103), "model_id": "gpt-oss:20b"},
        {"node_id": identifier(103), "model_id": "gpt-oss:120b", "unschedulable": _REFUSED},
        {"node_id": identifier(104), "model_id": "gpt-oss:120b", "gpu_uuids": ["GPU-0", "GPU-1"]},
        {"node_id": identifier(104), "model_id": "gpt-oss:20b", "residency": "on_demand", "residency_reason": _WAITS},
        {"node_id": identifier(105), "model_id": "gpt-oss:20b", "paused": True},
    ]
    defaults = {"generation": 1, "residency": "resident", "residency_reason": None, "gpu_uuids": [], "paused": False}
    rest = {"unschedulable": None, "created_at": ago(7000)}
    return [AssignmentOut.model_validate(defaults | rest | wish) for wish in found]


_REFUSED = "needs 74.5 GiB of GPU memory, but 6.6 GiB of 22.5 GiB are free beside a reserve of 1.0 GiB"
_WAITS = "needs 14.9 GiB of GPU memory, but 3.2 GiB of 159.3 GiB are free beside a reserve of 2.0 GiB"


def download(number: int, node_number: int, model_id: str, status: str, done: float, total: int, **fields: Any) -> TaskOut:
    defaults: dict[str, Any] = {
        "id": identifier(500 + number),
        "node_id": identifier(100 + node_number),
        "model_id": model_id,
        "generation": 1,
        "status": status,
        "progress": done,
        "bytes_done": int(total * done),
        "bytes_total": total,
        "speed_bps": 112_000_000 if status == "in_progress" else 0,
        "eta_s": int(total * (1 - done) / 112_000_000) if status == "in_progress" else None,
        "source": None,
        "created_at": ago(300),
        "started_at": ago(280),
        "completed_at": None,
        "error": None,
        "job_id": identifier(301),
    }
    return TaskOut.model_validate(defaults | fields)
