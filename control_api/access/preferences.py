"""Settings that an admin may change while everything runs. The environment gives the defaults; every change is on record."""

from collections.abc import Awaitable, Callable
from typing import Any

from sqlmodel.ext.asyncio.session import AsyncSession

from control_api.access import repository
from control_api.access.models import SettingChange
from control_api.access.schemas import PlacementPolicy, PreferenceOut, PreferencesPatch
from control_api.kit.wire import Out
from control_api.settings import Settings

PREFERENCES_SETTING = "preferences"


class Preferences(Out):
    """The values in force."""

    auto_distribution: PlacementPolicy
    memory_reserve_bytes: int
    disk_reserve_bytes: int


async def preferences(session: AsyncSession, settings: Settings) -> Preferences:
    """Return the values in force."""
    return Preferences(**_defaults(settings) | (await repository.get_setting(session, PREFERENCES_SETTING) or {}))


def _defaults(settings: Settings) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in Preferences.model_fields}


class PreferenceService:
    """Shows and changes settings. ``changed`` is told in the transaction of a change."""

    def __init__(self, settings: Settings, changed: Callable[[AsyncSession], Awaitable[None]]) -> None:
        self._settings = settings
        self._changed = changed

    async def out(self, session: AsyncSession) -> list[PreferenceOut]:
        """Return all settings that may be changed."""
        values, defaults = await preferences(session, self._settings), _defaults(self._settings)
        last = await repository.last_setting_changes(session)
        return [
            PreferenceOut(
                name=name,
                value=getattr(values, name),
                default=default,
                changed_by=last[name].changed_by if name in last else None,
                changed_at=last[name].changed_at if name in last else None,
            )
            for name, default in defaults.items()
        ]

    async def change(self, session: AsyncSession, wanted: PreferencesPatch, by: str) -> None:
        """Store what differs from what is in force, with who wanted it."""
        stored: dict[str, Any] = dict(await repository.get_setting(session, PREFERENCES_SETTING) or {})
        before = dict(stored)
        for name in wanted.model_fields_set:
            value = getattr(wanted, name)
            if value is None:
                stored.pop(name, None)
            else:
                stored[name] = value
        for name in sorted(stored.keys() | before.keys()):
            if stored.get(name) != before.get(name):
                session.add(SettingChange(name=name, value=stored.get(name), changed_by=by))
        if stored != before:
            await repository.put_setting(session, PREFERENCES_SETTING, stored)
            await session.flush()
            await self._changed(session)
