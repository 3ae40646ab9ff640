"""The dashboard in a real browser."""

import re

import panel as pn
import pytest
from playwright.sync_api import BrowserContext, Page, expect

from control_api.client.schemas import AlertKind
from dashboards.app import create_app
from dashboards.settings import DashboardSettings
from tests.dashboards import fake_api, fake_fleet, fleet_jobs
from tests.dashboards.browsing import visit
from tests.dashboards.fake_alerts import alert
from tests.dashboards.screenshots import SHOTS, SIZES, log_in
from tests.dashboards.servers import Running, serving

pytestmark = pytest.mark.browser


def test_what_is_wrong_comes_first_and_changes_show_by_themselves(page: Page, fleet: fake_fleet.Fleet, api: Running) -> None:
    expect(page.get_by_text("Node gpu-05 is offline")).to_be_visible()
    expect(page.get_by_text("Node gpu-01 is offline")).to_have_count(0)
    api.call(fleet.raise_alert, alert(AlertKind.NODE_OFFLINE, 1, "gpu-01"))
    expect(page.get_by_text("Node gpu-01 is offline")).to_be_visible()
    assert page.evaluate("document.documentElement.lang") == "en"


def test_a_node_is_drained_in_three_clicks_and_the_back_button_works(page: Page, fleet: fake_fleet.Fleet) -> None:
    page.get_by_role("link", name="Nodes", exact=True).click()
    expect(page.get_by_role("heading", name="Nodes")).to_be_visible()
    page.get_by_role("button", name=re.compile("Drain.*gpu-01")).click()
    page.get_by_role("textbox", name="Why, for others to read").fill("New fan")
    page.get_by_role("button", name="Drain the node").click()
    expect(page.get_by_role("article", name="gpu-01")).to_contain_text("Drained")
    drained = ("POST", f"/v0/nodes/{fleet.nodes[0].id}/drain", {"reason": "New fan", "force": False})
    assert fleet.calls == [drained]
    page.go_back()
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    expect(page).to_have_title("Overview · Muster")


def test_a_host_is_added_and_provisioned_and_its_output_comes_live(page: Page, fleet: fake_fleet.Fleet, api: Running) -> None:
    page.get_by_role("link", name="Hosts", exact=True).click()
    page.get_by_role("button", name="Add a host").click()
    page.get_by_role("textbox", name="Name", exact=True).fill("gpu 09")
    page.get_by_role("textbox", name="Address").fill("10.0.0.9")
    page.get_by_role("button", name="Add the host").click()
    expect(page.get_by_role("alert")).to_contain_text("The name may hold letters")
    page.get_by_role("textbox", name="Name", exact=True).fill("gpu-09")
    page.get_by_role("button", name="Add the host").click()
    row = page.get_by_role("row", name=re.compile("gpu-09"))
    row.get_by_role("button", name=re.compile("Provision")).click()
    expect(page.get_by_role("heading", name="site.yml")).to_be_visible()
    assert f"/jobs?id={fleet.jobs[0].id}" in page.url
    for number in range(1, 60):
        stdout = f"ok: [gpu-09] line {number}"
        api.call(fleet.add_event, fleet.jobs[0].id, fleet_jobs.event(number, "runner_on_ok", status="ok", stdout=stdout))
    expect(page.get_by_role("log")).to_contain_text("line 59")
    expect(page.get_by_text("line 59")).to_be_in_viewport()


def say(page: Page, text: str) -> None:
    """Ask something as fast as a person can: after the page has emptied the field, and has drawn what was typed."""
    ask = page.get_by_placeholder("Ask something…")
    expect(ask).to_have_value("")
    ask.fill(text)
    expect(page.get_by_role("button", name="Send message")).to_be_enabled()
    ask.press("Enter")


def test_the_playground_answers_stops_and_replaces_by_errors(page: Page, fleet: fake_fleet.Fleet) -> None:
    page.get_by_role("link", name="Playground").click()
    say(page, "What should I check?")
    expect(page.get_by_text("Three things")).to_be_visible()
    expect(page.get_by_text("40 tokens")).to_be_visible()
    send = page.get_by_role("button", name="Send message")
    expect(send).to_be_visible()
    fleet.chat_pause_s = 0.3
    say(page, "And slowly?")
    expect(page.get_by_text("Sure.")).to_have_count(2)
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_text("stopped")).to_be_visible()
    expect(send).to_be_visible()
    fleet.chat_pause_s, fleet.chat_error_after = 0.0, 2
    say(page, "And with an error?")
    expect(page.get_by_role("alert")).to_contain_text("The node gpu-01 stopped answering.")
    expect(page.get_by_text("Sure.")).to_have_count(2)


