"""What every engine offers the node."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from node_service.engine.params import FlashAttention, KvCacheType

__all__ = ["Endpoint", "Engine", "EngineModel"]


@dataclass(frozen=True)
class EngineModel:
    """A model as an engine is told to run it.

    Parameters:
        path: the file to open; None for an engine that keeps the weights itself.
        context: tokens of context for each request.
        slots: requests answered at the same time.
        threads: CPU threads.
        gpu_layers: layers to put on the GPU; None: as many as fit.
        gpu_uuids: the only GPUs to use; empty for all.
        pooling: whether the file itself says how to pool embeddings.
    """

    id: str
    path: Path | None
    context: int
    slots: int
    threads: int
    gpu_layers: int | None
    flash_attention: FlashAttention
    kv_cache_type: KvCacheType
    embedding: bool
    pooling: bool
    gpu_uuids: tuple[str, ...]
    allow_cpu: bool


@dataclass(frozen=True)
class Endpoint:
    """Where a running engine answers, and what it runs on.

    Parameters:
        api_key: what the engine wants to hear, or None.
        model: the name that the engine has for the model.
    """

    url: str
    api_key: str | None = field(repr=False)
    model: str
    device: Literal["cuda", "cpu"]
    gpu_layers: int

    @property
    def headers(self) -> dict[str, str]:
        """The headers that every request to the engine carries."""
        return {} if self.api_key is None else {"authorization": f"Bearer {self.api_key}"}


class Engine(Protocol):
    """One model's engine. After `start`, `exited` ends when the engine does."""

    async def start(self, model: EngineModel) -> Endpoint:
        """Load the model and return where it answers; raises EngineError."""

    async def health(self) -> bool:
        """Whether the engine answers."""

    def slots(self, model: EngineModel) -> int:
        """Return how many requests it can answer at the same time."""

    async def exited(self) -> str:
        """Wait until the engine has ended by itself and return why."""

    async def stop(self) -> None:
        """End the engine and everything it started."""
