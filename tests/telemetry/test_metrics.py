"""``/metrics`` of the control API, as Prometheus reads it."""

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from control_api.automation.models import HostDrift, Job
from control_api.automation.states import HostStatus, JobPurpose, JobStatus
from control_api.kit.clock import utcnow
from tests.fleet.reports import add_host, bearer
from tests.running import Api

pytestmark = pytest.mark.anyio


async def figures(http: httpx2.AsyncClient) -> dict[str, float]:
    """Return the samples by name and the values of their labels."""
    answer = await http.get("/metrics")
    assert answer.status_code == 200, answer.text
    families = text_string_to_metric_families(answer.text)
    return {" ".join([s.name, *s.labels.values()]): s.value for family in families for s in family.samples}


@pytest.mark.parametrize("api", ["sqlite", "postgresql"], indirect=True)
async def test_drift_is_counted_by_status_of_hosts_in_service(api: Api) -> None:
    never = await figures(api.http)
    hosts = [await add_host(api, f"gpu-{number}", f"10.0.0.{number}") for number in range(1, 5)]
    ended = utcnow()
    async with api.database.control.write() as session:
        job = Job(playbook="converge.yml", requested_by="t", purpose=JobPurpose.DRIFT, status=JobStatus.SUCCESSFUL)
        job.finished_at = ended
        session.add(job)
        for host, status in zip(hosts, (HostStatus.IN_SYNC, HostStatus.IN_SYNC, HostStatus.DRIFTED), strict=False):
            session.add(HostDrift(host_id=host["id"], status=status, job_id=job.id, tasks=[]))

    found = await figures(api.http)

    assert never["muster_drift_last_run_timestamp_seconds"] == 0
    assert found["muster_drift_last_run_timestamp_seconds"] == pytest.approx(ended.timestamp(), abs=1)
    counts = {status: found[f"muster_drift_hosts {status}"] for status in HostStatus}
    assert counts == {HostStatus.IN_SYNC: 2, HostStatus.DRIFTED: 1, HostStatus.UNKNOWN: 1}, "gpu-4 was never checked"


async def test_figures_need_the_right_to_read(api: Api) -> None:
    key = (await api.http.post("/v0/api-keys", json={"name": "app", "scopes": ["inference"]})).json()["key"]
    assert (await api.http.get("/metrics", headers=bearer(key))).status_code == 403
