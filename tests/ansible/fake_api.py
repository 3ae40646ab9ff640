"""A control API and router as the Ansible side sees them: a real HTTP server, state in memory, faults on request."""

import json
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

KEY = "an-operate-key"
MODEL = "smollm2:135m"


class Refused(Exception):
    """Answer with an error in the API's shape."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


@dataclass
class FakeApi:
    """Hosts, nodes and tickets; every change a test makes is seen by the next request."""

    address: str = "127.0.0.1"
    hosts: dict[str, dict[str, Any]] = field(default_factory=dict)
    nodes: dict[str, dict[str, Any]] = field(default_factory=dict)
    tickets: dict[str, str] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    orders: list[dict[str, Any]] = field(default_factory=list)
    tasks: dict[str, dict[str, Any]] = field(default_factory=dict)
    unavailable: int = 0
    answer: str = "Hello."
    answering_node: str | None = None
    slots_in_flight: int = 0

    def __enter__(self) -> "FakeApi":
        self._server = ThreadingHTTPServer((self.address, 0), self._handler())
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
            "hardware": {"gpus": []}, "models": [model()],
        } | fields  # fmt: skip
        self.nodes[node["id"]] = node
        host["node_id"] = node["id"]
        return node

    def seen(self, method: str, path: str) -> int:
        """Return how often a path was asked for."""
        return sum(request == (method, path) for request in self.requests)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.respond()

            def do_POST(self) -> None:
                self.respond()

            def respond(self) -> None:
                parts = urlsplit(self.path)
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length)) if length else {}
                api.requests.append((self.command, parts.path))
                token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
                headers: dict[str, str] = {}
                try:
                    status, answer = api.route(self.command, parts.path, parse_qs(parts.query), body, token, self.headers, headers)
                except Refused as refused:
                    status, answer = refused.status, {"error": {"code": refused.code, "message": str(refused), "hint": None}}
                content = json.dumps(answer).encode()
                self.send_response(status)
                for name, value in (headers | {"Content-Type": "application/json", "Content-Length": str(len(content))}).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        return Handler

    def route(
        self, method: str, path: str, query: dict[str, list[str]], body: dict[str, Any], token: str, asked: Any, headers: dict[str, str]
    ) -> tuple[int, Any]:
        if self.unavailable:
            self.unavailable -= 1
            raise Refused(503, "unavailable", "the store does not answer")
        if path == "/v0/nodes/register":
            return self._register(body, token)
        if path == "/v1/chat/completions":
            headers["x-muster-node"] = self.answering_node or asked["x-muster-pin-node"]
            return 200, {"choices": [{"message": {"role": "assistant", "content": self.answer}}]}
        if token != KEY:
            raise Refused(401, "unauthenticated", "this key is not known")
        parts = path.strip("/").split("/")[1:]
        handlers: dict[tuple[str, ...], Callable[..., tuple[int, Any]]] = {
            ("GET", "inventory"): lambda: (200, self._inventory()),
            ("GET", "hosts", "*"): lambda: (200, self._find(self.hosts, parts[1])),
            ("POST", "hosts", "*", "enrolment"): lambda: self._enrol(self._find(self.hosts, parts[1]), "force" in query),
            ("GET", "nodes", "*"): lambda: (200, self._find(self.nodes, parts[1])),
            ("GET", "nodes", "*", "manifest"): lambda: (200, self._manifest(parts[1])),
            ("POST", "nodes", "*", "drain"): lambda: self._admit(parts[1], "drained"),
            ("POST", "nodes", "*", "resume"): lambda: self._admit(parts[1], "open"),
            ("POST", "models", "distribute"): lambda: self._distribute(body),
            ("GET", "tasks"): lambda: (200, {"items": [self.tasks[i] for i in query["ids"][0].split(",")], "next_cursor": None}),
            ("POST", "auth", "inference-token"): lambda: (201, {"token": "t", "expires_at": "", "router_url": self.url}),
        }
        shape = (method, *("*" if i == 1 and parts[0] in ("hosts", "nodes") else part for i, part in enumerate(parts)))
        if shape not in handlers:
            raise Refused(404, "not_found", f"no route {shape}")
        return handlers[shape]()

    def _find(self, table: dict[str, dict[str, Any]], key: str) -> dict[str, Any]:
        if key not in table:
            raise Refused(404, "not_found", f"there is no {key}")
        return table[key]

    def _inventory(self) -> dict[str, Any]:
        return {"version": 1, "api_url": self.url, "router_url": self.url, "hosts": list(self.hosts.values())}

    def _enrol(self, host: dict[str, Any], force: bool) -> tuple[int, Any]:
        if host["node_id"] and not force:
            raise Refused(409, "already_registered", "the node of this host has a valid registration")
        ticket = uuid.uuid4().hex
        self.tickets[ticket] = host["id"]
        return 201, {"ticket": ticket, "expires_at": "2099-01-01T00:00:00Z"}

    def _register(self, body: dict[str, Any], ticket: str) -> tuple[int, Any]:
        if ticket not in self.tickets:
            raise Refused(401, "unauthenticated", "this ticket is not valid")
        node = self.add_node(self.hosts[self.tickets.pop(ticket)], name=body["name"])
        return 201, {"node_id": node["id"], "node_token": "node-token", "heartbeat_interval_s": 5}

    def _manifest(self, node_id: str) -> dict[str, Any]:
        artifacts = [{"name": "a.gguf", "size": 1000, "sha256": "0" * 64}]
        models = [{"id": m["id"], "artifacts": artifacts} for m in self._find(self.nodes, node_id)["models"]]
        return {"revision": 1, "models": models, "remove": []}

    def _admit(self, node_id: str, admission: str) -> tuple[int, Any]:
        node = self._find(self.nodes, node_id)
        node["admission"] = admission
        node["state"] = ("draining" if self.slots_in_flight else "drained") if admission == "drained" else "online"
        return 200, node

    def _distribute(self, body: dict[str, Any]) -> tuple[int, Any]:
        self.orders.append(body)
        ids = [str(uuid.uuid4()) for _ in body["node_ids"]]
        for task_id, node_id in zip(ids, body["node_ids"], strict=True):
            self.tasks[task_id] = {
                "id": task_id, "node_id": node_id, "model_id": body["model"], "status": "completed", "error": None,
            }  # fmt: skip
        return 202, {"task_ids": ids, "job_id": None, "skipped": [], "warnings": []}


def model(**fields: Any) -> dict[str, Any]:
    """A model as a node reports it."""
    return {"id": MODEL, "state": "ready", "error": None, "device": "cpu", "progress": 1.0} | fields


def main() -> None:
    """Serve one lab until interrupted, for trying the playbooks by hand: fake_api.py ADDRESS NAME=HOST..."""
    import sys

    with FakeApi(address=sys.argv[1]) as api:
        for pair in sys.argv[2:]:
            name, address = pair.split("=")
            api.add_host(name, address=address, variables={"gpu_host_require_gpu": False})
        print(api.url, flush=True)
        while True:
            time.sleep(3600)


if __name__ == "__main__":
    main()
