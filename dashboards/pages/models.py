"""The models: what can be had (hub) and what the fleet has (local)."""

from typing import Any

from panel import ui
from panel.viewable import Viewable

from control_api.client.schemas import DistributeRequest, HubModelOut, RegisterModelRequest
from dashboards.components.dialogs import FormDialog, typed
from dashboards.components.view import Action
from dashboards.pages.base import Desk, Page

TABS = ("hub", "local")


class Models(Page):
    """The hub list as cards; with ``?tab=local`` the registered models with where they are."""

    template = "models.html"

    def __init__(self, desk: Desk, query: dict[str, str]) -> None:
        super().__init__(desk, query)
        self._form = FormDialog(desk.words, desk.change, self.text("Register a model from a hub"), self.text("Register"))
        self._search = ""

    def content(self) -> list[Viewable]:
        """Return the list and its dialog."""
        return [self.view, self._form.dialog]

    def context(self) -> dict[str, Any]:
        """Return the tab, the hub list as searched, and where registered models are."""
        fleet = self.desk.store.snapshot
        where: dict[str, list[Any]] = {model.id: [] for model in fleet.models}
        for node in fleet.nodes:
            for model in node.models:
                if model.id in where:
                    where[model.id].append((node, model))
        return {
            "tab": self.query.get("tab") if self.query.get("tab") in TABS else TABS[0],
            "hub": [model for model in fleet.hub.models if self._matches(model)],
            "search": self._search,
            "where": where,
        }

    async def act(self, action: Action) -> None:
        """Search, register, distribute or forget a model."""
        if action.name == "search":
            self._search = action.value.strip().lower()
            self.refresh()
        elif action.name == "register":
            with self.reporting(self.text("%s is registered. Nodes that it fits fetch it now.") % action.value):
                await self.desk.client.models.register(RegisterModelRequest(model=action.value))
                self.desk.store.touch("hub", "models", "nodes")
        elif action.name == "register-url":
            self._register_by_url()
        elif action.name == "distribute":
            await self._distribute(action.value)
        elif action.name == "forget":
            self._ask_forget(action.value)
        else:
            await super().act(action)

    def _matches(self, model: HubModelOut) -> bool:
        text = f"{model.id} {model.name} {model.description} {' '.join(model.tags)}".lower()
        return all(word in text for word in self._search.split())

    async def _distribute(self, model_id: str) -> None:
        with self.reporting():
            answer = await self.desk.client.models.distribute(DistributeRequest(model=model_id))
            started = self.desk.words.ngettext("%d download ordered.", "%d downloads ordered.", len(answer.task_ids))
            lines = [started % len(answer.task_ids), *answer.warnings, *(skipped.reason for skipped in answer.skipped)]
            self.desk.say("ok", " ".join(lines))
            self.desk.store.touch("tasks", "nodes", "hub")

    def _ask_forget(self, model_id: str) -> None:
        async def forget() -> None:
            await self.desk.client.models.delete(model_id)
            self.desk.store.touch("models", "hub", "nodes")

        text = self.text("It is not answered any more, and every node deletes its files.")
        self.desk.ask(self.text("Delete model %s?") % model_id, text, self.text("Delete the model"), forget)

    def _register_by_url(self) -> None:
        _ = self.text
        source = ui.TextInput(
            label=_("Hub URL, or repository:file"),
            placeholder="https://huggingface.co/org/repo/blob/main/model-Q4_K_M.gguf",
            sizing_mode="stretch_width",
        )
        name = ui.TextInput(label=_("Id in Muster (family:variant)"), placeholder="my-model:7b", sizing_mode="stretch_width")

        async def register() -> None:
            if not typed(source):
                raise ValueError(_("Say where the model is."))
            wanted = RegisterModelRequest(source=typed(source), id=typed(name) or None)
            model = await self.desk.client.models.register(wanted)
            self.desk.say("ok", _("%s is registered. Nodes that it fits fetch it now.") % model.id)
            self.desk.store.touch("hub", "models", "nodes")

        self._form.fill(_("Only its description is stored here; nodes fetch the files from the hub."), [source, name], register)
