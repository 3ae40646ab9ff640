"""The hub's HTTP server: metadata, redirects to its CDN, ranges, and faults."""

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from tests.hub.files import RepoFile, Repositories, commit_of
from tests.serving import InThreads, OwnedServer

__all__ = ["Faults", "Hub", "Served", "commit_of"]

_BLOCK_BYTES = 16 * 1024
_LONG_AGO = "2026-01-01T00:00:00.000Z"


@dataclass(frozen=True)
class Faults:
    """What the hub does wrong; may be changed while it runs.

    Parameters:
        rate_bps: bytes per second of each answer, 0 for no limit.
        no_range: ignore Range and send everything.
        truncate_at: close the connection at this byte of the file, if the answer began before.
        corrupt_at: send this byte of the file wrong.
        stall_at: send nothing more from this byte on, and keep the connection open.
        for_good: truncate and stall also answers that begin at that byte, so that nobody ever gets past it.
        wrong_length: say that a file is so many bytes longer than it is.
        redirect: send readers to the CDN, on another host name.
        redirect_to: send readers to this address instead.
        status: answer every request for a file with this status.
        gate: send nothing of a file until this is set.
        info: say this of every repository, whatever was asked.
        info_endless: and go on with spaces until the other side has enough, or this many bytes were sent.
        info_headers: beside those that belong to it.
        info_redirect: send those who ask about a repository to this address instead.
    """

    rate_bps: float = 0
    no_range: bool = False
    truncate_at: int | None = None
    corrupt_at: int | None = None
    stall_at: int | None = None
    for_good: bool = False
    wrong_length: int = 0
    redirect: bool = False
    redirect_to: str | None = None
    status: int | None = None
    gate: threading.Event | None = None
    info: bytes | None = None
    info_endless: int = 0
    info_headers: tuple[tuple[str, str], ...] = ()
    info_redirect: str | None = None


@dataclass
class Served:
    """One request, and how much of a file was sent for it."""

    method: str
    path: str
    range: str | None
    authorized: bool
    status: int = 0
    sent_bytes: int = 0


