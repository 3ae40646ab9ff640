"""Pages as Python objects: what they show of a fleet, and what they tell the API."""

import re

import pytest

from control_api.client.schemas import AlertKind, HubOut, JobStatus, ModelState
from dashboards.components.view import Action
from dashboards.pages import PAGES
from dashboards.pages.jobs import Jobs
from dashboards.pages.playground import Playground, Turn
from dashboards.store import Snapshot
from tests.dashboards import fake_fleet, fleet_data, fleet_jobs, fleet_models
from tests.dashboards.fake_alerts import alert
from tests.dashboards.office import Office
from tests.dashboards.servers import Running
from tests.dashboards.waiting import until

pytestmark = pytest.mark.anyio


def posted(fleet: fake_fleet.Fleet) -> list[tuple[str, str]]:
    return [(method, path) for method, path, _ in fleet.calls]


@pytest.mark.parametrize("lang", ["en", "ja"])
@pytest.mark.parametrize(
    ("name", "query"),
    [
        *((name, {}) for name in PAGES),
        ("models", {"tab": "local"}),
        ("models", {"tab": "downloads"}),
        ("models", {"id": "gpt-oss:20b"}),
        ("models", {"id": "unknown"}),
        ("nodes", {"id": fleet_data.identifier(104)}),
        ("nodes", {"id": "unknown"}),
        ("jobs", {"id": fleet_data.identifier(301)}),
        ("jobs", {"id": "unknown"}),
    ],
)
async def test_every_page_shows_a_full_an_empty_and_an_unread_fleet(
    office: Office, name: str, query: dict[str, str], lang: str
) -> None:
    page = office.open(name, query, lang=lang)
    assert "<h1>" in page.html() or "empty" in page.html() or "skeleton" in page.html()
    office.store._snapshot = Snapshot(loaded=True)
    assert page.html()
    office.store._snapshot = Snapshot()
    assert "skeleton" in page.html()


async def test_what_nodes_and_people_say_is_shown_and_never_run(office: Office, fleet: fake_fleet.Fleet) -> None:
    evil = "<img src=x onerror=alert(1)>{{ 1+1 }}"
    node = fleet_data.node(1, "gpu-01", models=[fleet_data.on_node("m:1", "failed", error=evil)], tags=[evil], degraded=True)
    host = fleet_data.host(1, "gpu-01", tags=[evil])
    job = fleet_jobs.job(1, "site.yml", "failed", [host], reason=evil, requested_by=evil)
    told = alert(AlertKind.NODE_DEGRADED, 1, evil, message=evil)
    office.store._snapshot = Snapshot(hosts=(host,), nodes=(node,), jobs=(job,), alerts=(told,), loaded=True)
    for name, query in (("overview", {}), ("hosts", {}), ("nodes", {}), ("nodes", {"id": node.id}), ("jobs", {"id": job.id})):
        html = office.open(name, query).html()
        assert "<img" not in html
        assert "&lt;img src=x onerror=alert(1)&gt;{{ 1+1 }}" in html


async def test_who_may_only_read_is_offered_nothing_to_do(office: Office) -> None:
    looking = {"order", "search", "only", "more"}
    queries = [*((name, {}) for name in ("hosts", "nodes", "models", "jobs", "keys", "settings"))]
    queries += [("models", {"tab": "local"}), ("models", {"tab": "downloads"}), ("models", {"id": "gpt-oss:20b"})]
    for name, query in [*queries, ("nodes", {"id": fleet_data.identifier(103)}), ("jobs", {"id": fleet_data.identifier(301)})]:
        pages = [office.open(name, query, scopes=scopes) for scopes in (("admin",), ("read",))]
        for page in pages:
            await page.enter()
        may, may_not = ({*re.findall('data-action="([a-z-]+)"', page.html())} - looking for page in pages)
        for page in pages:
            await page.leave()
        assert may and not may_not, name


async def test_an_offline_node_does_not_look_as_if_it_ran(office: Office) -> None:
    node = fleet_data.node(5, "gpu-05", "offline")
    office.store._snapshot = Snapshot(nodes=(node,), models=tuple(fleet_models.registered()[:1]), loaded=True)
    assert "Ready" not in office.open("nodes").html()
    assert "<progress" not in office.open("nodes").html()
    local = office.open("models", {"tab": "local"}).html()
    assert "Offline" in local.split("gpu-05")[1]


async def test_provisioning_starts_a_job_and_goes_to_it(office: Office, fleet: fake_fleet.Fleet) -> None:
    await office.open("hosts").act(Action("provision", fleet.hosts[5].id))
    assert fleet.calls[-1][2] == {"playbook": "site.yml", "hosts": [fleet.hosts[5].id]}
    assert office.went == [f"/jobs?id={fleet.jobs[0].id}"]


