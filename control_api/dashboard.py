"""Serves the dashboard. By itself, so that its process loads nothing of the servers: it knows only the API and the router."""

import uvicorn

from control_api.kit.serving import uvicorn_config
from control_api.settings import DASHBOARD_KEY_FILE, Settings
from dashboards.app import create_app
from dashboards.settings import DashboardSettings

# What is typed or pasted into a page comes as one message; the API takes no more than half of it.
LARGEST_MESSAGE_BYTES = 8 << 20


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
    config = uvicorn_config(
        create_app(wanted),
        wanted.host,
        wanted.port,
        wanted.trusted_proxies,
        largest_message_bytes=LARGEST_MESSAGE_BYTES,
        deflate=True,
    )
    await uvicorn.Server(config).serve()