@dataclass
class Hub(InThreads):
    """A hub in threads of this process; `busiest` is the most files that it ever sent at once.

    Parameters:
        token: repositories named `private-…` or `gated-…` need it.
        log: file that gets one JSON line for each request.
    """

    root: Path
    host: str = "127.0.0.1"
    port: int = 0
    token: str = "hf_test"
    faults: Faults = Faults()
    log: Path | None = None
    served: list[Served] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.repositories = Repositories(self.root)
        self.stopping = threading.Event()
        self.busiest = 0
        self._sending = 0
        self._counting = threading.Lock()

    @property
    def cdn_url(self) -> str:
        """The CDN: the same server under another host name."""
        return f"http://localhost:{self.port}/cdn"

    def handler(self) -> type[BaseHTTPRequestHandler]:
        """Return what answers the requests."""
        return _Handler

    def stop(self) -> None:
        """Stop listening and break off what is being sent."""
        self.stopping.set()
        super().stop()

    def fail(self, **faults: Any) -> None:
        """Change the faults."""
        self.faults = replace(Faults(), **faults)

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Count an answer with the bytes of a file while it is being sent."""
        with self._counting:
            self._sending += 1
            self.busiest = max(self.busiest, self._sending)
        try:
            yield
        finally:
            with self._counting:
                self._sending -= 1

    def note(self, served: Served) -> None:
        """Write a finished request to the log file."""
        if self.log is not None:
            with self.log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(served.__dict__) + "\n")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: OwnedServer

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: requests are in `Hub.served`."""

    @property
    def hub(self) -> Hub:
        hub: Hub = self.server.owner
        return hub

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        authorized = self.headers.get("Authorization") == f"Bearer {self.hub.token}"
        self.served = Served(self.command, path, self.headers.get("Range"), authorized)
        self.hub.served.append(self.served)
        try:
            self._route(path)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        self.hub.note(self.served)

    def _route(self, path: str) -> None:
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/([^/]+))?", path):
            self._model_info(found[1], found[2] or "main")
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)(?:/(.*))?", path):
            self._tree(found[1], found[2], found[3] or "")
        elif found := re.fullmatch(r"/cdn/([^/]+/[^/]+)/(.+)", path):
            self._cdn(found[1], found[2])
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._resolve(found[1], found[2], found[3])
        else:
            self._error(404, "NotFound", "no such route")

    def _repository(self, repo: str, revision: str) -> Path | None:
        """Return a repository that the caller may read, or answer with the hub's error."""
        directory = self.hub.repositories.directory(repo)
        name = repo.split("/")[1]
        if directory is None or (name.startswith("private-") and not self.served.authorized):
            # The public hub does not tell unknown from private either.
            self._error(401, "RepoNotFound", "Repository not found")
        elif name.startswith("gated-") and not self.served.authorized:
            self._error(403, "GatedRepo", "Access to this model is restricted")
        elif revision not in ("main", commit_of(repo)):
            self._error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        else:
            return directory
        return None

    def _model_info(self, repo: str, revision: str) -> None:
        faults = self.hub.faults
        if faults.info_redirect is not None:
            self._head(302, {"Location": faults.info_redirect, "Content-Length": "0"})
            return
        if faults.info is not None:
            self._say(faults.info, faults)
            return
        directory = self._repository(repo, revision)
        if directory is None:
            return
        files = self.hub.repositories.files(directory)
        siblings = [{"rfilename": f.name, "size": f.size, "blobId": commit_of(f.name), "lfs": _lfs(f)} for f in files]
        info = {"id": repo, "modelId": repo, "author": repo.split("/")[0], "sha": commit_of(repo)}
        info |= {"private": False, "gated": False, "disabled": False, "downloads": 7, "likes": 3}
        info |= {"tags": ["gguf"], "lastModified": _LONG_AGO, "createdAt": _LONG_AGO, "siblings": siblings}
        self._json(200, info)

    def _say(self, body: bytes, faults: Faults) -> None:
        self._head(200, {"Content-Type": "application/json", "Connection": "close", **dict(faults.info_headers)})
        self.close_connection = True
        self.wfile.write(body)
        self.served.sent_bytes = len(body)
        while self.served.sent_bytes < faults.info_endless and not self.hub.stopping.is_set():
            self.served.sent_bytes += self.wfile.write(b" " * _BLOCK_BYTES)

    def _tree(self, repo: str, revision: str, below: str) -> None:
        directory = self._repository(repo, revision)
        if directory is not None:
            files = self.hub.repositories.files(directory)
            entries = [
                {"type": "file", "path": f.name, "size": f.size, "oid": commit_of(f.name), "lfs": _lfs(f) | {"oid": f.sha256}}
                for f in files
                if f.name.startswith(below)
            ]
            self._json(200, entries)

    def _resolve(self, repo: str, revision: str, name: str) -> None:
        directory = self._repository(repo, revision)
        if directory is None:
            return
        headers = {"X-Repo-Commit": commit_of(repo)}
        file = self.hub.repositories.file(directory, name)
        faults = self.hub.faults
        if file is None:
            self._error(404, "EntryNotFound", "Entry not found", headers)
        elif faults.status is not None:
            self._error(faults.status, "", HTTPStatus(faults.status).phrase, headers)
        elif faults.redirect or faults.redirect_to is not None:
            target = faults.redirect_to or f"{self.hub.cdn_url}/{repo}/{quote(name)}"
            linked = {"X-Linked-Etag": f'"{file.sha256}"', "X-Linked-Size": str(file.size), "ETag": '"x"'}
            self._head(302, headers | linked | {"Location": target, "Content-Length": "0"})
        else:
            self._file(file, headers | {"ETag": f'"{file.sha256}"'})

    def _cdn(self, repo: str, name: str) -> None:
        directory = self.hub.repositories.directory(repo)
        file = None if directory is None else self.hub.repositories.file(directory, name)
        if file is None:
            self._error(404, "EntryNotFound", "Entry not found")
        else:
            self._file(file, {})

    def _file(self, file: RepoFile, headers: dict[str, str]) -> None:
        start, end, status = 0, file.size, 200
        wanted = self.headers.get("Range")
        if wanted and not self.hub.faults.no_range:
            found = re.fullmatch(r"bytes=(\d+)-(\d*)", wanted)
            if found is None or int(found[1]) >= file.size:
                self._head(416, headers | {"Content-Range": f"bytes */{file.size}", "Content-Length": "0"})
                return
            start, status = int(found[1]), 206
            end = min(end, int(found[2]) + 1) if found[2] else end
            headers = headers | {"Content-Range": f"bytes {start}-{end - 1}/{file.size}"}
        said = end - start + self.hub.faults.wrong_length
        headers |= {"Content-Length": str(said), "Content-Type": "application/octet-stream"}
        self._head(status, headers)
        if self.command == "GET":
            with self.hub.sending():
                if self.hub.faults.gate:
                    self.hub.faults.gate.wait(60)
                self._send_bytes(file, start, end)

    def _send_bytes(self, file: RepoFile, start: int, end: int) -> None:
        position, began = start, time.monotonic()
        with file.path.open("rb") as source:
            source.seek(start)
            while position < end and not self.hub.stopping.is_set():
                faults = self.hub.faults
                block = bytearray(source.read(min(_BLOCK_BYTES, end - position)))
                cut = _cut(faults, start, position, len(block))
                if faults.corrupt_at is not None and position <= faults.corrupt_at < position + len(block):
                    block[faults.corrupt_at - position] ^= 0xFF
                self.wfile.write(block[:cut])
                position += len(block[:cut])
                self.served.sent_bytes = position - start
                if cut < len(block):
                    self.close_connection = True
                    if faults.stall_at is not None:
                        self.hub.stopping.wait(600)
                    return
                if faults.rate_bps:
                    ahead_s = (position - start) / faults.rate_bps - (time.monotonic() - began)
                    self.hub.stopping.wait(max(0.0, ahead_s))

    def _error(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        self._json(status, {"error": message}, {"X-Error-Code": code, "X-Error-Message": message} | (headers or {}))

    def _json(self, status: int, document: Any, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(document).encode()
        own = {"Content-Type": "application/json", "Content-Length": str(len(body))}
        self._head(status, own | (headers or {}))
        if self.command == "GET":
            self.wfile.write(body)

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.served.status = status
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


def _cut(faults: Faults, start: int, position: int, length: int) -> int:
    """Return how much of a block is sent before the answer is broken off."""
    for limit in (faults.truncate_at, faults.stall_at):
        if limit is not None and start < limit + faults.for_good and limit <= position + length:
            return max(0, min(length - 1, limit - position))
    return length


def _lfs(file: RepoFile) -> dict[str, Any]:
    return {"sha256": file.sha256, "size": file.size, "pointerSize": 134}
