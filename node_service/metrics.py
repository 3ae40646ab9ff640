"""What Prometheus may read, gathered when it asks."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

from node_service.gate import Gate
from node_service.hardware import GpuProbe
from node_service.models.record import ModelRecord

__all__ = ["Metrics", "NodeCollector"]


class Metrics:
    """This node's registry, and the counters that are not read off its state."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._answers = Counter(
            "muster_node_requests",
            "Requests that an engine answered.",
            ("model", "status"),
            registry=self.registry,
        )

    def answered(self, model_id: str, status: int) -> None:
        """Count one answer of an engine."""
        self._answers.labels(model_id, str(status)).inc()

    def render(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self.registry)


class NodeCollector:
    """Reads gauges off the node's state."""

    def __init__(self, gate: Gate, probe: GpuProbe, records: dict[str, ModelRecord]) -> None:
        self._gate = gate
        self._probe = probe
        self._records = records

    def collect(self) -> Iterable[Metric]:
        """Yield the gauges; called by the registry."""
        yield _gauge("muster_node_in_flight", "Requests under way.", self._gate.in_flight)
        yield _gauge("muster_node_draining", "1 while new work is refused.", self._gate.draining)
        yield from self._models()
        yield from self._gpus()

    def _models(self) -> Iterable[Metric]:
        ready = GaugeMetricFamily("muster_node_model_ready", "1 if it answers.", labels=["model"])
        slots = GaugeMetricFamily("muster_node_model_slots", "Slots of a model.", labels=["model"])
        busy = GaugeMetricFamily("muster_node_model_in_flight", "Slots taken.", labels=["model"])
        restarts = GaugeMetricFamily("muster_node_engine_restarts", "Restarts after a crash.", labels=["model"])
        for model_id, record in self._records.items():
            ready.add_metric([model_id], record.ready)
            busy.add_metric([model_id], record.in_flight)
            if record.engine is not None:
                slots.add_metric([model_id], record.engine.slots)
                restarts.add_metric([model_id], record.engine.restarts)
        return ready, slots, busy, restarts

    def _gpus(self) -> Iterable[Metric]:
        total = GaugeMetricFamily("muster_node_gpu_memory_bytes", "GPU memory.", labels=["gpu"])
        used = GaugeMetricFamily("muster_node_gpu_memory_used_bytes", "In use.", labels=["gpu"])
        load = GaugeMetricFamily("muster_node_gpu_utilization", "Percent busy.", labels=["gpu"])
        for gpu in self._probe.latest.gpus:
            total.add_metric([gpu.uuid], gpu.memory_total)
            used.add_metric([gpu.uuid], gpu.memory_used)
            if gpu.utilization is not None:
                load.add_metric([gpu.uuid], gpu.utilization)
        return total, used, load


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)
