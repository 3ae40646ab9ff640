"""What every engine offers the node."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

__all__ = ["Endpoint", "Engine", "EngineModel"]


@dataclass(frozen=True)
class EngineModel:
    """A model as an engine is told to run it.

    Parameters:
        context: tokens of context for each request.
        slots: requests answered at the same time.
        threads: CPU threads, or None for the engine's own choice.
        gpu_uuids: the only GPUs to use; empty for all.
        pooling: whether the file itself says how to pool embeddings.
    """

    id: str
    path: Path
    context: int
    slots: int
    threads: int | None
    embedding: bool
    pooling: bool
    gpu_uuids: tuple[str, ...]
    allow_cpu: bool


@dataclass(frozen=True)
class Endpoint:
    """Where a running engine answers, and what it runs on."""

    url: str
    api_key: str = field(repr=False)
    device: Literal["cuda", "cpu"]
    gpu_layers: int


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
