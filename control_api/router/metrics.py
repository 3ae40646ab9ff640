"""Figures of the router for Prometheus, by model and node; label values come from the route table, never from callers.

Counting is a few additions per request; Prometheus' own classes are used only to write the text when somebody looks.
"""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from control_api.router.balance import Balancer
from control_api.router.record import RecordSink, RequestRecord
from control_api.router.waiting import WaitingRoom

_SECONDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
CONTENT_TYPE = CONTENT_TYPE_LATEST


class Histogram:
    """Durations in buckets, by model."""

    def __init__(self) -> None:
        self._counts: dict[str, list[int]] = {}
        self._sums: defaultdict[str, float] = defaultdict(float)

    def observe(self, model: str, value_s: float) -> None:
        """Count one duration."""
        counts = self._counts.get(model)
        if counts is None:
            counts = self._counts[model] = [0] * (len(_SECONDS) + 1)
        counts[bisect_left(_SECONDS, value_s)] += 1
        self._sums[model] += value_s

    def family(self, name: str, what: str) -> Metric:
        """Return the figures as Prometheus wants them."""
        family = HistogramMetricFamily(name, what, labels=("model",))
        for model, counts in self._counts.items():
            total, buckets = 0, []
            for bound, count in zip((*map(str, _SECONDS), "+Inf"), counts, strict=True):
                total += count
                buckets.append((bound, total))
            family.add_metric((model,), buckets, self._sums[model])
        return family


class Metrics(Collector):
    """A ``RecordSink`` that counts; the balancer, the queue and the other sinks are asked when somebody looks."""

    def __init__(self, balancer: Balancer, room: WaitingRoom, others: Sequence[RecordSink]) -> None:
        self._balancer = balancer
        self._room = room
        self._others = others
        self.dropped = 0
        self._requests: Counter[tuple[str, int]] = Counter()
        self._errors: Counter[tuple[str, str]] = Counter()
        self._attempts: Counter[str] = Counter()
        self._tokens: Counter[tuple[str, str, str]] = Counter()
        self._first_byte, self._duration, self._queue, self._per_token = Histogram(), Histogram(), Histogram(), Histogram()
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def record(self, record: RequestRecord) -> None:
        """Count one request."""
        model = record.model
        self._requests[model, record.status] += 1
        self._attempts[model] += record.attempts
        if record.error_code:
            self._errors[model, record.error_code] += 1
        self._duration.observe(model, record.duration_s)
        self._queue.observe(model, record.queue_s)
        if record.first_byte_s is not None:
            self._first_byte.observe(model, record.first_byte_s)
        if record.node_id and record.prompt_tokens is not None:
            self._count_tokens(record, record.node_id, record.prompt_tokens, record.completion_tokens or 0)

    def _count_tokens(self, record: RequestRecord, node_id: str, prompt: int, completion: int) -> None:
        self._tokens[node_id, record.model, "prompt"] += prompt
        self._tokens[node_id, record.model, "completion"] += completion
        if record.stream and completion > 1 and record.first_byte_s is not None:
            self._per_token.observe(record.model, (record.duration_s - record.first_byte_s) / (completion - 1))

    def text(self) -> bytes:
        """Return all figures in Prometheus' text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Yield all figures."""
        requests = CounterMetricFamily(
            "muster_router_requests", "Finished requests; status 499: the client left.", labels=("model", "status")
        )
        for (model, status), count in self._requests.items():
            requests.add_metric((model, str(status)), count)
        errors = CounterMetricFamily("muster_router_errors", "Errors of the router's own.", labels=("model", "code"))
        for labels, count in self._errors.items():
            errors.add_metric(labels, count)
        attempts = CounterMetricFamily("muster_router_attempts", "Requests sent to nodes.", labels=("model",))
        for model, count in self._attempts.items():
            attempts.add_metric((model,), count)
        tokens = CounterMetricFamily("muster_router_tokens", "Tokens, as nodes counted them.", labels=("node", "model", "kind"))
        for where, count in self._tokens.items():
            tokens.add_metric(where, count)
        dropped = CounterMetricFamily("muster_router_history_dropped", "Finished requests that are missing in the history.")
        dropped.add_metric((), sum(sink.dropped for sink in self._others))
        yield from (requests, errors, attempts, tokens, dropped)
        yield self._first_byte.family("muster_router_first_byte_seconds", "Until the first data of the answer.")
        yield self._duration.family("muster_router_duration_seconds", "Until the last byte of the answer.")
        yield self._per_token.family("muster_router_token_seconds", "Between two tokens of a stream.")
        yield self._queue.family("muster_router_queue_seconds", "Waiting for a free slot.")
        yield from self._gauges()

    def _gauges(self) -> Iterator[Metric]:
        in_flight = GaugeMetricFamily("muster_router_in_flight", "Requests at a node now.", labels=("node", "model"))
        for route, count in self._balancer.in_flight.items():
            in_flight.add_metric(route, count)
        yield in_flight
        out = GaugeMetricFamily("muster_router_out_of_rotation", "1: the node failed and gets no requests.", labels=("node",))
        for breaker in self._balancer.out_of_rotation():
            out.add_metric((breaker.node_id,), 1)
        yield out
        waiting = GaugeMetricFamily("muster_router_waiting", "Requests that wait for a free slot now.", labels=("model",))
        for model, count in self._room.waiting().items():
            waiting.add_metric((model,), count)
        yield waiting
