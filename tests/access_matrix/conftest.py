"""A dashboard before a fake control API."""

from collections.abc import Iterator

import pytest

from dashboards.app import create_app
from dashboards.settings import DashboardSettings
from tests.dashboards import fake_api, rich_fleet
from tests.dashboards.servers import Running, serving


@pytest.fixture
def dashboard() -> Iterator[Running]:
    """A dashboard."""
    fleet = rich_fleet.rich_fleet()
    with serving(lambda: fake_api.create_app(fleet)) as api:
        settings = DashboardSettings(api_url=api.url, router_url=api.url)
        with serving(lambda: create_app(settings)) as running:
            yield running
