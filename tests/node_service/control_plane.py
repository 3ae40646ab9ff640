"""A control API that speaks the wire contract to a node, and can be told what to answer."""

import hashlib
import json
import re
import uuid
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.hub import commit_of
from tests.serving import InThreads, OwnedServer

__all__ = ["ControlPlane", "artifact", "model"]


def artifact(name: str, content: bytes) -> dict[str, Any]:
    """Return an artifact of a manifest."""
    return {"name": name, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def model(model_id: str, *artifacts: dict[str, Any], generation: int = 1, **params: Any) -> dict[str, Any]:
    """Return a model of a manifest."""
    return {
        "id": model_id,
        "generation": generation,
        "residency": "resident",
        "engine": None,
        "params": {"gpu_uuids": [], **params},
        "artifacts": list(artifacts),
    }


@dataclass
class Answer:
    """What one request gets."""

    status: int
    body: dict[str, Any]


@dataclass
class ControlPlane(InThreads):
    """One node's view of the API: tickets, heartbeats, a manifest and fetch grants."""

    tickets: set[str] = field(default_factory=lambda: {"ticket-1"})
    store_id: str = "store-a"
    node_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    token: str = "token-1"
    next_token: str | None = None
    admission: str = "open"
    memory_reserve_bytes: int = 0
    registrations: list[dict[str, Any]] = field(default_factory=list)
    heartbeats: list[dict[str, Any]] = field(default_factory=list)
    tokens_seen: list[str] = field(default_factory=list)
    fetches: list[dict[str, Any]] = field(default_factory=list)
    manifest: dict[str, Any] = field(default_factory=dict)
    sources: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    queue_answers: int = 0
    known: bool = True
    port: int = 0

    def __post_init__(self) -> None:
        self.manifest = {"store_id": self.store_id, "revision": 1, "admission": "open", "models": [], "remove": []}

    def handler(self) -> type[BaseHTTPRequestHandler]:
        """Return what answers the requests."""
        return _Handler

    def assign(self, *models: dict[str, Any], remove: tuple[str, ...] = (), store_id: str | None = None) -> int:
        """Write a new manifest and return its revision."""
        revision = int(self.manifest["revision"]) + 1
        self.manifest = {
            "store_id": store_id or self.store_id,
            "revision": revision,
            "admission": self.admission,
            "memory_reserve_bytes": self.memory_reserve_bytes,
            "models": list(models),
            "remove": list(remove),
        }
        return revision

    def offer_hub(self, spec: dict[str, Any], repo: str) -> None:
        """Let a model's artifacts be fetched from a hub repository."""
        for item in spec["artifacts"]:
            source = {"kind": "hub", "repo": repo, "revision": commit_of(repo), "path": item["name"]}
            self.sources[item["sha256"]] = [source]

    @property
    def last(self) -> dict[str, Any]:
        """The last heartbeat, or an empty one."""
        return self.heartbeats[-1] if self.heartbeats else {"models": []}

    def reported(self, model_id: str) -> dict[str, Any]:
        """Return a model's entry in the last heartbeat, or an empty one."""
        return next((m for m in self.last["models"] if m["id"] == model_id), {})

    def state(self, model_id: str) -> str:
        """Return a model's state in the last heartbeat, or an empty string."""
        return str(self.reported(model_id).get("state", ""))

    def answer(self, method: str, path: str, token: str, body: dict[str, Any]) -> Answer:
        """Answer one request."""
        if (method, path) == ("POST", "/v0/nodes/register"):
            return self._register(token, body)
        found = re.fullmatch(r"/v0/nodes/([^/]+)/(heartbeat|manifest|fetches)", path)
        if found is None or found[1] != self.node_id or not self.known:
            return _error(404, "not_found")
        if token == self.next_token:
            self.token, self.next_token = token, None
        if token != self.token:
            return _error(401, "unauthenticated")
        self.tokens_seen.append(token)
        if found[2] == "manifest":
            return Answer(200, self.manifest)
        return self._heartbeat(body) if found[2] == "heartbeat" else self._fetch(body)

    def _register(self, ticket: str, body: dict[str, Any]) -> Answer:
        if ticket not in self.tickets:
            return _error(401, "ticket_invalid")
        self.tickets.discard(ticket)
        self.known = True
        self.registrations.append(body)
        answer = {
            "node_id": self.node_id,
            "node_token": self.token,
            "state": "registering",
            "store_id": self.store_id,
            "heartbeat_interval_s": 0.1,
            "manifest_revision": self.manifest["revision"],
        }
        return Answer(201, answer)

    def _heartbeat(self, body: dict[str, Any]) -> Answer:
        self.heartbeats.append(body)
        answer = {
            "state": "online",
            "admission": self.admission,
            "manifest_revision": self.manifest["revision"],
            "next_token": self.next_token,
        }
        return Answer(200, answer)

    def _fetch(self, body: dict[str, Any]) -> Answer:
        self.fetches.append(body)
        if self.queue_answers > 0:
            self.queue_answers -= 1
            return Answer(202, {"retry_after_s": 0.05, "position": 3})
        grant = {"fetch_id": str(uuid.uuid4()), "lease_s": 60, "sources": self.sources.get(body["sha256"], [])}
        return Answer(200, grant)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: OwnedServer

    def do_GET(self) -> None:
        self._answer({})

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        self._answer(json.loads(self.rfile.read(length) or b"{}"))

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def _answer(self, body: dict[str, Any]) -> None:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        answer = self.server.owner.answer(self.command, self.path, token, body)
        content = json.dumps(answer.body).encode()
        self.send_response(answer.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        # Closed each time, so that a stopped API is gone for the node as well.
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)


def _error(status: int, code: str) -> Answer:
    return Answer(status, {"error": {"code": code, "message": code, "hint": None, "request_id": "r", "details": None}})
