"""Keeps one model's engine running: restarts it with back-off, and gives up with the reason."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from node_service.engine.catalogue import EngineCatalogue
from node_service.engine.protocol import Endpoint, Engine, EngineModel
from node_service.errors import EngineError, EngineStartFailed
from node_service.states import ModelState
from node_service.wire import ModelSpec

__all__ = ["EngineSupervisor"]

_HEALTH_INTERVAL_S = 10.0
_HEALTH_FAILURES = 3

log = structlog.get_logger(__name__)


class EngineSupervisor:
    """Runs one model until cancelled.

    `endpoint` is where the engine answers, or None; `state` is loading, ready or failed;
    `error` is why it failed, or what happened last within the policy's window.
    """

    def __init__(self, spec: ModelSpec, path: Path | None, catalogue: EngineCatalogue, changed: Callable[[], None]) -> None:
        self._spec = spec
        self._path = path
        self._catalogue = catalogue
        self._changed = changed
        self._policy = catalogue.policy(spec)
        self._crashes: list[float] = []
        self._last_error: str | None = None
        self.model: EngineModel | None = None
        self.endpoint: Endpoint | None = None
        self.slots = 0
        self.restarts = 0
        self.ready_at: float | None = None  # monotonic seconds
        self.state = ModelState.LOADING

    @property
    def error(self) -> str | None:
        """The reason of the last failure; forgotten when it is long ago and all is well."""
        recent = self._crashes and time.monotonic() - self._crashes[-1] < self._policy.window_s
        return self._last_error if recent or self.state is ModelState.FAILED else None

    async def run(self) -> None:
        """Keep the engine running until it is given up or this task is cancelled."""
        try:
            self.model = self._catalogue.orders(self._spec, self._path)
            while True:
                reason, was_ready = await self._run_once(self.model)
                if not self._crashed(reason, was_ready=was_ready):
                    return
                await asyncio.sleep(self._backoff_s())
                self.restarts += 1
        except EngineError as error:
            self._last_error = str(error)
            log.error("engine unusable", model=self._spec.id, error=str(error))
            self._become(ModelState.FAILED)

    async def _run_once(self, model: EngineModel) -> tuple[str, bool]:
        """Run the engine to its end; return why it ended, and whether it had been ready."""
        engine = self._catalogue.make(self._spec)
        try:
            self.endpoint = await engine.start(model)
            self.slots = engine.slots(model)
            self.ready_at = time.monotonic()
            log.info("engine ready", model=model.id, device=self.endpoint.device, slots=self.slots)
            self._become(ModelState.READY)
            return await self._watch(engine), True
        except EngineStartFailed as error:
            return str(error), False
        finally:
            self.endpoint = self.ready_at = None
            await engine.stop()

    async def _watch(self, engine: Engine) -> str:
        """Return why the engine ended, or that it hangs."""
        exited = asyncio.create_task(engine.exited())
        failures = 0
        try:
            while failures < _HEALTH_FAILURES:
                done, _ = await asyncio.wait({exited}, timeout=_HEALTH_INTERVAL_S)
                if done:
                    return f"engine ended by {exited.result()}"
                failures = 0 if await engine.health() else failures + 1
            return f"engine did not answer {failures} health checks"
        finally:
            exited.cancel()
            await asyncio.gather(exited, return_exceptions=True)

    def _crashed(self, reason: str, *, was_ready: bool) -> bool:
        """Note a failure; return whether to try again."""
        now = time.monotonic()
        self._crashes = [t for t in self._crashes if now - t < self._policy.window_s] + [now]
        limit = self._policy.crashes if was_ready else self._policy.failed_starts
        count = len(self._crashes)
        failed = count >= limit
        again = not (failed and self._policy.gives_up)
        self._last_error = reason if again else f"given up after {count} failures: {reason}"
        log.error("engine failed", model=self._spec.id, error=self._last_error, again=again)
        self._become(ModelState.FAILED if failed else ModelState.LOADING)
        return again

    def _backoff_s(self) -> float:
        backoff_s = self._policy.first_backoff_s * 2.0 ** min(len(self._crashes) - 1, 10)
        return min(backoff_s, self._policy.max_backoff_s)

    def _become(self, state: ModelState) -> None:
        self.state = state
        self._changed()
