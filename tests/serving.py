"""HTTP servers in threads of this process, for whatever a test plays at the wire."""

import threading
from abc import ABC, abstractmethod
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


class OwnedServer(ThreadingHTTPServer):
    """Tells its handlers for whom they answer."""

    daemon_threads = True
    allow_reuse_address = True
    owner: Any


class InThreads(ABC):
    """Base of what answers by HTTP: it may be stopped, and started again at the same port."""

    host: str = "127.0.0.1"
    port: int = 0
    _server: OwnedServer | None = None

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://{self.host}:{self.port}"

    @abstractmethod
    def handler(self) -> type[BaseHTTPRequestHandler]:
        """Return what answers a connection's requests; it finds this object as ``server.owner``."""

    def start(self) -> Self:
        """Listen; a port is chosen the first time."""
        self._server = OwnedServer((self.host, self.port), self.handler())
        self._server.owner = self
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def stop(self) -> None:
        """Stop listening; what was learnt stays."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
