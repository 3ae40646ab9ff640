"""The dashboard in a real browser."""

import os
import re
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from control_api.client.schemas import NodeState
from dashboards.app import create_app
from dashboards.settings import DashboardSettings
from tests.dashboards import fake_api, fleet_data
from tests.dashboards.screenshots import ARGUMENTS, SHOTS, SIZES, log_in
from tests.dashboards.servers import Running, serving

pytestmark = pytest.mark.browser

expect.set_options(timeout=20_000)


def chromium() -> str:
    found = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
    if found is None:
        message = "NO BROWSER TESTS: there is no Chromium (Debian: apt install chromium)."
        pytest.fail(message) if os.environ.get("MUSTER_REQUIRE_HOSTS") == "1" else pytest.skip(message)
    return found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport={"width": 1440, "height": 900}, locale="en-GB", color_scheme="light")
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext, dashboard: Running) -> Iterator[Page]:
    """A page that is logged in. Errors of scripts and requests to other sites fail the test."""
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda request: wrong.append(request.url) if foreign(request.url, dashboard) else None)
    log_in(page, dashboard.url)
    yield page
    assert not wrong


def foreign(url: str, dashboard: Running) -> bool:
    return not url.startswith((dashboard.url, dashboard.url.replace("http", "ws"), "data:", "blob:"))


def test_what_is_wrong_comes_first_and_changes_show_by_themselves(page: Page, fleet: fake_api.Fleet, api: Running) -> None:
    expect(page.get_by_text("Node gpu-05 is offline")).to_be_visible()
    expect(page.get_by_text("Node gpu-01 is offline")).to_have_count(0)
    api.call(fleet.replace_node, fleet.nodes[0].model_copy(update={"state": NodeState.OFFLINE}))
    expect(page.get_by_text("Node gpu-01 is offline")).to_be_visible()
    assert page.evaluate("document.documentElement.lang") == "en"


def test_a_node_is_drained_in_three_clicks_and_the_back_button_works(page: Page, fleet: fake_api.Fleet) -> None:
    page.get_by_role("link", name="Nodes", exact=True).click()
    expect(page.get_by_role("heading", name="Nodes")).to_be_visible()
    page.get_by_role("button", name=re.compile("Drain.*gpu-01")).click()
    page.get_by_role("button", name="Drain the node").click()
    expect(page.get_by_role("article", name="gpu-01")).to_contain_text("Drained")
    assert [call[1] for call in fleet.calls] == [f"/v0/nodes/{fleet.nodes[0].id}/drain"]
    page.go_back()
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    expect(page).to_have_title("Overview · Muster")


def test_a_host_is_added_and_provisioned_and_its_output_comes_live(page: Page, fleet: fake_api.Fleet, api: Running) -> None:
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
        api.call(fleet.add_event, fleet.jobs[0].id, fleet_data.event(number, "runner_on_ok", status="ok", stdout=stdout))
    expect(page.get_by_role("log")).to_contain_text("line 59")
    expect(page.get_by_text("line 59")).to_be_in_viewport()


def test_the_playground_answers_stops_and_replaces_by_errors(page: Page, fleet: fake_api.Fleet) -> None:
    page.get_by_role("link", name="Playground").click()
    ask = page.get_by_placeholder("Ask something…")
    ask.fill("What should I check?")
    ask.press("Enter")
    expect(page.get_by_text("Three things")).to_be_visible()
    expect(page.get_by_text("40 tokens")).to_be_visible()
    send = page.get_by_role("button", name="Send message")
    expect(send).to_be_visible()
    fleet.chat_pause_s = 0.3
    ask.fill("And slowly?")
    ask.press("Enter")
    expect(page.get_by_text("Sure.")).to_have_count(2)
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_text("stopped")).to_be_visible()
    expect(send).to_be_visible()
    fleet.chat_pause_s, fleet.chat_error_after = 0.0, 2
    ask.fill("And with an error?")
    ask.press("Enter")
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


def visit(page: Page, path: str, heading: str) -> None:
    """Go to a page as a link inside the page does."""
    page.evaluate("path => { history.pushState({}, '', path); dispatchEvent(new PopStateEvent('popstate')) }", path)
    expect(page.locator("h1")).to_have_text(heading)


def test_every_page_has_names_labels_one_heading_and_fits(page: Page) -> None:
    for width, height in SIZES.values():
        page.set_viewport_size({"width": width, "height": height})
        for name, (path, heading) in SHOTS.items():
            visit(page, path, heading)
            assert page.evaluate(CHECKS) == [], name
            for link in ("Overview", "Hosts", "Nodes", "Models", "Jobs", "Playground"):
                expect(page.get_by_role("navigation", name="Pages").get_by_role("link", name=link)).to_be_in_viewport()


def test_a_shared_subscription_serves_who_may_only_read(
    context: BrowserContext, api: Running, fleet: fake_api.Fleet, tmp_path_factory: pytest.TempPathFactory
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
