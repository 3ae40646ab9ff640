"""Make the pictures of ``docs/images``: ``python -m tests.dashboards.screenshots [page ...]``."""

import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from dashboards.app import create_app
from dashboards.settings import DashboardSettings
from tests.dashboards import fake_api, fleet_data
from tests.dashboards.servers import serving

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = ["--no-sandbox", "--headless=new", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage"]
# Where each page is, and its heading.
SHOTS = {
    "overview": ("/overview", "Overview"),
    "hosts": ("/hosts", "Hosts"),
    "nodes": ("/nodes", "Nodes"),
    "node": (f"/nodes?id={fleet_data.identifier(104)}", "gpu-04"),
    "models": ("/models", "Models"),
    "local": ("/models?tab=local", "Models"),
    "jobs": ("/jobs", "Jobs"),
    "job": (f"/jobs?id={fleet_data.identifier(302)}", "site.yml"),
    "playground": ("/playground", "Playground"),
}
SIZES = {"desktop": (1440, 900), "phone": (390, 844)}


def log_in(page: Page, url: str, name: str = "alice") -> None:
    page.goto(f"{url}/login")
    page.get_by_label("User name").fill(name)
    page.get_by_label("Password").fill(fake_api.PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("heading", name="Overview").wait_for()


def shoot(page: Page, url: str, folder: Path, names: list[str], suffix: str) -> None:
    for name in names:
        page.goto(url + SHOTS[name][0])
        page.locator("h1").first.wait_for()
        if name == "playground":
            page.get_by_placeholder("Ask something…").fill("Node gpu-02 is degraded. What should I check?")
            page.get_by_placeholder("Ask something…").press("Enter")
            page.get_by_text("tokens/s").wait_for()
        page.wait_for_timeout(700)
        page.screenshot(path=folder / f"{name}-{suffix}.png")


def main(folder: Path, names: list[str], variants: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    fleet = fake_api.rich_fleet()
    with serving(lambda: fake_api.create_app(fleet)) as api:
        settings = DashboardSettings(api_url=api.url, router_url=api.url)
        with serving(lambda: create_app(settings)) as dashboard, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
            for variant in variants:
                size, scheme = variant.split("-")
                width, height = SIZES[size]
                context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, locale="en-GB")
                page = context.new_page()
                page.on("console", lambda message: print("console:", message.type, message.text[:300]))
                page.on("pageerror", lambda error: print("pageerror:", str(error)[:300]))
                page.on("requestfailed", lambda request: print("failed:", request.url[:200]))
                log_in(page, dashboard.url)
                shoot(page, dashboard.url, folder, names, variant)
                context.close()
            browser.close()


if __name__ == "__main__":
    target, *rest = sys.argv[1:] or ["docs/images"]
    chosen = [arg for arg in rest if arg in SHOTS] or list(SHOTS)
    kinds = [arg for arg in rest if "-" in arg] or ["desktop-light", "desktop-dark", "phone-light", "phone-dark"]
    main(Path(target), chosen, kinds)
