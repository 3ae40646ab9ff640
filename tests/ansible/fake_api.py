"""A control API and router as the Ansible side sees them: a real HTTP server, state in memory, faults on request."""

import json
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

KEY = "an-operate-key"
CALLER = "api-key:ci"
MODEL = "smollm2:135m"


class Refused(Exception):
    """Answer with an error in the API's shape."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


@dataclass(frozen=True)
class Request:
    """What a handler sees of a request."""

    method: str
    path: str
    query: Mapping[str, list[str]]
    body: dict[str, Any]
    token: str
    pinned: str | None


@dataclass
class FakeApi:
    """Hosts, nodes and tickets; every change a test makes is seen by the next request.

    Parameters:
        address: address to listen on.
        unavailable: how many requests are answered with 503 before the rest works.
        in_flight: requests that keep a drained node in `draining`.
        busy: another job has the hosts.
        posts_lost: how many posts of events are stored, but answered with 503.
        answer, answering_node: what the router says, and who it says has answered.
    """

    address: str = "127.0.0.1"
    hosts: dict[str, dict[str, Any]] = field(default_factory=dict)
    nodes: dict[str, dict[str, Any]] = field(default_factory=dict)
    tickets: dict[str, str] = field(default_factory=dict)
    tasks: dict[str, dict[str, Any]] = field(default_factory=dict)
    orders: list[dict[str, Any]] = field(default_factory=list)
    capabilities: dict[str, list[str]] = field(default_factory=dict)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    unavailable: int = 0
    in_flight: int = 0
    busy: bool = False
    posts_lost: int = 0
    task_error: str | None = None
    answer: str = "Hello."
    answering_node: str | None = None

    def __enter__(self) -> Self:
        self._server = ThreadingHTTPServer((self.address, 0), _handler_of(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://{self.address}:{self._server.server_port}"

    def add_host(self, name: str, **fields: Any) -> dict[str, Any]:
        host = {
            "id": str(uuid.uuid4()), "name": name, "address": "192.0.2.1", "port": 22, "user": "ops", "become": True,
            "become_exe": None, "connection": "ssh", "python": None, "jump_host": None, "host_key": None,
            "state": "unprovisioned", "tags": [], "node_id": None, "variables": {},
        } | fields  # fmt: skip
        self.hosts[host["id"]] = host
        return host

    def add_node(self, host: dict[str, Any], **fields: Any) -> dict[str, Any]:
        node = {
            "id": str(uuid.uuid4()), "name": host["name"], "host_id": host["id"], "state": "online", "admission": "open",
            "ready_models": {"loaded": 1, "total": 1}, "applied_revision": 1, "manifest_revision": 1, "degraded": False,
            "hardware": {"gpus": []}, "models": [model()], "holds": [], "instance_id": "",
        } | fields  # fmt: skip
        self.nodes[node["id"]] = node
        host["node_id"] = node["id"]
        return node

    def asked(self, method: str, path: str) -> int:
        """Return how often a path was asked for."""
        return self.requests.count((method, path))

    def handle(self, request: Request) -> tuple[int, Any, dict[str, str]]:
        """Return status, body and headers."""
        self.requests.append((request.method, request.path))
        if self.unavailable:
            self.unavailable -= 1
            raise Refused(503, "unavailable", "the store does not answer")
        if request.path == "/v0/nodes/register":
            return 201, self._register(request), {}
        if request.path.endswith("/heartbeat"):
            return 200, _find(self.nodes, request.path.split("/")[3]).update(instance_id=request.body["instance_id"]), {}
        if request.path == "/v1/models":
            return 200, {"data": [{"id": name, "capabilities": kinds} for name, kinds in self.capabilities.items()]}, {}
        if request.path == "/v1/embeddings":
            return 200, {"data": [{"embedding": [0.5] * 64}]}, {"x-muster-node": request.pinned or ""}
        if request.path == "/v1/chat/completions":
            content = {"choices": [{"message": {"role": "assistant", "content": self.answer}}]}
            return 200, content, {"x-muster-node": self.answering_node or request.pinned or ""}
        if request.token != KEY:
            raise Refused(401, "unauthenticated", "this key is not known")
        _, *parts = request.path.strip("/").split("/")
        key = parts[1] if len(parts) > 1 and parts[0] in ("hosts", "nodes", "jobs") else None
        shape = " ".join([request.method, *("*" if part == key else part for part in parts)])
        if shape not in self._routes:
            raise Refused(404, "not_found", f"no route {shape}")
        status, work = self._routes[shape]
        return status, work(key, request), {}

    @property
    def _routes(self) -> dict[str, tuple[int, Callable[[Any, Request], Any]]]:
        return {
            "GET inventory": (200, lambda _, __: self._inventory()),
            "GET hosts *": (200, lambda key, _: _find(self.hosts, key)),
            "POST hosts * enrolment": (201, lambda key, request: self._enrol(key, "force" in request.query)),
            "GET nodes *": (200, lambda key, _: _find(self.nodes, key)),
            "GET nodes * manifest": (200, lambda key, _: self._manifest(key)),
            "POST nodes * drain": (200, lambda key, request: self._drain(key, request.body["reason"])),
            "POST nodes * resume": (200, lambda key, _: self._resume(key)),
            "POST models distribute": (202, lambda _, request: self._distribute(request.body)),
            "POST jobs": (201, lambda _, request: self._open_job(request.body)),
            "POST jobs * events": (200, lambda key, request: self._report(key, request.body)),
            "GET tasks": (200, lambda _, request: self._tasks(request.query["ids"][0].split(","))),
            "POST auth inference-token": (201, lambda _, __: {"token": "t", "expires_at": "", "router_url": self.url}),
        }

    def _inventory(self) -> dict[str, Any]:
        hosts = list(self.hosts.values())
        tags = {tag for host in hosts for tag in host["tags"] if tag.startswith("site:")}
        sites = {tag: [host["address"] for host in hosts if tag in host["tags"]] for tag in tags}
        return {"version": 1, "api_url": self.url, "router_url": self.url, "hosts": hosts, "sites": sites}

    def _enrol(self, host_id: str, force: bool) -> dict[str, Any]:
        if _find(self.hosts, host_id)["node_id"] and not force:
            raise Refused(409, "already_registered", "the node of this host has a valid registration")
        ticket = uuid.uuid4().hex
        self.tickets[ticket] = host_id
        return {"ticket": ticket, "expires_at": "2099-01-01T00:00:00Z"}

    def _register(self, request: Request) -> dict[str, Any]:
        if request.token not in self.tickets:
            raise Refused(401, "unauthenticated", "this ticket is not valid")
        node = self.add_node(self.hosts[self.tickets.pop(request.token)], name=request.body["name"])
        return {"node_id": node["id"], "node_token": "node-token", "heartbeat_interval_s": 5}

    def _manifest(self, node_id: str) -> dict[str, Any]:
        artifacts = [{"name": "a.gguf", "size": 1000, "sha256": "0" * 64}]
        models = [{"id": held["id"], "artifacts": artifacts} for held in _find(self.nodes, node_id)["models"]]
        return {"revision": 1, "models": models, "remove": []}

    def _drain(self, node_id: str, reason: str) -> dict[str, Any]:
        node = _find(self.nodes, node_id)
        others = [hold for hold in node["holds"] if hold["holder"] != CALLER]
        node["holds"] = [*others, {"holder": CALLER, "reason": reason}]
        return self._admit(node)

    def _resume(self, node_id: str) -> dict[str, Any]:
        node = _find(self.nodes, node_id)
        node["holds"] = [hold for hold in node["holds"] if hold["holder"] != CALLER]
        return self._admit(node)

    def _admit(self, node: dict[str, Any]) -> dict[str, Any]:
        node["admission"] = "drained" if node["holds"] else "open"
        node["state"] = "online" if not node["holds"] else "draining" if self.in_flight else "drained"
        return node

    def _distribute(self, order: dict[str, Any]) -> dict[str, Any]:
        self.orders.append(order)
        ids = [str(uuid.uuid4()) for _ in order["node_ids"]]
        for task_id, node_id in zip(ids, order["node_ids"], strict=True):
            status = "failed" if self.task_error else "completed"
            self.tasks[task_id] = {"node_id": node_id, "model_id": order["model"], "status": status, "error": self.task_error}
        return {"task_ids": ids, "job_id": None, "skipped": [], "warnings": []}

    def _open_job(self, wanted: dict[str, Any]) -> dict[str, Any]:
        if self.busy:
            raise Refused(409, "host_busy", "Host gpu-01 is busy: job 17 runs site.yml.")
        job = {"id": str(uuid.uuid4()), "wanted": wanted, "events": {}, "end": None}
        self.jobs[job["id"]] = job
        return job

    def _report(self, job_id: str, sent: dict[str, Any]) -> dict[str, Any]:
        job = _find(self.jobs, job_id)
        job["events"] |= {event["counter"]: event for event in sent["events"]}
        if self.posts_lost:
            self.posts_lost -= 1
            raise Refused(503, "unavailable", "the answer got lost")
        job["end"] = sent["end"] or job["end"]
        return job

    def _tasks(self, ids: list[str]) -> dict[str, Any]:
        return {"items": [{"id": task_id} | self.tasks[task_id] for task_id in ids], "next_cursor": None}


def model(**fields: Any) -> dict[str, Any]:
    """A model as a node reports it."""
    return {"id": MODEL, "state": "ready", "error": None, "device": "cpu", "progress": 1.0} | fields


def _find(table: dict[str, dict[str, Any]], key: str) -> dict[str, Any]:
    if key not in table:
        raise Refused(404, "not_found", f"there is no {key}")
    return table[key]


def _handler_of(api: FakeApi) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._respond()

        def do_POST(self) -> None:
            self._respond()

        def _respond(self) -> None:
            parts = urlsplit(self.path)
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
            pinned = self.headers.get("x-muster-pin-node")
            request = Request(self.command, parts.path, parse_qs(parts.query), json.loads(content or "{}"), token, pinned)
            try:
                status, answer, headers = api.handle(request)
            except Refused as refused:
                status, headers = refused.status, {}
                answer = {"error": {"code": refused.code, "message": str(refused), "hint": None}}
            self._send(status, answer, headers)

        def _send(self, status: int, answer: Any, headers: dict[str, str]) -> None:
            content = json.dumps(answer).encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Say nothing: what was asked is in `FakeApi.requests`."""

    return Handler
