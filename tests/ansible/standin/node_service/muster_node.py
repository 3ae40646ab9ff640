"""A node service without models, for tests of the roles: what the role touches behaves as the real one does."""

import json
import os
import sys
import threading
import urllib.request
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

KEYS = {
    "name", "api_url", "base_url", "listen_host", "listen_port", "store_dir", "state_dir", "enrolment_ticket_file", "tags",
    "require_gpu", "allow_cpu", "engine", "engines", "engine_threads", "context", "slots", "hub_endpoint", "hub_token_file",
    "disk_reserve_bytes", "log_level", "drain_deadline_s", "ca_bundle",
}  # fmt: skip


def check(path: str) -> list[str]:
    """Return what is wrong with a configuration."""
    config = json.loads(Path(path).read_text())
    problems = [f"{key}: unknown key" for key in sorted(set(config) - KEYS)]
    if config["context"] < 1:
        problems.append("context: must be at least 1")
    return problems


class Node:
    """Identity on the disk, registration with the ticket."""

    def __init__(self, config: dict) -> None:
        self.config = config
        self.instance_id = str(uuid.uuid4())
        self.errors: list[str] = []
        self._path = Path(config["state_dir"]) / "identity.json"
        self.identity = json.loads(self._path.read_text()) if self._path.exists() else {}
        self.identity.setdefault("inference_key", uuid.uuid4().hex)
        self.save()

    def save(self) -> None:
        part = self._path.with_suffix(".new")  # as the real one does: whole or not at all
        part.touch(mode=0o600)
        part.write_text(json.dumps(self.identity))
        part.replace(self._path)

    def report(self) -> None:
        """Register if need be, and tell which start this is."""
        try:
            self.register()
            self.post(f"{self.identity['node_id']}/heartbeat", self.identity["token"], {"instance_id": self.instance_id})
        except OSError as error:
            self.errors = [f"registration refused: {error}"]

    def register(self) -> None:
        ticket_file = Path(self.config["enrolment_ticket_file"])
        if self.identity.get("node_id") and not ticket_file.exists():
            return
        facts = {"name": self.config["name"], "base_url": self.config["base_url"]}
        answer = self.post("register", ticket_file.read_text(), facts)
        self.identity |= {"node_id": answer["node_id"], "token": answer["node_token"]}
        self.save()
        ticket_file.unlink()

    def post(self, path: str, token: str, body: dict) -> dict:
        request = urllib.request.Request(
            f"{self.config['api_url']}/v0/nodes/{path}",
            data=json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10) as response:
            return json.load(response)

    def status(self) -> dict:
        return {
            "instance_id": self.instance_id,
            "node_id": self.identity.get("node_id"),
            "registered": bool(self.identity.get("node_id")),
            "errors": self.errors,
        }


def serve(path: str) -> None:
    """Answer until killed."""
    node = Node(json.loads(Path(path).read_text()))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/healthz":
                return self.answer(200, {"status": "ok"})
            if self.headers.get("Authorization") != f"Bearer {node.identity['inference_key']}":
                return self.answer(401, {"error": {"message": "no key"}})
            return self.answer(200, node.status())

        def answer(self, status: int, body: dict) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    if "crash" in os.environ.get("https_proxy", ""):
        sys.exit("cannot start: told to crash")
    server = ThreadingHTTPServer((node.config["listen_host"], node.config["listen_port"]), Handler)
    threading.Thread(target=node.report, daemon=True).start()
    server.serve_forever()


def main() -> None:
    command, config = sys.argv[1], sys.argv[3]
    if command == "check":
        problems = check(config)
        print("\n".join(problems))
        sys.exit(2 if problems else 0)
    serve(config)
