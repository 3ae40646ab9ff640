"""Figures of the router for Prometheus, by model and node; label values come from the route table, never from callers."""

from collections.abc import Iterator

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from control_api.router.balance import Balancer
from control_api.router.record import RequestRecord
from control_api.router.waiting import WaitingRoom

_SECONDS = (0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
CONTENT_TYPE = CONTENT_TYPE_LATEST


class Metrics:
    """A ``RecordSink`` that counts, beside gauges read from the balancer and the queue when somebody looks."""

    def __init__(self, balancer: Balancer, room: WaitingRoom) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Gauges(balancer, room))
        self._requests = Counter(
            "muster_router_requests",
            "Finished requests; status 499: the client left.",
            ("model", "status"),
            registry=self._registry,
        )
        self._errors = Counter(
            "muster_router_errors", "Errors of the router's own.", ("model", "code"), registry=self._registry
        )
        self._attempts = Counter("muster_router_attempts", "Requests sent to nodes.", ("model",), registry=self._registry)
        self._first_byte = self._histogram("muster_router_first_byte_seconds", "Until the first data of the answer.")
        self._duration = self._histogram("muster_router_duration_seconds", "Until the last byte of the answer.")
        self._queue = self._histogram("muster_router_queue_seconds", "Waiting for a free slot.")

    def record(self, record: RequestRecord) -> None:
        """Count one request."""
        self._requests.labels(record.model, record.status).inc()
        if record.error_code:
            self._errors.labels(record.model, record.error_code).inc()
        self._attempts.labels(record.model).inc(record.attempts)
        self._duration.labels(record.model).observe(record.duration_s)
        self._queue.labels(record.model).observe(record.queue_s)
        if record.first_byte_s is not None:
            self._first_byte.labels(record.model).observe(record.first_byte_s)

    def text(self) -> bytes:
        """Return all figures in Prometheus' text format."""
        return generate_latest(self._registry)

    def _histogram(self, name: str, what: str) -> Histogram:
        return Histogram(name, what, ("model",), buckets=_SECONDS, registry=self._registry)


class _Gauges(Collector):
    def __init__(self, balancer: Balancer, room: WaitingRoom) -> None:
        self._balancer = balancer
        self._room = room

    def collect(self) -> Iterator[Metric]:
        in_flight = GaugeMetricFamily("muster_router_in_flight", "Requests at a node now.", labels=("node", "model"))
        for route, count in self._balancer.in_flight.items():
            in_flight.add_metric(route, count)
        yield in_flight
        waiting = GaugeMetricFamily("muster_router_waiting", "Requests that wait for a free slot now.", labels=("model",))
        for model, count in self._room.waiting().items():
            waiting.add_metric((model,), count)
        yield waiting
