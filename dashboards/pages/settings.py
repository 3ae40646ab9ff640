"""The settings that may be changed while everything runs, and who changed them."""

from typing import Any

from panel import ui
from panel.viewable import Viewable

from control_api.client import ApiError
from control_api.client.schemas import PreferenceOut, SettingChangeOut
from dashboards.components.dialogs import FormDialog, typed
from dashboards.components.status import N_
from dashboards.components.view import Action
from dashboards.pages.base import Desk, Page
from dashboards.web import explain

GIB = 1 << 30
CHANGES_SHOWN = 20
TITLES = {
    "auto_distribution": N_("What is placed by itself"),
    "memory_reserve_bytes": N_("Memory that stays free"),
    "disk_reserve_bytes": N_("Disk that stays free"),
}
TEXTS = {
    "auto_distribution": N_("Which models go to nodes without an order. Nothing is ever taken away by it."),
    "memory_reserve_bytes": N_("On each GPU, or of the RAM of a node without one."),
    "disk_reserve_bytes": N_("On each node, beside what models take."),
}
POLICIES = {
    "registered": N_("registered: every registered model, where it fits"),
    "best-fit": N_("best-fit: on an empty node the largest that fits"),
    "all": N_("all: the supported models that are registered"),
    "off": N_("off: nothing"),
}


class RunTimeSettings(Page):
    """Shows settings and changes them. For administrators."""

    template = "settings.html"

    def __init__(self, desk: Desk, query: dict[str, str]) -> None:
        super().__init__(desk, query)
        self._form = FormDialog(desk.words, desk.change, self.text("Change a setting"), self.text("Change it"))
        self._settings: list[PreferenceOut] | None = None
        self._changes: list[SettingChangeOut] = []
        self._refusal: str | None = None

    def content(self) -> list[Viewable]:
        """Return the settings and their dialog."""
        return [self.view, self._form.dialog]

    def context(self) -> dict[str, Any]:
        """Return the settings and their latest changes, or why they cannot be shown."""
        return {
            "settings": self._settings,
            "changes": self._changes,
            "refusal": self._refusal,
            "titles": TITLES,
            "texts": TEXTS,
            "shown": self._shown,
        }

    async def enter(self) -> None:
        """Read the settings."""
        self.refresh()
        await self._read()

    async def act(self, action: Action) -> None:
        """Change a setting, or take it back to its default."""
        setting = next((setting for setting in self._settings or [] if setting.name == action.value), None)
        if action.name == "change" and setting:
            self._change(setting)
        elif action.name == "default" and setting:
            with self.reporting():
                await self._set(setting.name, None)
        elif action.name == "reload":
            await self._read()
            await super().act(action)
        else:
            await super().act(action)

    def _shown(self, name: str, value: Any) -> str:
        """Return a value for people."""
        if value is None:
            return self.text("the default")
        if name.endswith("_bytes"):
            return self.desk.words.size(value)
        return self.text(POLICIES[value]) if name == "auto_distribution" and value in POLICIES else str(value)

    async def _read(self) -> None:
        try:
            self._settings = await self.desk.client.settings.list()
            self._changes, self._refusal = (await self.desk.client.settings.changes())[:CHANGES_SHOWN], None
        except ApiError as error:
            self._refusal = explain(error, self.desk.words)
        self.refresh()

    async def _set(self, name: str, value: Any) -> None:
        await self.desk.client.settings.change({name: value})
        self.desk.store.touch("nodes", "assignments", "tasks")
        await self._read()

    def _change(self, setting: PreferenceOut) -> None:
        title = self.text(TITLES[setting.name])
        field: Any
        if setting.name == "auto_distribution":
            policies = {self.text(label): value for value, label in POLICIES.items()}
            now = self.text(POLICIES[setting.value])
            field = ui.Select(label=title, options=policies, value=setting.value, sizing_mode="stretch_width")
        else:
            now = f"{setting.value / GIB:g}"
            field = ui.TextInput(label=f"{title} (GiB)", value=now, sizing_mode="stretch_width")

        async def change() -> None:
            await self._set(setting.name, field.value if setting.name == "auto_distribution" else self._bytes(typed(field)))

        self._form.fill(self.text(TEXTS[setting.name]), [field], change)

    def _bytes(self, given: str) -> int:
        try:
            amount = float(given)
        except ValueError:
            amount = -1.0
        if not 0 <= amount <= 1 << 20:
            raise ValueError(self.text("Give an amount in GiB, such as 0.5 or 2."))
        return int(amount * GIB)
