"""Runs the application under uvicorn; SIGTERM drains before it stops."""

import asyncio
import json
import signal
from types import FrameType

import structlog
import uvicorn
from fastapi import FastAPI

from node_service.bounds import Fault
from node_service.connection import BoundedHttp
from node_service.errors import openai_error
from node_service.service import NodeService
from node_service.settings import Settings

__all__ = ["run_server"]

_CLOSE_GRACE_S = 5
# Longer than routers and the control API keep a connection for another request: it is never closed under one of theirs.
_KEEP_ALIVE_S = 75

log = structlog.get_logger(__name__)


class Http(BoundedHttp):
    """A connection whose refusals have OpenAI's shape."""

    @staticmethod
    def error_body(fault: Fault) -> bytes:
        """Return the body of a refusal."""
        return json.dumps(openai_error(fault.message, type="invalid_request_error", code=fault.code)).encode()


def run_server(app: FastAPI, settings: Settings) -> bool:
    """Serve until SIGTERM or SIGINT; return whether the server came up at all."""
    config = uvicorn.Config(
        app,
        host=settings.listen_host,
        port=settings.listen_port,
        http=Http,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_CLOSE_GRACE_S,
        timeout_keep_alive=_KEEP_ALIVE_S,
    )
    server = _DrainingServer(config, app.state.node)
    server.run()
    return server.started


class _DrainingServer(uvicorn.Server):
    """A first signal refuses new work and lets requests end; a second one stops at once."""

    def __init__(self, config: uvicorn.Config, node: NodeService) -> None:
        super().__init__(config)
        self._node = node
        self._draining: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        """Start to listen; from now on a signal drains."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)  # type: ignore[arg-type]

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take a signal."""
        log.info("signal", name=signal.Signals(sig).name)
        if self._loop is None or not self.started or self._draining is not None:
            self.should_exit = True
            return
        # The signal may interrupt the loop anywhere: only the loop itself may start a task.
        self._loop.call_soon_threadsafe(self._begin_drain)

    def _begin_drain(self) -> None:
        if self._draining is None:
            self._draining = asyncio.create_task(self._drain())

    async def _drain(self) -> None:
        try:
            await self._node.drain()
        finally:
            self.should_exit = True
