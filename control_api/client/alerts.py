"""Alerts."""

from control_api.client.http import Http
from control_api.client.schemas import AlertOut, Severity


class Alerts:
    """``/v0/alerts``."""

    def __init__(self, http: Http) -> None:
        self._http = http

    async def list(self, severity: Severity | None = None) -> list[AlertOut]:
        """Return what somebody must act on now, the critical first; ``severity``: only these."""
        return [alert async for alert in self._http.items(AlertOut, "/v0/alerts", severity=severity)]