async def test_an_admin_accepts_a_host_as_it_is_shown_and_an_operator_only_sees_that_it_waits(
    office: Office, fleet: fake_fleet.Fleet
) -> None:
    host = fleet_data.host(
        9,
        "gpu-09",
        "unprovisioned",
        acceptance="proposed",
        accepted_at=None,
        accepted_by=None,
        python="/opt/python",
        node_id=None,
    )
    fleet.hosts = [host]
    office.store._snapshot = Snapshot(hosts=(host,), loaded=True)
    for scopes, may in ((("admin",), True), (("operate",), False)):
        html = office.open("hosts", scopes=scopes).html()
        assert "Waiting for acceptance" in html
        assert ('data-action="accept"' in html) is may
        assert 'data-action="provision"' not in html
        assert 'data-action="forget"' in html

    await office.open("hosts").act(Action("accept", host.id))
    ((asked, do),) = office.asked
    assert asked == "Accept host gpu-09?" and not fleet.calls
    await do()
    ((_, path, body),) = fleet.calls
    assert path == f"/v0/hosts/{host.id}/accept"
    assert body["address"] == host.address and body["python"] == "/opt/python"


async def test_only_an_admin_is_offered_to_let_a_node_in(office: Office) -> None:
    node = fleet_data.node(1, "laptop", "pending")
    office.store._snapshot = Snapshot(nodes=(node,), loaded=True)
    offered = ['data-action="approve"' in office.open("nodes", scopes=(scope,)).html() for scope in ("admin", "operate")]
    assert offered == [True, False]


@pytest.mark.parametrize(
    ("name", "action", "path", "title"),
    [
        ("hosts", "forget", f"/v0/hosts/{fleet_data.identifier(1)}", "Forget host gpu-01?"),
        ("nodes", "forget", f"/v0/nodes/{fleet_data.identifier(101)}", "Forget node gpu-01?"),
        ("nodes", "drain", f"/v0/nodes/{fleet_data.identifier(101)}/drain", "Drain node gpu-01?"),
        ("nodes", "resume", f"/v0/nodes/{fleet_data.identifier(101)}/resume", "Resume node gpu-01?"),
        ("models", "forget", "/v0/models/gpt-oss:20b", "Delete model gpt-oss:20b?"),
        ("jobs", "cancel", f"/v0/jobs/{fleet_data.identifier(301)}/cancel", "Cancel this job?"),
    ],
)
async def test_what_cannot_be_taken_back_is_asked_first(
    office: Office, fleet: fake_fleet.Fleet, name: str, action: str, path: str, title: str
) -> None:
    things = {"hosts": fleet_data.identifier(1), "nodes": fleet_data.identifier(101), "models": "gpt-oss:20b"}
    await office.open(name).act(Action(action, things.get(name, fleet_data.identifier(301))))
    assert not fleet.calls
    ((asked, do),) = office.asked
    assert asked == title
    await do()
    assert [call[1] for call in fleet.calls] == [path]


async def test_draining_the_last_ready_node_of_a_model_is_asked_twice(office: Office, fleet: fake_fleet.Fleet) -> None:
    path = f"/v0/nodes/{fleet.nodes[0].id}/drain"
    fleet.refuse[f"POST {path}"] = (409, "last_ready_node", "'gpu-01' is the last ready node of smollm2:135m.")
    await office.open("nodes").act(Action("drain", fleet.nodes[0].id))
    await office.asked[0][1]()
    fleet.refuse.clear()
    await office.asked[1][1]()
    assert [body["force"] for _, _, body in fleet.calls] == [False, True]


async def test_what_the_api_refuses_is_said_in_its_words(office: Office, fleet: fake_fleet.Fleet) -> None:
    node = fleet.nodes[5]
    fleet.refuse[f"POST /v0/nodes/{node.id}/approve"] = (409, "not_pending", "The node is not waiting for approval.")
    await office.open("nodes").act(Action("approve", node.id))
    assert office.said == [("bad", "The node is not waiting for approval.")]


async def test_a_model_of_the_hub_is_registered_with_one_click(office: Office, fleet: fake_fleet.Fleet) -> None:
    page = office.open("models")
    assert 'data-action="register" data-value="qwen3-coder:30b"' in page.html()
    await page.act(Action("register", "qwen3-coder:30b"))
    assert fleet.calls[-1] == ("POST", "/v0/models/register", {"model": "qwen3-coder:30b"})
    assert office.said[0][0] == "ok"


