"""Settings that may be changed while everything runs."""

from typing import Any

from control_api.client.http import Http
from control_api.client.schemas import Page, PreferenceOut, SettingChangeOut


class Settings:
    """``/v0/settings``."""

    def __init__(self, http: Http) -> None:
        self._http = http

    async def change(self, values: dict[str, Any]) -> None:
        """Change settings by name; None goes back to the default."""
        await self._http.send("PATCH", "/v0/settings", json=values)

    async def changes(self) -> list[SettingChangeOut]:
        """Return who changed what, newest first."""
        return [change async for change in self._http.items(SettingChangeOut, "/v0/settings/changes")]

    async def list(self) -> list[PreferenceOut]:
        """Return all settings with who changed them last."""
        return (await self._http.get(Page[PreferenceOut], "/v0/settings")).items
