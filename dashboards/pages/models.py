"""The models: what can be had (hub) and what the fleet has (local)."""

from typing import Any

from panel import ui
from panel.viewable import Viewable

from control_api.client.schemas import DistributeRequest, RegisterModelRequest, TaskOut
from dashboards.components.dialogs import FormDialog, typed
from dashboards.components.listing import Listing
from dashboards.components.view import Action
from dashboards.pages.base import Desk
from dashboards.pages.orders import Orders
from dashboards.places import Place, places

TABS = ("hub", "local", "downloads")


class Models(Orders):
    """The hub list as cards, ``?tab=local`` the registered models, ``?tab=downloads`` their way; ``?id=`` shows one."""

    listing: Listing[Any]

    def __init__(self, desk: Desk, query: dict[str, str]) -> None:
        super().__init__(desk, query)
        self._form = FormDialog(desk.words, desk.change, self.text("Register a model from a hub"), self.text("Register"))
        self._tab = query["tab"] if query.get("tab") in TABS else TABS[0]
        lists = {"hub": _models, "local": _models, "downloads": self._downloads}
        self.listing = _places() if "id" in query else lists[self._tab]()

    @property
    def template(self) -> str:  # type: ignore[override]
        """One of the lists, or one model."""
        return "model.html" if "id" in self.query else "models.html"

    def content(self) -> list[Viewable]:
        """Return the list and its dialog."""
        return [self.view, self._form.dialog]

    def context(self) -> dict[str, Any]:
        """Return a list as searched, or the model that is shown and where it is."""
        fleet = self.desk.store.snapshot
        if model_id := self.query.get("id"):
            model = next((model for model in fleet.models if model.id == model_id), None)
            found = places(fleet, model_id=model_id)
            tasks = [task for task in fleet.tasks if task.model_id == model_id]
            return {"model": model, "places": found, "rows": self.listing.rows(found), "tasks": tasks}
        every: dict[str, Any] = {"hub": fleet.hub.models, "local": fleet.models, "downloads": fleet.tasks}
        return {
            "tab": self._tab,
            "every": every[self._tab],
            "rows": self.listing.rows(every[self._tab]),
            "places": self._places,
        }

    def _places(self, model_id: str) -> list[Any]:
        return places(self.desk.store.snapshot, model_id=model_id)

    def _downloads(self) -> Listing[TaskOut]:
        def node_name(task: TaskOut) -> str:
            node = self.desk.store.snapshot.node(task.node_id)
            return node.name if node else task.node_id

        return Listing(
            {
                "model": lambda task: task.model_id,
                "node": node_name,
                "state": lambda task: task.status,
                "created": lambda task: task.created_at,
            },
            lambda task: f"{task.model_id} {node_name(task)} {task.error or ''}",
            lambda task: task.status,
            order="created",
            descending=True,
        )

    async def act(self, action: Action) -> None:
        """Register, distribute or forget a model."""
        if action.name == "register":
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

    async def _distribute(self, model_id: str) -> None:
        with self.reporting():
            answer = await self.desk.client.models.distribute(DistributeRequest(model=model_id))
            started = self.desk.words.ngettext("%d download ordered.", "%d downloads ordered.", len(answer.task_ids))
            lines = [started % len(answer.task_ids), *answer.warnings, *(skipped.reason for skipped in answer.skipped)]
            self.desk.say("ok" if answer.task_ids or not lines[1:] else "bad", " ".join(lines))
            self.desk.store.touch("tasks", "nodes", "hub", "assignments")

    def _ask_forget(self, model_id: str) -> None:
        async def forget() -> None:
            await self.desk.client.models.delete(model_id)
            self.desk.store.touch("models", "hub", "nodes", "assignments")
            if "id" in self.query:
                await self.desk.go("/models?tab=local")

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


def _models() -> Listing[Any]:
    """Return how models are searched and ordered; those of the hub stay in the order of the list."""
    return Listing(
        {
            "model": lambda model: model.id,
            "state": lambda model: model.lifecycle_status,
            "size": lambda model: model.size_bytes,
        },
        lambda model: f"{model.id} {model.name} {model.description} {' '.join(model.tags)}",
        lambda model: model.lifecycle_status,
    )


def _places() -> Listing[Place]:
    """Return how the places of a model are searched; those in trouble stay first."""
    return Listing({}, lambda place: f"{place.node.name} {' '.join(place.node.tags)} {place.why}")
