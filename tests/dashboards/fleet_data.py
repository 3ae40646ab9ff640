"""A fleet to look at: hosts, nodes in every state, models on their way, jobs with output. The schemas check its shapes."""

from datetime import UTC, datetime, timedelta
from typing import Any

from control_api.client.schemas import (
    HostOut,
    HubOut,
    JobEventOut,
    JobOut,
    ModelOut,
    NodeOut,
    TaskOut,
)

GB = 1_000_000_000
GIB = 1 << 30
NOW = datetime.now(UTC)


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def identifier(number: int) -> str:
    return f"0199a000-0000-7000-8000-{number:012d}"


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


def job(number: int, playbook: str, status: str, hosts: list[HostOut], **fields: Any) -> JobOut:
    defaults: dict[str, Any] = {
        "id": identifier(300 + number),
        "playbook": playbook,
        "hosts": [{"id": h.id, "name": h.name} for h in hosts],
        "extra_vars": {},
        "check": False,
        "external": False,
        "status": status,
        "reason": None,
        "attempt": 1,
        "rc": 0 if status == "successful" else None,
        "priority": 0,
        "timeout_s": 7200,
        "retry_of": None,
        "requested_by": "user:alice",
        "created_at": ago(900 * number),
        "started_at": ago(900 * number - 2),
        "finished_at": None if status in ("queued", "running") else ago(900 * number - 184),
        "cancel_requested_at": None,
        "recap": {h.name: {"ok": 41, "changed": 0, "failed": 0, "unreachable": 0, "skipped": 6} for h in hosts},
        "ansible_version": "2.21.5",
        "events": {"stored": 12, "expected": None if status == "running" else 12},
    }
    return JobOut.model_validate(defaults | fields)


def event(number: int, kind: str, **fields: Any) -> JobEventOut:
    defaults: dict[str, Any] = {
        "id": number,
        "attempt": 1,
        "counter": number,
        "event": kind,
        "at": ago(60 - number),
        "host": None,
        "play": None,
        "role": None,
        "task": None,
        "status": None,
        "duration_s": None,
        "stdout": "",
        "diff": None,
    }
    return JobEventOut.model_validate(defaults | fields)


def run_output(hosts: list[str], *, failing: str | None = None) -> list[JobEventOut]:
    """Output of a short run; ``failing``: the host whose last task fails."""
    events = [event(1, "playbook_on_play_start", play="Provision GPU hosts", stdout="PLAY [Provision GPU hosts] " + "*" * 52)]
    tasks = [
        ("gpu_host", "Assert that the host can be a GPU host", "ok"),
        ("gpu_host", "Make the service user", "changed"),
        ("node_service", "Copy the wheelhouse", "changed"),
        ("node_service", "Render the configuration", "changed"),
        ("node_service", "Start the node service", "ok"),
    ]
    for role, name, status in tasks:
        events.append(
            event(len(events) + 1, "playbook_on_task_start", role=role, task=name, stdout=f"TASK [{role} : {name}] " + "*" * 40)
        )
        for host_name in hosts:
            last = name == tasks[-1][1]
            shown = "failed" if last and host_name == failing else status
            text = f"{shown}: [{host_name}]"
            if shown == "failed":
                text = (
                    f'fatal: [{host_name}]: FAILED! => {{"msg": "The node service did not answer on port 8090 within 60 s."}}'
                )
            diff = "--- before\n+++ after\n@@ -1 +1 @@\n-context: 2048\n+context: 4096\n" if name.startswith("Render") else None
            events.append(
                event(
                    len(events) + 1,
                    f"runner_on_{shown}",
                    host=host_name,
                    role=role,
                    task=name,
                    status=shown,
                    duration_s=1.4,
                    stdout=text,
                    diff=diff,
                )
            )
    return events


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
                "kv_cache_bytes": memory - size,
                "compute_bytes": 0,
                "engine_bytes": 0,
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
