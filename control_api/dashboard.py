"""Serves the dashboard. By itself, so that its process loads nothing of the servers: it knows only the API and the router."""

from control_api.settings import DASHBOARD_KEY_FILE, Settings
from dashboards.app import serve
from dashboards.settings import DashboardSettings


async def serve_dashboard(settings: Settings) -> None:
    """Serve the dashboard until it is stopped."""
    wanted = DashboardSettings(
        host=settings.dashboard_host,
        port=settings.dashboard_port,
        api_url=settings.public_api_url,
        router_url=settings.public_router_url,
        public_url=settings.dashboard_url,
        trusted_proxies=tuple(settings.trusted_proxies),
        secure_cookies=settings.dashboard_secure_cookies,
        service_key=settings.dashboard_api_key.get_secret_value() if settings.dashboard_api_key else None,
        service_token_file=settings.state_dir / DASHBOARD_KEY_FILE,
    )
    await serve(wanted)