def test_the_language_is_switched_and_stays(page: Page) -> None:
    page.get_by_role("link", name="Models", exact=True).click()
    page.get_by_role("link", name="日本語").click()
    expect(page.get_by_role("heading", name="モデル", exact=True)).to_be_visible()
    assert page.evaluate("document.documentElement.lang") == "ja"
    page.reload()
    expect(page.get_by_role("link", name="ホスト", exact=True)).to_be_visible()


def test_the_scheme_follows_the_system_until_one_is_chosen(page: Page) -> None:
    def ground() -> str:
        return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))

    light = ground()
    page.emulate_media(color_scheme="dark")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    assert ground() != light
    page.emulate_media(color_scheme="light")
    expect(page.locator("html")).to_have_attribute("data-theme", "light")
    page.get_by_role("button", name="Switch between light and dark").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.reload()
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")


def test_logging_out_in_one_tab_ends_the_others(page: Page, context: BrowserContext, dashboard: Running) -> None:
    other = context.new_page()
    other.goto(f"{dashboard.url}/jobs")
    expect(other.get_by_role("heading", name="Jobs")).to_be_visible()
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    expect(other.get_by_role("heading", name="Log in")).to_be_visible()


CHECKS = """
() => {
  const wrong = [], ids = new Set()
  const roots = [document]
  const text = (e) => (e.getAttribute("aria-label") || e.title || e.textContent || "").trim()
  while (roots.length) {
    const root = roots.pop()
    const seen = new Set()
    for (const e of root.querySelectorAll("*")) {
      if (e.shadowRoot) roots.push(e.shadowRoot)
      if (e.id && seen.has(e.id)) wrong.push(`id ${e.id} twice`)
      seen.add(e.id)
      if (!e.checkVisibility()) continue
      if (e.matches("button, a[href], [role=button]") && !text(e)) wrong.push(`no name: ${e.outerHTML.slice(0, 120)}`)
      if (e.matches("img") && !e.hasAttribute("alt")) wrong.push("img without alt")
      if (e.matches("input:not([type=hidden]), textarea, select") && !e.labels?.length && !e.getAttribute("aria-label")
          && !e.getAttribute("aria-labelledby") && !e.placeholder && e.getAttribute("aria-hidden") !== "true")
        wrong.push(`no label: ${e.outerHTML.slice(0, 120)}`)
      if (e.matches("th") && !e.textContent.trim()) wrong.push("empty th")
    }
  }
  if (!document.documentElement.lang) wrong.push("no lang")
  if (!document.title) wrong.push("no title")
  const width = document.documentElement.scrollWidth
  if (width > innerWidth) wrong.push(`wider than the screen: ${width}`)
  return wrong
}
"""


def test_every_page_has_names_labels_one_heading_and_fits(page: Page) -> None:
    for width, height in SIZES.values():
        page.set_viewport_size({"width": width, "height": height})
        for name, (path, heading) in SHOTS.items():
            visit(page, path, heading)
            assert page.evaluate(CHECKS) == [], name
            for link in ("Overview", "Hosts", "Nodes", "Models", "Jobs", "Playground"):
                expect(page.get_by_role("navigation", name="Pages").get_by_role("link", name=link)).to_be_in_viewport()


def test_what_one_tab_does_wakes_no_other(page: Page, context: BrowserContext) -> None:
    """Panel has one switch for all sessions of a process. What hangs on it outlives its tab, and the event loop, too."""
    before = woken_by_all()
    other = context.new_page()
    other.goto(page.url)
    expect(other.get_by_role("heading", name="Overview")).to_be_visible()
    assert woken_by_all() == before


def woken_by_all() -> int:
    return len(pn.state.param.watchers.get("busy", {}).get("value", []))


def test_a_shared_subscription_serves_who_may_only_read(
    context: BrowserContext, api: Running, fleet: fake_fleet.Fleet, tmp_path_factory: pytest.TempPathFactory
) -> None:
    key = tmp_path_factory.mktemp("state") / "dashboard.key"
    key.write_text(fake_api.SERVICE_TOKEN + "\n")
    settings = DashboardSettings(api_url=api.url, router_url=api.url, service_token_file=key)
    with serving(lambda: create_app(settings)) as dashboard:
        page = context.new_page()
        log_in(page, dashboard.url, "viewer")
        page.get_by_role("link", name="Hosts", exact=True).click()
        expect(page.get_by_role("heading", name="Hosts", exact=True)).to_be_visible()
        expect(page.get_by_role("row", name=re.compile("gpu-01"))).to_be_visible()
        expect(page.get_by_role("button", name="Add a host")).to_have_count(0)
        assert len(fleet.listeners) == 1
