"""The first page: what is wrong right now, then how the fleet is."""

from typing import Any

from control_api.client.schemas import HostState, JobStatus, NodeState, TaskStatus
from dashboards import alerts
from dashboards.components.view import Action
from dashboards.pages.base import Desk, Page

ALERTS_SHOWN = 8
JOBS_SHOWN = 5
DOWNLOADS_SHOWN = 6


class Overview(Page):
    """What is wrong, the counts, what is on its way, and the latest jobs."""

    template = "overview.html"

    def __init__(self, desk: Desk, query: dict[str, str]) -> None:
        super().__init__(desk, query)
        self._all = False

    async def act(self, action: Action) -> None:
        """Show all that is wrong, not only the worst."""
        if action.name == "all-alerts":
            self._all = True
            self.refresh()
        else:
            await super().act(action)

    def context(self) -> dict[str, Any]:
        """Return the alerts and the figures."""
        fleet = self.desk.store.snapshot
        coming = [task for task in fleet.tasks if task.status is TaskStatus.IN_PROGRESS]
        found = alerts.show(fleet, self.desk.words)
        return {
            "alerts": found if self._all else found[:ALERTS_SHOWN],
            "hidden_alerts": 0 if self._all else len(found[ALERTS_SHOWN:]),
            "nodes_online": sum(node.state is NodeState.ONLINE for node in fleet.nodes),
            "hosts_provisioned": sum(host.state is HostState.PROVISIONED for host in fleet.hosts),
            "models_ready": sum(model.lifecycle_status == "ready" for model in fleet.models),
            "jobs_running": sum(job.status is JobStatus.RUNNING for job in fleet.jobs),
            "jobs_queued": sum(job.status is JobStatus.QUEUED for job in fleet.jobs),
            "in_flight": sum(model.in_flight for node in fleet.nodes for model in node.models),
            "downloads": coming[:DOWNLOADS_SHOWN],
            "downloads_all": len(coming),
            "latest_jobs": fleet.jobs[:JOBS_SHOWN],
            "steps": self._steps(),
        }

    def _steps(self) -> list[tuple[bool, str, str, str]]:
        """Return the way from an empty fleet to the first answer: done, title, text, page."""
        fleet, _ = self.desk.store.snapshot, self.text
        ready = any(model.lifecycle_status == "ready" for model in fleet.models)
        return [
            (bool(fleet.hosts), _("Add a host"), _("A machine that Ansible reaches over SSH."), "/hosts"),
            (bool(fleet.nodes), _("Provision it"), _("Muster installs the node service and starts it."), "/hosts"),
            (bool(fleet.models), _("Register a model"), _("Nodes fetch it by themselves."), "/models"),
            (ready, _("Ask it something"), _("In the playground, or with any OpenAI client."), "/playground"),
        ]