async def test_the_hub_list_is_searched(office: Office) -> None:
    page = office.open("models")
    await page.act(Action("search", " Coder agentic "))
    assert "qwen3-coder:30b" in page.html()
    assert "gpt-oss:120b" not in page.html()


async def test_a_hub_that_is_away_is_said(office: Office) -> None:
    office.store._snapshot = Snapshot(loaded=True, hub=HubOut(models=fleet_models.hub().models, hub_reachable=False))
    html = office.open("models").html()
    assert "The hub does not answer" in html
    assert "gpt-oss:20b" in html


async def test_actions_that_no_page_knows_do_nothing(office: Office, fleet: fake_fleet.Fleet) -> None:
    for name in PAGES:
        await office.open(name).act(Action("drop-table", "x"))
    assert not fleet.calls


async def test_the_output_of_a_job_is_followed_to_its_end(office: Office, fleet: fake_fleet.Fleet, api: Running) -> None:
    job = fleet.jobs[0]
    page = office.open("jobs", {"id": job.id})
    assert isinstance(page, Jobs)
    shown: list[str] = []
    page._output.append = lambda element, html: shown.append(html)  # type: ignore[method-assign]
    await page.enter()
    await until(lambda: "TASK [node_service : Start the node service]</span>" in "".join(shown))
    api.call(fleet.add_event, job.id, fleet_jobs.event(99, "runner_on_ok", host="gpu-03", status="ok", stdout="ok: [late]"))
    await until(lambda: "ok: [late]" in "".join(shown))
    api.call(fleet.replace_job, job.model_copy(update={"status": JobStatus.SUCCESSFUL}))
    await until(lambda: page._following and page._following.done())
    await page.leave()
    assert "".join(shown).count("TASK [gpu_host : Make the service user]") == 1


class TestPlayground:
    async def open(self, office: Office) -> Playground:
        page = office.open("playground")
        assert isinstance(page, Playground)
        await page.enter()
        return page

    async def test_it_offers_what_the_router_can_be_asked(self, office: Office) -> None:
        page = await self.open(office)
        assert page._model.options == ["gpt-oss:20b", "smollm2:135m"]

    async def test_an_answer_comes_with_its_node_and_figures(self, office: Office) -> None:
        page = await self.open(office)
        await page.act(Action("say", "What is wrong?"))
        await until(lambda: not page._turns[-1].pending)
        answer = page._turns[-1]
        assert "<strong>Three things</strong>" in answer.html
        assert (answer.node, answer.tokens) == ("gpu-01", 40)

    async def test_an_error_takes_the_place_of_what_had_come(self, office: Office, fleet: fake_fleet.Fleet) -> None:
        fleet.chat_error_after = 3
        page = await self.open(office)
        await page.act(Action("say", "What is wrong?"))
        await until(lambda: not page._turns[-1].pending)
        assert page._turns[-1].text == ""
        assert page._turns[-1].error == "The node gpu-01 stopped answering."
        assert "Sure." not in page._conversation()

    async def test_stop_ends_the_request_and_keeps_what_came(self, office: Office, fleet: fake_fleet.Fleet) -> None:
        fleet.chat_pause_s = 0.2
        page = await self.open(office)
        await page.act(Action("say", "What is wrong?"))
        await until(lambda: page._turns[-1].text)
        page._stop()
        await until(lambda: not page._turns[-1].pending)
        assert page._turns[-1].stopped
        assert "Sure." in page._turns[-1].text
        await until(lambda: fleet.chat_gone)

    async def test_what_a_model_writes_is_never_run(self, office: Office) -> None:
        page = await self.open(office)
        page._turns.append(Turn("assistant", "<script>x</script> ![p](http://evil)"))
        assert "<script>" not in page._conversation()
        assert "<img" not in page._conversation()

    async def test_no_model_ready_says_what_to_do(self, office: Office, fleet: fake_fleet.Fleet) -> None:
        for model in fleet.hub.models:
            model.lifecycle_status = "registered"
        page = await self.open(office)
        assert "No model is ready" in page._conversation()


async def test_model_states_that_are_on_their_way_show_how_far(office: Office) -> None:
    coming = fleet_data.on_node("m:1", ModelState.DOWNLOADING, progress=0.425, bytes_done=425 << 20, bytes_total=1000 << 20)
    office.store._snapshot = Snapshot(nodes=(fleet_data.node(1, "gpu-01", models=[coming]),), loaded=True)
    html = office.open("nodes", {"id": fleet_data.identifier(101)}).html()
    assert 'value="0.425"' in html
    assert "425 MiB / 1,000 MiB" in html
