"""A fleet with something of everything."""

from control_api.client.schemas import (
    NodeOut,
)
from tests.dashboards import fake_alerts, fleet_jobs, fleet_models
from tests.dashboards import fleet_data as data
from tests.dashboards.fake_fleet import Fleet


def rich_fleet() -> Fleet:
    """A fleet with something of everything."""
    hosts = [
        data.host(1, "gpu-01"),
        data.host(2, "gpu-02"),
        data.host(3, "gpu-03", tags=["site:osaka"]),
        data.host(4, "gpu-04", tags=["site:osaka", "h100"]),
        data.host(5, "gpu-05", "failed"),
        data.host(6, "gpu-06", "unprovisioned", node_id=None, host_key=None),
        data.host(7, "gpu-07", "unprovisioned", **data.PROPOSED),
    ]
    reason = "gpu-05: The node service did not answer on port 8090 within 60 s."
    recap = {"gpu-05": {"ok": 22, "changed": 3, "failed": 1, "unreachable": 0, "skipped": 4}}
    jobs = [
        fleet_jobs.job(1, "site.yml", "running", hosts[2:4]),
        fleet_jobs.job(2, "site.yml", "failed", [hosts[4]], rc=2, reason=reason, recap=recap),
        fleet_jobs.job(3, "distribute_models.yml", "successful", hosts[:4]),
        fleet_jobs.job(4, "site.yml", "successful", hosts[:2]),
        fleet_jobs.job(5, "verify.yml", "cancelled", hosts[:1]),
    ]
    tasks = [
        fleet_models.download(1, 3, "gpt-oss:20b", "in_progress", 0.42, 12 * data.GB),
        fleet_models.download(2, 4, "gpt-oss:120b", "in_progress", 0.18, 65 * data.GB),
        fleet_models.download(3, 2, "smollm2:135m", "failed", 1.0, 98362432, error=_DAMAGED),
    ]
    events = {
        jobs[0].id: fleet_jobs.run_output(["gpu-03", "gpu-04"]),
        jobs[1].id: fleet_jobs.run_output(["gpu-05"], failing="gpu-05"),
    }
    return Fleet(
        hosts=hosts,
        nodes=_rich_nodes(),
        models=fleet_models.registered(),
        jobs=jobs,
        tasks=tasks,
        events=events,
        assignments=fleet_models.wishes(),
        alerts=fake_alerts.of_the_rich_fleet(),
        changes=fleet_jobs.changes("gpu-05"),
        slowest=fleet_jobs.slowest("gpu-05"),
    )


_DAMAGED = "The file is damaged: sha256 differs from the manifest."


def _rich_nodes() -> list[NodeOut]:
    broken = data.on_node("smollm2:135m", "failed", error=_DAMAGED, progress=0.0)
    coming = data.on_node("gpt-oss:20b", "downloading", progress=0.42, bytes_done=5_040_000_000, speed_bps=112_000_000)
    large = data.on_node("gpt-oss:120b", "downloading", progress=0.18, bytes_done=11_700_000_000, bytes_total=65_000_000_000)
    none_loaded = {"loaded": 0, "total": 1}
    return [
        data.node(1, "gpu-01"),
        data.node(
            2,
            "gpu-02",
            degraded=True,
            ready_models={"loaded": 1, "total": 2},
            models=[data.on_node("gpt-oss:20b", in_flight=3), broken],
            breakers=[{"router_id": "router-1", "state": "open", "cause": "unreachable", "since": data.ago(40)}],
        ),
        data.node(3, "gpu-03", "registering", tags=["site:osaka"], ready_models=none_loaded, models=[coming]),
        data.node(
            4,
            "gpu-04",
            "drained",
            admission="drained",
            tags=["site:osaka", "h100"],
            cards=data.gpus("NVIDIA H100 80GB HBM3", 85_520_809_984, [(0.2, 4.0, 41.0), (0.18, 2.0, 40.0)]),
            ready_models=none_loaded,
            models=[large | {"speed_bps": 96_000_000}],
            holds=[{"holder": "user:alice", "reason": "New power supply", "at": data.ago(1800)}],
        ),
        data.node(5, "gpu-05", "offline", metrics_stale=True, last_heartbeat_at=data.ago(412)),
        data.node(7, "gpu-07", "pending", admission="pending", host_id=None, ready_models={"loaded": 0, "total": 0}, models=[]),
    ]
