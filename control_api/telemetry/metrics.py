"""``GET /metrics``: the control plane for Prometheus. Read from the store at each scrape, so every replica says the same."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from control_api.access.principal import Reader
from control_api.automation import checks
from control_api.automation.states import HostStatus, JobPurpose
from control_api.kit.http import ReadSession

router = APIRouter(tags=["telemetry"])


@dataclass(frozen=True, eq=False)
class DriftFigures(Collector):
    """What the latest checks for drift found."""

    hosts: Mapping[HostStatus, int]
    last_run: datetime | None

    def collect(self) -> Iterator[Metric]:
        """Yield the figures."""
        hosts = GaugeMetricFamily("muster_drift_hosts", "Hosts in service, as the latest check found them.", labels=("status",))
        for status, count in self.hosts.items():
            hosts.add_metric((status,), count)
        yield hosts
        last = GaugeMetricFamily("muster_drift_last_run_timestamp_seconds", "When the latest check for drift ended; 0: never.")
        last.add_metric((), self.last_run.timestamp() if self.last_run else 0)
        yield last


@router.get("/metrics", response_class=Response)
async def metrics(_: Reader, session: ReadSession) -> Response:
    """Figures of the control plane in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(DriftFigures(await checks.drift_counts(session), await checks.last_run(session, JobPurpose.DRIFT)))
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
