"""What the overview says is wrong."""

from typing import Any

from control_api.client.schemas import HubOut
from dashboards import alerts
from dashboards.i18n import language
from dashboards.store import Snapshot
from tests.dashboards import fleet_data as data

WORDS = language("en")


def find(**lists: Any) -> list[alerts.Alert]:
    return alerts.find(Snapshot(loaded=True, hub=HubOut(models=[], hub_reachable=True), **lists), WORDS)


def test_a_healthy_fleet_has_none() -> None:
    host = data.host(1, "gpu-01")
    assert not find(hosts=(host,), nodes=(data.node(1, "gpu-01"),), jobs=(data.job(1, "site.yml", "successful", [host]),))


def test_nodes_that_are_offline_come_before_those_that_are_degraded_or_wait() -> None:
    broken = data.on_node("m:1", "failed", error="The file is damaged.")
    found = find(
        nodes=(
            data.node(1, "waits", "pending"),
            data.node(2, "weak", degraded=True, models=[broken]),
            data.node(3, "gone", "offline"),
        )
    )
    assert [(alert.kind, alert.link) for alert in found] == [
        ("bad", f"/nodes?id={data.identifier(103)}"),
        ("warn", f"/nodes?id={data.identifier(101)}"),
        ("warn", f"/nodes?id={data.identifier(102)}"),
    ]
    assert found[2].text == "m:1: The file is damaged."


def test_drained_nodes_are_not_wrong() -> None:
    assert not find(nodes=(data.node(1, "gpu-01", "drained", admission="drained"),))


def test_a_failed_host_and_its_failed_job_are_one_thing() -> None:
    host = data.host(1, "gpu-01", "failed")
    (alert,) = find(hosts=(host,), jobs=(data.job(1, "site.yml", "failed", [host], reason="sudo: a password is required"),))
    assert alert.title == "Host gpu-01 could not be provisioned"
    assert alert.text == "sudo: a password is required"
    assert alert.link == f"/jobs?id={data.identifier(301)}"


def test_a_failed_job_is_wrong_until_a_later_one_went_well() -> None:
    host = data.host(1, "gpu-01")
    failed = data.job(2, "verify.yml", "failed", [host])
    assert [alert.title for alert in find(hosts=(host,), jobs=(failed,))] == ["Job verify.yml failed"]
    assert not find(hosts=(host,), jobs=(data.job(1, "verify.yml", "successful", [host]), failed))


def test_a_failed_download_is_wrong_until_it_is_ordered_again() -> None:
    node = data.node(1, "gpu-01")
    failed = data.download(1, 1, "m:1", "failed", 0.2, 100, error="No space left: 3 GB needed, 1 GB free.")
    (alert,) = find(nodes=(node,), tasks=(failed,))
    assert (alert.title, alert.text) == ("m:1 did not reach gpu-01", "No space left: 3 GB needed, 1 GB free.")
    again = data.download(2, 1, "m:1", "in_progress", 0.1, 100, created_at=data.NOW)
    assert not find(nodes=(node,), tasks=(failed, again))
