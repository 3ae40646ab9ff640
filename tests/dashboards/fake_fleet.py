"""What a fake control API knows, and how it answers."""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from fastapi.responses import JSONResponse
from pydantic import BaseModel

from control_api.client.schemas import (
    AlertOut,
    AssignmentOut,
    ChangeOut,
    HostOut,
    HubOut,
    JobEventOut,
    JobOut,
    ModelOut,
    NodeOut,
    TaskOut,
)
from tests.dashboards import fleet_models
from tests.dashboards.fake_admin import Admin


@dataclass
class Fleet:
    """What the fake knows. Tests change it and ``announce`` it."""

    hosts: list[HostOut] = field(default_factory=list)
    nodes: list[NodeOut] = field(default_factory=list)
    hub: HubOut = field(default_factory=fleet_models.hub)
    models: list[ModelOut] = field(default_factory=list)
    jobs: list[JobOut] = field(default_factory=list)
    events: dict[str, list[JobEventOut]] = field(default_factory=dict)
    tasks: list[TaskOut] = field(default_factory=list)
    assignments: list[AssignmentOut] = field(default_factory=list)
    alerts: list[AlertOut] = field(default_factory=list)
    changes: list[ChangeOut] = field(default_factory=list)
    slowest: list[dict[str, Any]] = field(default_factory=list)
    admin: Admin = field(default_factory=Admin)
    sessions: set[str] = field(default_factory=set)
    admin_exists: bool = True
    refuse: dict[str, tuple[int, str, str]] = field(default_factory=dict)
    calls: list[tuple[str, str, Any]] = field(default_factory=list)
    logins: list[dict[str, Any]] = field(default_factory=list)
    chat_pieces: list[str] = field(default_factory=list)
    chat_error_after: int | None = None
    chat_pause_s: float = 0.0
    chat_gone: int = 0
    listeners: set[asyncio.Queue[dict[str, Any]]] = field(default_factory=set)

    def announce(self, topic: str, kind: str, payload: dict[str, Any], event_id: int | None = None) -> None:
        """Tell every live connection. Call it on the server's loop."""
        message = {"topic": topic, "type": kind, "at": datetime.now(UTC).isoformat(), "data": payload}
        for queue in self.listeners:
            queue.put_nowait(message | ({"id": event_id} if event_id else {}))

    def raise_alert(self, raised: AlertOut) -> None:
        """Add what is wrong and announce it."""
        self.alerts = [*self.alerts, raised]
        self.announce("alerts", "alert.raised", raised.model_dump(mode="json"))

    def add_event(self, job_id: str, event: JobEventOut) -> None:
        """Append a job's event and announce it."""
        self.events.setdefault(job_id, []).append(event)
        self.announce(f"job:{job_id}", "job.event", event.model_dump(mode="json"), event.id)

    def replace_node(self, changed: NodeOut) -> None:
        """Put a node in the place of the one with its id and announce it."""
        self.nodes = [changed if n.id == changed.id else n for n in self.nodes]
        self.announce("nodes", "node.state_changed", {"id": changed.id, "name": changed.name, "to": changed.state})

    def replace_job(self, changed: JobOut) -> None:
        """Put a job in the place of the one with its id and announce it."""
        self.jobs = [changed if j.id == changed.id else j for j in self.jobs]
        self.announce("jobs", "job.updated", {"id": changed.id, "status": changed.status})


def problem(status: int, code: str, message: str, hint: str | None = None, details: Any = None) -> JSONResponse:
    body = {"error": {"code": code, "message": message, "hint": hint, "request_id": "req-1", "details": details}}
    return JSONResponse(body, status)


def page(items: list[Any]) -> dict[str, Any]:
    return {
        "items": [item.model_dump(mode="json") if isinstance(item, BaseModel) else item for item in items],
        "next_cursor": None,
    }
