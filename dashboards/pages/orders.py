"""Downloads that people order again or cancel, the same on the pages of models and of nodes."""

from control_api.client.schemas import PullRequest
from dashboards.components.view import Action
from dashboards.pages.base import Page


class Orders(Page):
    """A page with downloads on it."""

    async def act(self, action: Action) -> None:
        """Order a model onto a node again, or cancel a download."""
        if action.name == "order-again":
            node_id, _, model_id = action.value.partition(" ")
            with self.reporting():
                await self._order(node_id, model_id)
        elif action.name == "cancel-task":
            self._ask_cancel(action.value)
        else:
            await super().act(action)

    async def _order(self, node_id: str, model_id: str) -> None:
        answer = await self.desk.client.models.pull(node_id, PullRequest(model=model_id, retry_when_online=True))
        self.desk.store.touch("tasks", "nodes", "hub", "assignments")
        said = [*answer.warnings, *(skipped.reason for skipped in answer.skipped)]
        self.desk.say("bad" if said else "ok", " ".join(said) or self.text("The download is ordered."))

    def _ask_cancel(self, task_id: str) -> None:
        async def cancel() -> None:
            await self.desk.client.tasks.cancel(task_id)
            self.desk.store.touch("tasks", "nodes", "hub", "assignments")

        task = next((task for task in self.desk.store.snapshot.tasks if task.id == task_id), None)
        node = self.desk.store.snapshot.node(task.node_id) if task else None
        title = self.text("Cancel the download of %(model)s to %(node)s?") % {
            "model": task.model_id if task else "?",
            "node": node.name if node else "?",
        }
        text = self.text("What has come stays on the node. It is not sent there again until somebody orders it.")
        self.desk.ask(title, text, self.text("Cancel the download"), cancel)
