"""Engines that come with the node: a Python library in a child process."""

import asyncio
import secrets
from dataclasses import asdict

import httpx2

from node_service.engine.health import answers
from node_service.engine.process import ChildProcess, child_environment
from node_service.engine.protocol import Endpoint, EngineModel
from node_service.errors import EngineStartFailed

__all__ = ["LibraryEngine"]

_START_DEADLINE_S = 1800.0  # 60 GB from a slow disk


class LibraryEngine:
    """Runs a child program of `node_service.engine.children`, which loads the model and says where it serves it.

    Parameters:
        max_slots: requests it can answer at the same time, or None for as many as asked.
    """

    def __init__(self, program: str, model_id: str, http: httpx2.AsyncClient, *, max_slots: int | None) -> None:
        self._child = ChildProcess(f"node_service.engine.children.{program}", model_id)
        self._http = http
        self._max_slots = max_slots
        self._endpoint: Endpoint | None = None

    def slots(self, model: EngineModel) -> int:
        """Return how many requests the engine answers at the same time."""
        return model.slots if self._max_slots is None else min(model.slots, self._max_slots)

    async def start(self, model: EngineModel) -> Endpoint:
        """Spawn the child and wait until it serves; raises EngineStartFailed."""
        api_key = secrets.token_urlsafe(24)
        orders = asdict(model) | {"path": str(model.path), "slots": self.slots(model), "api_key": api_key}
        try:
            async with asyncio.timeout(_START_DEADLINE_S):
                await self._child.spawn(orders, child_environment(model))
                announced = await self._child.announcement()
        except TimeoutError:
            raise EngineStartFailed(f"not ready after {_START_DEADLINE_S:g} s") from None
        on_gpu = announced["device"] == "cuda"
        self._endpoint = Endpoint(
            url=announced["url"],
            api_key=api_key,
            model=model.id,
            device=announced["device"],
            gpu_layers=self._child.gpu_layers if on_gpu else 0,
        )
        return self._endpoint

    async def health(self) -> bool:
        """Whether the child answers."""
        return self._endpoint is not None and await answers(self._http, self._endpoint, "/health")

    async def exited(self) -> str:
        """Wait until the child has ended and return how, with its last words."""
        return await self._child.exited()

    async def stop(self) -> None:
        """End the child."""
        self._endpoint = None
        await self._child.stop()
