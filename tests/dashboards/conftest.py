"""A fake control plane and a real dashboard, each on a port of its own."""

from collections.abc import Iterator

import pytest

from dashboards.app import create_app
from dashboards.settings import DashboardSettings
from tests.dashboards import fake_api
from tests.dashboards.servers import Running, serving


@pytest.fixture
def fleet() -> fake_api.Fleet:
    """What the fake control API knows."""
    return fake_api.rich_fleet()


@pytest.fixture
def api(fleet: fake_api.Fleet) -> Iterator[Running]:
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
