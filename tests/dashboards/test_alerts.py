"""How the overview shows what the API says is wrong."""

import pytest

from control_api.client.schemas import AlertKind
from dashboards import alerts
from dashboards.i18n import language
from dashboards.store import Snapshot
from tests.dashboards import fleet_data as data
from tests.dashboards import fleet_jobs, fleet_models
from tests.dashboards.fake_alerts import alert


def show(*found: alerts.AlertOut, lang: str = "en", **lists: object) -> list[alerts.Shown]:
    return alerts.show(Snapshot(loaded=True, alerts=found, **lists), language(lang))  # type: ignore[arg-type]


@pytest.mark.parametrize("lang", ["en", "ja"])
@pytest.mark.parametrize("kind", AlertKind)
def test_every_kind_has_a_title_that_names_its_subject_and_leads_somewhere(kind: AlertKind, lang: str) -> None:
    (shown,) = show(alert(kind, 1, "gpu-01"), lang=lang)
    assert ("gpu-01" in shown.title) is (kind is not AlertKind.WORKER_MISSING)
    assert shown.kind == ("bad" if shown.alert.severity == "critical" else "warn")
    assert shown.link.split("?")[0] in ("/nodes", "/hosts", "/jobs", "/models")


def test_the_order_is_that_of_the_api() -> None:
    found = show(alert(AlertKind.NODE_OFFLINE, 3, "gpu-03"), alert(AlertKind.NODE_DEGRADED, 1, "gpu-01"))
    assert [each.title for each in found] == ["Node gpu-03 is offline", "Node gpu-01 is degraded"]
    assert found[1].link == f"/nodes?id={data.identifier(101)}"


def test_a_failed_host_leads_to_its_latest_job_and_a_failed_download_to_its_node() -> None:
    host, task = data.host(1, "gpu-01"), fleet_models.download(1, 2, "m:1", "failed", 0.2, 100)
    (shown,) = show(alert(AlertKind.HOST_FAILED, 1, "gpu-01"), jobs=(fleet_jobs.job(1, "site.yml", "failed", [host]),))
    assert shown.link == f"/jobs?id={data.identifier(301)}"
    (shown,) = show(alert(AlertKind.TASK_FAILED, 1, "m:1 to gpu-02"), tasks=(task,))
    assert shown.link == f"/nodes?id={data.identifier(102)}"
    assert show(alert(AlertKind.TASK_FAILED, 9, "m:1 to gpu-02"))[0].link == "/models?tab=downloads"
