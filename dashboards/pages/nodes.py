"""The nodes: what they report of themselves, and holding them back from work."""

from functools import partial
from typing import Any

from panel import ui

from control_api.client import ApiError
from control_api.client.schemas import NodeOut
from dashboards.components.dialogs import typed
from dashboards.components.listing import Listing
from dashboards.components.view import Action
from dashboards.pages.base import Desk
from dashboards.pages.orders import Orders
from dashboards.places import memory, places

LAST_READY = "last_ready_node"


class Nodes(Orders):
    """Lists nodes; with ``?id=`` shows one."""

    listing: Listing[NodeOut]

    def __init__(self, desk: Desk, query: dict[str, str]) -> None:
        super().__init__(desk, query)
        self.listing = Listing(
            {"name": lambda node: node.name},
            lambda node: f"{node.name} {node.base_url} {' '.join(node.tags)} {' '.join(model.id for model in node.models)}",
            lambda node: node.state,
            order="name",
        )

    @property
    def template(self) -> str:  # type: ignore[override]
        """The list, or one node."""
        return "node.html" if "id" in self.query else "nodes.html"

    def context(self) -> dict[str, Any]:
        """Return the list, or the node that is shown with what is on it."""
        fleet = self.desk.store.snapshot
        if "id" not in self.query:
            return {"rows": self.listing.rows(fleet.nodes), "memory": partial(memory, fleet)}
        node = fleet.node(self.query["id"])
        return {
            "node": node,
            "places": places(fleet, node_id=node.id) if node else [],
            "memory": memory(fleet, node) if node else [],
            "models": {model.id: model for model in fleet.models},
        }

    async def act(self, action: Action) -> None:
        """Approve, drain, resume or forget a node."""
        node = self.desk.store.snapshot.node(action.value)
        if node is None:
            await super().act(action)
        elif action.name == "approve":
            with self.reporting(self.text("Node %s is let in.") % node.name):
                await self.desk.client.nodes.approve(node.id)
                self.desk.store.touch("nodes")
        elif action.name == "resume":
            self._ask_resume(node)
        elif action.name == "drain":
            self._ask_drain(node)
        elif action.name == "forget":
            self._ask_forget(node)

    def _ask_resume(self, node: NodeOut) -> None:
        async def resume() -> None:
            await self.desk.client.nodes.resume(node.id, all_holds=True)
            self.desk.store.touch("nodes")
            self.desk.say("ok", self.text("Node %s takes work again.") % node.name)

        held = [f"{hold.holder}: {hold.reason}" if hold.reason else hold.holder for hold in node.holds]
        text = self.text("It takes work again at once. This ends the holds of: %s.") % "; ".join(held)
        others = any(hold.holder != f"user:{self.desk.user.user_name}" for hold in node.holds)
        self.desk.ask(self.text("Resume node %s?") % node.name, text, self.text("Resume the node"), resume, danger=others)

    def _ask_drain(self, node: NodeOut) -> None:
        reason = ui.TextInput(
            label=self.text("Why, for others to read"), max_length=256, sizing_mode="stretch_width", margin=(10, 10, 20, 10)
        )

        async def drain() -> None:
            try:
                await self._drain(node, typed(reason))
            except ApiError as error:
                if error.code != LAST_READY:
                    raise
                models = ", ".join(str(model) for model in error.details or [])
                text = self.text("It is the last ready node of %s: nobody answers for it meanwhile.") % models
                action, again = self.text("Drain it anyway"), partial(self._drain, node, typed(reason), force=True)
                self.desk.ask(self.text("Drain node %s?") % node.name, text, action, again)

        text = self.text("It finishes what it has and gets nothing new until it is resumed.")
        title, action = self.text("Drain node %s?") % node.name, self.text("Drain the node")
        self.desk.ask(title, text, action, drain, danger=False, fields=[reason])

    async def _drain(self, node: NodeOut, reason: str, *, force: bool = False) -> None:
        await self.desk.client.nodes.drain(node.id, reason=reason or self.text("from the dashboard"), force=force)
        self.desk.store.touch("nodes")

    def _ask_forget(self, node: NodeOut) -> None:
        async def forget() -> None:
            await self.desk.client.nodes.delete(node.id)
            self.desk.store.touch("nodes", "hosts")
            await self.desk.go("/nodes")

        text = self.text("Its token stops working. Files on the machine stay. To come back it must be provisioned again.")
        self.desk.ask(self.text("Forget node %s?") % node.name, text, self.text("Forget the node"), forget)
