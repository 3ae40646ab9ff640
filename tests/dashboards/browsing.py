"""What tests in a real browser share."""

import os
import shutil

import pytest
from playwright.sync_api import Page, expect

from tests.dashboards.servers import Running

expect.set_options(timeout=20_000)


def chromium() -> str:
    found = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
    if found is None:
        message = "NO BROWSER TESTS: there is no Chromium (Debian: apt install chromium)."
        pytest.fail(message) if os.environ.get("MUSTER_REQUIRE_HOSTS") == "1" else pytest.skip(message)
    return found


def foreign(url: str, dashboard: Running) -> bool:
    return not url.startswith((dashboard.url, dashboard.url.replace("http", "ws"), "data:", "blob:"))


def visit(page: Page, path: str, heading: str) -> None:
    """Go to a page as a link inside the page does."""
    page.evaluate("path => { history.pushState({}, '', path); dispatchEvent(new PopStateEvent('popstate')) }", path)
    expect(page.locator("h1")).to_have_text(heading)
