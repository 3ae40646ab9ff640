"""Where models are and why not, what can be done about it, and long lists."""

import pytest

from control_api.client.schemas import JobStatus
from dashboards.components.listing import STEP
from dashboards.components.view import Action
from dashboards.places import memory
from dashboards.store import Snapshot
from tests.dashboards import fake_fleet, fleet_data, fleet_jobs, fleet_models
from tests.dashboards.office import Office

pytestmark = pytest.mark.anyio
GIB = fleet_data.GIB


async def test_a_model_tells_its_memory_part_by_part_and_why_nodes_refuse_it(office: Office) -> None:
    html = office.open("models", {"id": "gpt-oss:120b"}).html()
    for part in ("60.5 GiB", "10.5 GiB", "1.7 GiB", "8,192 tokens in each of 4 slots", "Computed from the header"):
        assert part in html, part
    refused = html.split("gpu-03")[1]
    assert "Refused" in refused
    assert "Needs 74.5 GiB of GPU memory, but 6.6 GiB of 22.5 GiB are free" in refused
    assert "Loaded on demand" in office.open("models", {"id": "gpt-oss:20b"}).html().split("gpu-04")[1]


async def test_what_failed_or_was_refused_is_ordered_again_and_what_runs_is_cancelled(
    office: Office, fleet: fake_fleet.Fleet
) -> None:
    page = office.open("models", {"id": "gpt-oss:120b"})
    again = f"{fleet_data.identifier(103)} gpt-oss:120b"
    assert f'data-action="order-again" data-value="{again}"' in page.html()
    await page.act(Action("order-again", again))
    wanted = {"model": "gpt-oss:120b", "retry_when_online": True}
    assert fleet.calls == [("POST", f"/v0/nodes/{fleet_data.identifier(103)}/models/pull", wanted)]
    assert f'data-action="cancel-task" data-value="{fleet.tasks[1].id}"' in page.html()
    await page.act(Action("cancel-task", fleet.tasks[1].id))
    ((title, do),) = office.asked
    assert title == "Cancel the download of gpt-oss:120b to gpu-04?"
    await do()
    assert fleet.calls[-1][1] == f"/v0/tasks/{fleet.tasks[1].id}/cancel"


async def test_only_the_latest_failure_is_offered_to_be_tried_again(office: Office) -> None:
    failed = fleet_models.download(1, 1, "m:1", "failed", 0.2, 100, error="No space left.", created_at=fleet_data.ago(99))
    again = fleet_models.download(2, 1, "m:1", "in_progress", 0.1, 100, created_at=fleet_data.NOW)
    node = fleet_data.node(1, "gpu-01")
    office.store._snapshot = Snapshot(nodes=(node,), tasks=(failed,), loaded=True)
    assert "order-again" in office.open("models", {"tab": "downloads"}).html()
    office.store._snapshot = Snapshot(nodes=(node,), tasks=(again, failed), loaded=True)
    html = office.open("models", {"tab": "downloads"}).html()
    assert "order-again" not in html
    assert "No space left." in html


async def test_a_node_tells_its_breakers_holds_and_what_its_memory_is_promised_to(office: Office) -> None:
    listed = office.open("nodes").html()
    assert "A router has taken it out of rotation" in listed.split('aria-labelledby="name-')[2]
    assert "it cannot be reached" in listed
    held = office.open("nodes", {"id": fleet_data.identifier(104)}).html()
    assert "Held back by user:alice: New power supply" in held
    assert "37.3 GiB promised / 79.6 GiB" in held
    assert "but 3.2 GiB of 159.3 GiB are free" in held


def test_memory_is_promised_to_residents_on_their_gpus_only() -> None:
    cards = fleet_data.gpus("NVIDIA L4", 24 * GIB, [(0.5, 1.0, 40.0), (0.0, 0.0, 30.0)])
    node = fleet_data.node(4, "gpu-04", cards=cards)
    fleet = Snapshot(nodes=(node,), models=tuple(fleet_models.registered()), assignments=tuple(fleet_models.wishes()))
    assert [each.promised_bytes for each in memory(fleet, node)] == [40_000_000_000, 40_000_000_000]
    assert [each.used_bytes for each in memory(fleet, node)] == [12 * GIB, 0]
    plain = fleet_data.node(1, "cpu-01", cards=([], []))
    (ram,) = memory(fleet, plain)
    assert (ram.gpu, ram.promised_bytes, ram.total_bytes) == (None, 16_300_000_000, 135089483776)


async def test_long_lists_are_searched_filtered_ordered_and_cut(office: Office) -> None:
    host = fleet_data.host(1, "gpu-01")
    jobs = [fleet_jobs.job(n, "site.yml", "successful", [host]) for n in range(1, STEP + 3)]
    jobs[7] = fleet_jobs.job(8, "verify.yml", "failed", [fleet_data.host(2, "gpu-77")], reason="no answer")
    office.store._snapshot = Snapshot(jobs=tuple(jobs), loaded=True)
    page = office.open("jobs")
    assert page.html().count("<tr data-key") == STEP
    assert "2 more" in page.html()
    await page.act(Action("more"))
    assert page.html().count("<tr data-key") == STEP + 2
    await page.act(Action("order", "job"))
    await page.act(Action("order", "job"))
    assert "verify.yml" in page.html().split("<tr data-key")[1]
    assert 'aria-sort="descending"' in page.html()
    await page.act(Action("search", "GPU-77 answer"))
    assert page.html().count("<tr data-key") == 1
    await page.act(Action("only", JobStatus.SUCCESSFUL))
    assert "Nothing matches" in page.html()


async def test_a_failed_job_is_repeated_for_its_failed_hosts_and_says_so(office: Office) -> None:
    hosts = [fleet_data.host(n, f"gpu-0{n}") for n in (1, 2, 3)]
    recap = {host.name: {"ok": 1, "changed": 0, "failed": int(host.name == "gpu-02"), "unreachable": 0} for host in hosts}
    job = fleet_jobs.job(1, "site.yml", "failed", hosts, recap=recap)
    office.store._snapshot = Snapshot(jobs=(job,), loaded=True)
    assert "Run again on 1 failed host" in office.open("jobs").html()
    assert "Run again on 1 failed host" in office.open("jobs", {"id": job.id}).html()


async def test_what_a_job_changed_is_read_when_asked_for(office: Office, fleet: fake_fleet.Fleet) -> None:
    page = office.open("jobs", {"id": fleet.jobs[1].id})
    await page.act(Action("changes"))
    page.draw()
    html = page._hosts.html  # type: ignore[attr-defined]
    assert "+context: 4096" in html
    assert "Make the service user" in html
