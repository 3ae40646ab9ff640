"""A fake control plane and a real dashboard, each on a port of its own."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from control_api.client import Client
from dashboards.app import create_app
from dashboards.router_client import RouterClient
from dashboards.settings import DashboardSettings
from dashboards.store import FleetStore
from tests.dashboards import fake_api, fake_fleet, rich_fleet
from tests.dashboards.browsing import chromium, foreign
from tests.dashboards.office import Office
from tests.dashboards.screenshots import ARGUMENTS, log_in
from tests.dashboards.servers import Running, serving
from tests.dashboards.waiting import until


@pytest.fixture
def fleet() -> fake_fleet.Fleet:
    """What the fake control API knows."""
    return rich_fleet.rich_fleet()


@pytest.fixture
def api(fleet: fake_fleet.Fleet) -> Iterator[Running]:
    """The fake control API and router."""
    with serving(lambda: fake_api.create_app(fleet)) as running:
        yield running


@pytest.fixture
def settings(api: Running) -> DashboardSettings:
    """Settings of a dashboard of that control API."""
    return DashboardSettings(api_url=api.url, router_url=api.url)


@pytest.fixture
def dashboard(settings: DashboardSettings) -> Iterator[Running]:
    """A dashboard."""
    with serving(lambda: create_app(settings)) as running:
        yield running


@pytest.fixture
async def office(api: Running) -> AsyncIterator[Office]:
    router = RouterClient(api.url)
    async with Client(api.url, fake_api.SERVICE_TOKEN) as client:
        store = FleetStore(client)
        running = asyncio.create_task(store.run())
        await until(lambda: store.snapshot.loaded)
        yield Office(client, router, store)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    await router.aclose()


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
