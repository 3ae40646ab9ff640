"""Engines that are a program of this host, as the node's own file says to start it."""

import asyncio
import secrets
import socket

import httpx2

from node_service.engine.definitions import CommandDefinition, fill
from node_service.engine.health import answers
from node_service.engine.process import ChildProcess, child_environment
from node_service.engine.protocol import Endpoint, EngineModel
from node_service.errors import EngineStartFailed

__all__ = ["CommandEngine"]

_FIRST_LOOK_S = 0.05
_MAX_LOOK_S = 1.0
_ALL_LAYERS = 999  # what llama-server's users write for "all of them"


class CommandEngine:
    """Starts a program that listens on a port of 127.0.0.1 which the node chose, and waits until it is healthy."""

    def __init__(self, definition: CommandDefinition, model_id: str, http: httpx2.AsyncClient) -> None:
        self._definition = definition
        self._http = http
        self._child = ChildProcess("node_service.engine.children.command", model_id)
        self._endpoint: Endpoint | None = None

    def slots(self, model: EngineModel) -> int:
        """Return how many requests the program was told to answer at the same time."""
        return model.slots

    async def start(self, model: EngineModel) -> Endpoint:
        """Spawn the program and wait until its health path answers; raises EngineStartFailed."""
        port, api_key = _free_port(), secrets.token_urlsafe(24)
        values = _values(model, port)
        own = {name: fill(text, values | {"api_key": api_key}) for name, text in self._definition.environment.items()}
        argv = [fill(argument, values) for argument in self._definition.argv]
        endpoint = Endpoint(
            url=f"http://127.0.0.1:{port}", api_key=api_key, model=model.id, device=self._definition.device, gpu_layers=0
        )
        await self._child.spawn({"argv": argv, "api_key": api_key}, child_environment(model, own))
        await self._until_healthy(endpoint)
        self._endpoint = endpoint
        return endpoint

    async def health(self) -> bool:
        """Whether the program answers."""
        return self._endpoint is not None and await answers(self._http, self._endpoint, self._definition.health_path)

    async def exited(self) -> str:
        """Wait until the program has ended and return how, with its last words."""
        return await self._child.exited()

    async def stop(self) -> None:
        """End the program and everything it started."""
        self._endpoint = None
        await self._child.stop()

    async def _until_healthy(self, endpoint: Endpoint) -> None:
        exited = asyncio.create_task(self._child.exited())
        look_s = _FIRST_LOOK_S
        try:
            async with asyncio.timeout(self._definition.start_timeout_s):
                while not exited.done() and not await answers(self._http, endpoint, self._definition.health_path):
                    await asyncio.wait({exited}, timeout=look_s)
                    look_s = min(look_s * 1.5, _MAX_LOOK_S)
            if exited.done():
                raise EngineStartFailed(exited.result())
        except TimeoutError:
            path, limit_s = self._definition.health_path, self._definition.start_timeout_s
            raise EngineStartFailed(f"{path} did not answer within {limit_s:g} s") from None
        finally:
            exited.cancel()
            await asyncio.gather(exited, return_exceptions=True)


def _values(model: EngineModel, port: int) -> dict[str, str]:
    """Return what the placeholders stand for, except what only the child knows."""
    return {
        "model_path": str(model.path),
        "model_id": model.id,
        "port": str(port),
        "context": str(model.context),
        "total_context": str(model.context * model.slots),
        "slots": str(model.slots),
        "threads": str(model.threads),
        "gpu_layers": str(_ALL_LAYERS if model.gpu_layers is None else model.gpu_layers),
        "flash_attention": model.flash_attention,
        "kv_cache_type": model.kv_cache_type,
    }


def _free_port() -> int:
    """Return a port that is free now. Should another process take it first, the program ends, and is started anew."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
