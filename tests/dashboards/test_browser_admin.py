"""Keys, settings, orders and an API that goes away, in a real browser."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.dashboards import fake_admin, fake_fleet
from tests.dashboards.browsing import visit
from tests.dashboards.servers import Running

pytestmark = pytest.mark.browser


def test_a_key_is_made_once_shown_once_and_revoked(page: Page, fleet: fake_fleet.Fleet) -> None:
    page.get_by_role("link", name="API keys").click()
    page.get_by_role("button", name="Make a key").click()
    page.get_by_role("button", name="Make the key").click()
    expect(page.get_by_role("alert")).to_contain_text("Give the key a name")
    page.get_by_role("textbox", name="Name").fill("billing")
    page.get_by_role("textbox", name="Requests per minute").fill("many")
    page.get_by_role("button", name="Make the key").click()
    expect(page.get_by_role("alert")).to_contain_text("Requests per minute: a whole number")
    page.get_by_role("textbox", name="Requests per minute").fill("600")
    page.get_by_role("button", name="Make the key").dblclick()
    expect(page.get_by_text(fake_admin.SECRET)).to_be_visible()
    made = [body for method, path, body in fleet.calls if path == "/v0/api-keys"]
    assert [(body["name"], body["scopes"], body["requests_per_minute"]) for body in made] == [("billing", ["inference"], 600)]
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == fake_admin.SECRET
    page.evaluate("navigator.clipboard.writeText('something else')")
    # As without https.
    page.evaluate("window.kept = navigator.clipboard; Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    expect(page.get_by_role("button", name="Copy")).to_be_visible()
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("window.kept.readText()") == fake_admin.SECRET
    visit(page, "/settings", "Settings")
    visit(page, "/keys", "API keys")
    expect(page.get_by_text(fake_admin.SECRET)).to_have_count(0)
    page.get_by_role("button", name=re.compile("Revoke.*billing$")).click()
    page.get_by_role("button", name="Revoke the key").click()
    expect(page.get_by_role("row", name=re.compile("^billing "))).to_have_count(0)


def test_a_setting_is_changed_and_taken_back(page: Page, fleet: fake_fleet.Fleet) -> None:
    page.get_by_role("link", name="Settings").first.click()
    row = page.get_by_role("row", name=re.compile("^Memory that stays free"))
    row.get_by_role("button", name="Change").click()
    amount = page.get_by_role("textbox", name="Memory that stays free")
    amount.fill("much")
    page.get_by_role("button", name="Change it").click()
    expect(page.get_by_role("alert")).to_contain_text("an amount in GiB")
    amount.fill("1.5")
    page.get_by_role("button", name="Change it").click()
    expect(row.first).to_contain_text("1.5 GiB")
    assert fleet.admin.values["memory_reserve_bytes"] == 3 << 29
    row.get_by_role("button", name="Back to the default").click()
    expect(row.first).not_to_contain_text("1.5 GiB")
    assert "memory_reserve_bytes" not in fleet.admin.values


def test_what_failed_is_ordered_again_once_however_often_it_is_pressed(page: Page, fleet: fake_fleet.Fleet) -> None:
    visit(page, "/models?tab=downloads", "Models")
    page.get_by_role("button", name=re.compile("Try again.*smollm2")).dblclick()
    expect(page.get_by_text("The download is ordered.")).to_be_visible()
    assert [path for _, path, _ in fleet.calls] == [f"/v0/nodes/{fleet.nodes[1].id}/models/pull"]
    page.get_by_role("button", name=re.compile("Cancel.*gpt-oss:20b")).click()
    page.get_by_role("button", name="Cancel the download").click()
    expect(page.get_by_role("row", name=re.compile("gpt-oss:20b"))).to_contain_text("Cancelled")


def test_an_api_that_is_away_is_said_and_read_again_when_it_is_back(page: Page, fleet: fake_fleet.Fleet, api: Running) -> None:
    fleet.refuse["GET /v0/nodes"] = (503, "unavailable", "The store cannot be reached.")
    page.get_by_role("link", name="Nodes", exact=True).click()
    api.call(fleet.announce, "nodes", "node.state_changed", {})
    banner = page.get_by_role("alert")
    # It is said after a while only: see SILENCE_S.
    expect(banner).to_contain_text("The store cannot be reached.", timeout=60_000)
    expect(page.get_by_role("article", name="gpu-01")).to_be_visible()
    fleet.refuse.clear()
    banner.get_by_role("button", name="Try again").click()
    expect(banner).to_have_count(0)
