"""Make the pictures of ``docs/images``: ``make pictures``.

``python -m tests.dashboards.screenshots FOLDER [PAGE ...] [VARIANT ...]`` makes others, by default all pages, each as
``desktop-light``, ``desktop-dark``, ``phone-light`` and ``phone-dark``.
"""

import sys
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from dashboards.app import create_app
from dashboards.settings import DashboardSettings
from tests.dashboards import fake_api, fleet_data, rich_fleet
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
    "downloads": ("/models?tab=downloads", "Models"),
    "model": ("/models?id=gpt-oss:20b", "GPT-OSS 20B"),
    "jobs": ("/jobs", "Jobs"),
    "job": (f"/jobs?id={fleet_data.identifier(302)}", "site.yml"),
    "playground": ("/playground", "Playground"),
    "keys": ("/keys", "API keys"),
    "settings": ("/settings", "Settings"),
}
SIZES = {"desktop": (1440, 900), "phone": (390, 844)}
# Pages scroll inside: a window as high as this shows the whole of most.
WHOLE_PX = 1700
VARIANTS = [f"{size}-{scheme}" for size in SIZES for scheme in ("light", "dark")]
# What the documentation shows.
DOCS = Path(__file__).parents[2] / "docs" / "images"
IN_DOCS = {
    "desktop-light": ["overview", "model"],
    "desktop-dark": ["nodes", "job"],
    "phone-dark": ["overview"],
}


def log_in(page: Page, url: str, name: str = "alice") -> None:
    page.goto(f"{url}/login")
    page.get_by_label("User name").fill(name)
    page.get_by_label("Password").fill(fake_api.PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("heading", name="Overview").wait_for()


def shoot(page: Page, url: str, folder: Path, names: Iterable[str], variant: str) -> None:
    for name in names:
        page.goto(url + SHOTS[name][0])
        page.locator("h1").first.wait_for()
        if name == "playground":
            page.get_by_placeholder("Ask something…").fill("Node gpu-02 is degraded. What should I check?")
            page.get_by_placeholder("Ask something…").press("Enter")
            page.get_by_text("tokens/s").wait_for()
        page.wait_for_timeout(700)
        save(page.screenshot(), folder / f"{name}-{variant}.png")


def save(png: bytes, path: Path) -> None:
    """Write a picture with a palette: a third of the bytes, and nobody sees it."""
    Image.open(BytesIO(png)).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


def draw(browser: Browser, url: str, folder: Path, variant: str, names: Iterable[str], *, whole: bool) -> None:
    size, scheme = variant.split("-")
    width, height = SIZES[size]
    height = WHOLE_PX if whole else height
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme="dark" if scheme == "dark" else "light", locale="en-GB"
    )
    page = context.new_page()
    page.on("pageerror", lambda error: print("pageerror:", str(error)[:300]))
    page.on("requestfailed", lambda request: print("failed:", request.url[:200]))
    log_in(page, url)
    shoot(page, url, folder, names, variant)
    context.close()


def main(folder: Path, wanted: dict[str, list[str]], *, whole: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    fleet = rich_fleet.rich_fleet()
    with serving(lambda: fake_api.create_app(fleet)) as api:
        settings = DashboardSettings(api_url=api.url, router_url=api.url)
        with serving(lambda: create_app(settings)) as dashboard, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
            for variant, names in wanted.items():
                draw(browser, dashboard.url, folder, variant, names, whole=whole)
            browser.close()


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main(DOCS, IN_DOCS, whole=False)
    else:
        target, *rest = sys.argv[1:]
        chosen = [arg for arg in rest if arg in SHOTS] or list(SHOTS)
        main(Path(target), {v: chosen for v in VARIANTS if v in rest or not set(rest) & set(VARIANTS)}, whole=True)
