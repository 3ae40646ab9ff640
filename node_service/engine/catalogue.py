"""The engines this node can run, and how a manifest's wishes become an engine's orders."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from node_service.engine.gguf import read_gguf
from node_service.engine.process import ChildEngine
from node_service.engine.protocol import Engine, EngineModel
from node_service.errors import EngineUnavailable
from node_service.settings import Settings
from node_service.wire import ModelSpec

__all__ = ["EngineCatalogue"]


@dataclass(frozen=True)
class _Kind:
    """An engine: the library it needs, and how to make one."""

    library: str
    make: Callable[[], Engine]


_CHILDREN = "node_service.engine.children"
_KINDS = {
    "xllamacpp": _Kind("xllamacpp", lambda: ChildEngine(f"{_CHILDREN}.xllamacpp", max_slots=None)),
    # llama-cpp-python computes one request at a time, whatever it is told.
    "llama-cpp-python": _Kind("llama_cpp", lambda: ChildEngine(f"{_CHILDREN}.llama_cpp_python", max_slots=1)),
}


class EngineCatalogue:
    """Makes engines by name, with this node's settings as defaults."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def make(self, spec: ModelSpec) -> Engine:
        """Return a new engine for a model.

        Raises:
            EngineUnavailable: the engine is unknown, or its library is not installed here.
        """
        name = spec.engine or self._settings.engine
        kind = _KINDS.get(name)
        if kind is None:
            known = ", ".join(_KINDS)
            raise EngineUnavailable(f"unknown engine {name!r}; this node knows {known}")
        if importlib.util.find_spec(kind.library) is None:
            raise EngineUnavailable(f"engine {name}: the library {kind.library} is not installed")
        return kind.make()

    def orders(self, spec: ModelSpec, path: Path) -> EngineModel:
        """Return what an engine is to be told about a model whose file is at `path`.

        Raises:
            EngineUnavailable: the file is not GGUF.
        """
        facts = read_gguf(path)
        context = spec.params.context or self._settings.context
        if facts.context_length is not None:
            context = min(context, facts.context_length)
        pooling = facts.pooling_type is not None and facts.pooling_type > 0
        return EngineModel(
            id=spec.id,
            path=path,
            context=context,
            slots=spec.params.slots or self._settings.slots,
            threads=self._settings.engine_threads,
            embedding=spec.params.embedding or pooling,
            pooling=pooling,
            gpu_uuids=spec.params.gpu_uuids,
            allow_cpu=self._settings.allow_cpu,
        )
