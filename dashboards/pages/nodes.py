"""The nodes: what they report of themselves, and holding them back from work."""

from typing import Any

from control_api.client import ApiError
from control_api.client.schemas import NodeOut
from dashboards.components.view import Action
from dashboards.pages.base import Page

LAST_READY = "last_ready_node"


class Nodes(Page):
    """Lists nodes; with ``?id=`` shows one."""

    @property
    def template(self) -> str:  # type: ignore[override]
        """The list, or one node."""
        return "node.html" if "id" in self.query else "nodes.html"

    def context(self) -> dict[str, Any]:
        """Return the node that is shown."""
        return {"node": self.desk.store.snapshot.node(self.query["id"])} if "id" in self.query else {}

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
            with self.reporting(self.text("Node %s takes work again.") % node.name):
                await self.desk.client.nodes.resume(node.id, all_holds=True)
                self.desk.store.touch("nodes")
        elif action.name == "drain":
            self._ask_drain(node)
        elif action.name == "forget":
            self._ask_forget(node)

    def _ask_drain(self, node: NodeOut) -> None:
        async def drain() -> None:
            try:
                await self._drain(node)
            except ApiError as error:
                if error.code != LAST_READY:
                    raise
                models = ", ".join(str(model) for model in error.details or [])
                text = self.text("It is the last ready node of %s: nobody answers for it meanwhile.") % models
                action = self.text("Drain it anyway")
                self.desk.ask(self.text("Drain node %s?") % node.name, text, action, lambda: self._drain(node, force=True))

        text = self.text("It finishes what it has and gets nothing new until it is resumed.")
        self.desk.ask(self.text("Drain node %s?") % node.name, text, self.text("Drain the node"), drain, danger=False)

    async def _drain(self, node: NodeOut, *, force: bool = False) -> None:
        await self.desk.client.nodes.drain(node.id, reason=self.text("from the dashboard"), force=force)
        self.desk.store.touch("nodes")

    def _ask_forget(self, node: NodeOut) -> None:
        async def forget() -> None:
            await self.desk.client.nodes.delete(node.id)
            self.desk.store.touch("nodes", "hosts")
            await self.desk.go("/nodes")

        text = self.text("Its token stops working. Files on the machine stay. To come back it must be provisioned again.")
        self.desk.ask(self.text("Forget node %s?") % node.name, text, self.text("Forget the node"), forget)
